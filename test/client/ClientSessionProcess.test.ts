import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { execFile } from "node:child_process"
import { readdirSync } from "node:fs"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as ClientSession from "../../src/client/ClientSession.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as InterruptSweep from "../../src/testing/InterruptSweep.ts"
import * as Servers from "../support/httpServers.ts"

/** 20,000 with a scale of 20. */
const requests = 20 * Math.min(InterruptSweep.scale, 20)

/** Open files of this process, where the system tells. */
const openFiles = (): number => {
  try {
    return readdirSync("/proc/self/fd").length
  } catch {
    return 0
  }
}

/** Collects garbage now, so that what is left is held. */
const collect = (): void => {
  setFlagsFromString("--expose-gc")
  runInNewContext("gc")()
}

/** Runs a program of this checkout until it exits; its last line is JSON. */
const run = (file: string, ...args: ReadonlyArray<string>) =>
  Effect.promise(
    () =>
      new Promise<unknown>((resolve, reject) => {
        execFile(process.execPath, [file, ...args], { timeout: 20_000 }, (error, stdout, stderr) =>
          error === null
            ? resolve(JSON.parse(stdout.trim().split("\n").at(-1) ?? ""))
            : reject(new Error(stderr, { cause: error }))
        )
      })
  )

describe("a process with client sessions", () => {
  it.live("holds nothing after their end, and exits by itself", () =>
    Effect.gen(function* () {
      const good = yield* Servers.good
      const silent = yield* Servers.silent
      const answer = yield* run("test/support/clientProgram.ts", good.url, silent.url)
      assert.deepStrictEqual(answer, { before: [], after: [] })
    })
  )

  it.live(
    "files and memory are level over 50 sessions built and ended",
    () =>
      Effect.gen(function* () {
        const server = yield* Servers.good
        const one = Effect.gen(function* () {
          const { client } = yield* ClientSession.make()
          yield* Effect.forEach(
            Array.from({ length: requests }),
            () => Effect.flatMap(client.get(server.url), ({ text }) => text),
            { concurrency: 10, discard: true }
          )
        }).pipe(Effect.scoped, Effect.andThen(server.allClosed))
        const tenth = Effect.andThen(
          Effect.repeat(one, { times: 4 }),
          Effect.sync(() => {
            collect()
            return { files: openFiles(), ...process.memoryUsage() }
          })
        )
        const tenths = yield* Effect.forEach(Array.from({ length: 10 }), () => tenth)
        if (InterruptSweep.scale > 1) {
          for (const { files, heapUsed, rss } of tenths) {
            yield* Effect.logInfo(
              `${files} files, ${(rss / 1e6).toFixed(1)} MB resident, ${(heapUsed / 1e6).toFixed(1)} MB heap`
            )
          }
        }
        const [first, second, , , , middle] = tenths
        const last = tenths.at(-1)
        if (first === undefined || second === undefined || middle === undefined || last === undefined)
          throw new Error("no tenths")
        assert.isAtMost(last.files, first.files)
        assert.isAtMost(last.heapUsed - second.heapUsed, 5_000_000)
        assert.isAtMost(last.rss - middle.rss, 30_000_000)
        assert.deepStrictEqual(yield* Effect.flatMap(Ledger.Ledger, (ledger) => ledger.holdings), [])
      }).pipe(Effect.scoped, Effect.provide(Ledger.layer)),
    120_000
  )
})
