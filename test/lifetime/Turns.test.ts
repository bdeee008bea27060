import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Turns from "../../src/lifetime/internal/Turns.ts"

/** Keeps the processor busy for about a millisecond. */
const millisecond = () => {
  const begun = process.cpuUsage()
  for (;;) {
    const { system, user } = process.cpuUsage(begun)
    if (user + system >= 1000) return
  }
}

function* work(name: string, log: Array<string>, slices: number): Generator<void, string> {
  for (let slice = 0; slice < slices; slice++) {
    millisecond()
    log.push(name)
    yield
  }
  return name
}

describe("turns of the event loop", () => {
  it.live("I1 five that work at the same time leave a turn to others after a few milliseconds, and come in turn", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      let others = 0
      let isOver = false
      const other = () => {
        others++
        log.push("other")
        if (!isOver) setImmediate(other)
      }
      setImmediate(other)
      const names = ["a", "b", "c", "d", "e"]
      const done = yield* Effect.forEach(names, (name) => Turns.run(work(name, log, 20)), { concurrency: "unbounded" })
      isOver = true
      assert.deepStrictEqual(done, names)
      const between = log.join("").split("other")
      // Four milliseconds of a clock, and one slice that was begun; the clock goes on when the machine is busy.
      for (const slices of between) assert.isAtMost(slices.length, 6, log.join(" "))
      assert.isAtLeast(others, 20)
      // Nobody is through before another has begun.
      assert.isBelow(log.indexOf("e"), log.lastIndexOf("a"))
    })
  )

  it.live("one who gives up waiting is passed over", () =>
    Effect.gen(function* () {
      const log: Array<string> = []
      const [first, second, third] = yield* Effect.forEach(["a", "b", "c"], (name) =>
        Effect.forkChild(Turns.run(work(name, log, 10)), { startImmediately: true })
      )
      yield* Fiber.interrupt(second ?? assert.fail())
      assert.strictEqual(yield* Fiber.join(first ?? assert.fail()), "a")
      assert.strictEqual(yield* Fiber.join(third ?? assert.fail()), "c")
      assert.strictEqual(log.filter((name) => name === "c").length, 10)
    })
  )
})
