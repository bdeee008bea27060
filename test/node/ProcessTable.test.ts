import { spawn } from "node:child_process"
import { once } from "node:events"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ProcessTable from "../../src/node/internal/ProcessTable.ts"

/** A process that waits until it is killed, and its end. */
const sleeper = Effect.acquireRelease(
  Effect.sync(() => {
    const child = spawn("sleep", ["600"], { stdio: "ignore" })
    return { child, gone: once(child, "exit") }
  }),
  ({ child, gone }) =>
    Effect.promise(() => {
      child.kill("SIGKILL")
      return gone
    })
)

describe("the table of processes", () => {
  it.live(
    "a number that was given to another process since does not make the first one alive, nor is it signalled",
    () =>
      Effect.gen(function* () {
        const { child } = yield* sleeper
        const pid = child.pid ?? 0
        const identity = ProcessTable.identityOf(pid)
        assert.isDefined(identity)
        const before = { pid, startedAt: `0${identity?.startedAt}` }
        assert.deepStrictEqual([ProcessTable.isAlive(identity ?? before), ProcessTable.isAlive(before)], [true, false])
        assert.isFalse(ProcessTable.signal(before, "SIGKILL"))
        assert.isTrue(ProcessTable.isAlive(identity ?? before))
      })
  )
})
