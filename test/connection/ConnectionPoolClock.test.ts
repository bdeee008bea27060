/** Nothing that a pool measures changes when somebody sets the clock of the machine. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import type { State } from "../../src/connection/ConnectionSource.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as ScriptedConnectionSource from "../../src/testing/ScriptedConnectionSource.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"

const make = Effect.fnUntraced(function* (
  options: ConnectionPool.Options,
  script: ScriptedConnectionSource.Script = {}
) {
  const { log, source } = yield* ScriptedConnectionSource.make(script)
  const scope = yield* Scope.make()
  // Time passes while it closes.
  yield* Effect.addFinalizer((exit) =>
    Effect.flatMap(Effect.forkChild(Scope.close(scope, exit), { startImmediately: true }), (closing) =>
      Effect.repeat(TestClock.adjust("1 second"), { while: () => closing.pollUnsafe() === undefined })
    )
  )
  const pool = yield* ConnectionPool.make(options).pipe(
    Effect.provide(ScriptedConnectionSource.layer(source)),
    Scope.provide(scope)
  )
  return { log, pool, once: Effect.scoped(pool.lease()) }
})

/** What was opened, closed and asked. */
const upkeep = ({ events }: ScriptedConnectionSource.Log) => events.filter((event) => /open|close|check/.test(event))

/** The options that have nothing to do with the matter. */
const lasting = { idleTimeout: "6 hours", maxLifetime: "6 hours", checkAfterIdle: "6 hours" } as const

describe("C5 a borrower waits as long as it may, no matter what", () => {
  for (const set of ["forward", "back"] as const) {
    it.effect(`the clock is set ${set} while it waits for a place`, () =>
      SkewedClock.settable((clock) =>
        Effect.gen(function* () {
          let state: State = "usable"
          const { pool } = yield* make(
            { ...lasting, max: 1, acquireTimeout: "10 seconds" },
            { open: (number) => (number === 1 ? Effect.void : Effect.sleep("1 minute")), state: () => state }
          )
          const first = yield* Scope.make()
          yield* Scope.provide(pool.lease(), first)
          const waiting = yield* Effect.forkChild(Effect.flip(Effect.scoped(pool.lease())), { startImmediately: true })
          yield* TestClock.adjust("4 seconds")
          yield* clock[set]("3 hours")
          // It has to wait for another connection then.
          state = "retired"
          yield* Scope.close(first, Exit.void)
          yield* TestClock.adjust("5 seconds")
          assert.isUndefined(waiting.pollUnsafe())
          yield* TestClock.adjust("1 second")
          assert.strictEqual(waiting.pollUnsafe()?._tag, "Success")
        })
      )
    )
  }
})

describe("a connection is kept, asked and closed by how long it is open or idle, no matter that", () => {
  it.effect("the clock is set forward", () =>
    SkewedClock.settable(({ forward }) =>
      Effect.gen(function* () {
        const { log, once } = yield* make({ max: 1, checkAfterIdle: "30 seconds" })
        yield* once
        yield* forward("1 day")
        yield* TestClock.adjust("1 second")
        yield* once
        // It is asked once while it is idle, and not again when it is lent then.
        yield* TestClock.adjust("59 seconds")
        yield* once
        assert.deepStrictEqual(upkeep(log), ["open 1", "check 1"])
      })
    )
  )

  it.effect("the clock is set back", () =>
    SkewedClock.settable(({ back }) =>
      Effect.gen(function* () {
        const checked = yield* make({ ...lasting, checkAfterIdle: "30 seconds" })
        const old = yield* make({ ...lasting, maxLifetime: "10 minutes" })
        const idle = yield* make({ ...lasting, idleTimeout: "1 minute" })
        const all = Effect.forEach([checked, old, idle], ({ once }) => once)
        yield* all
        yield* back("1 day")
        yield* TestClock.adjust("10 minutes")
        yield* all
        const checks = Array.from({ length: 20 }, () => "check 1")
        assert.deepStrictEqual(upkeep(checked.log), ["open 1", ...checks])
        assert.deepStrictEqual(upkeep(old.log), ["open 1", "close 1", "open 2"])
        assert.deepStrictEqual(upkeep(idle.log), ["open 1", "close 1", "open 2"])
      })
    )
  )
})

describe("a lease that is held for too long is warned of, and its holder told, by how long it is held, no matter that", () => {
  const warnings = (set: "forward" | "back") => {
    const told: Array<string> = []
    return SkewedClock.settable((clock) =>
      Effect.gen(function* () {
        const { pool } = yield* make({ ...lasting, max: 1, leakWarning: "1 minute", acquireTimeout: "5 seconds" })
        const { held, since } = yield* Effect.gen(function* () {
          yield* clock.forward("1 hour")
          yield* pool.lease()
          yield* clock[set]("1 day")
          yield* TestClock.adjust("30 seconds")
          assert.deepStrictEqual(told, [])
          yield* TestClock.adjust("31 seconds")
          const late = yield* Effect.forkChild(Effect.flip(Effect.scoped(pool.lease())), { startImmediately: true })
          yield* TestClock.adjust("5 seconds")
          const { reason } = yield* Fiber.join(late)
          const holdings = yield* (yield* Ledger.Ledger).holdings
          return {
            held: reason._tag === "AcquireTimeout" ? reason.holders[0]?.heldForMillis : undefined,
            since: holdings.map(({ kind, since }) => [kind, since])
          }
        }).pipe(Effect.scoped)
        assert.strictEqual(held, 66_000)
        // A moment is a time of day.
        assert.deepStrictEqual(since, [
          ["backend", 3_600_000],
          ["connection", 3_600_000]
        ])
        assert.match(String(told[0]), /has been leased for 6[01]000 ms/)
      })
    ).pipe(
      Effect.provide(Layer.fresh(Ledger.layer)),
      Effect.provide(Logger.layer([Logger.make(({ message }) => told.push(String(message)))]))
    )
  }
  it.effect("the clock is set forward", () => warnings("forward"))
  it.effect("the clock is set back", () => warnings("back"))
})
