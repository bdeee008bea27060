/** Nothing that a registry measures changes when somebody sets the clock of the machine. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as TestClock from "effect/testing/TestClock"
import * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import { act, alone, hang, open } from "../support/scripted.ts"

const alice = "alice"
const instant = act({})

describe("a record is kept for its retention", () => {
  for (const [set, moment] of [
    ["forward", 26 * 3_600_000 + 900_000],
    ["back", -22 * 3_600_000 + 900_000]
  ] as const) {
    it.effect(`and no longer, also when the clock is set ${set}`, () =>
      SkewedClock.settable((clock) =>
        alone(
          Effect.gen(function* () {
            const { registry, submit } = yield* open()
            // Moments are told as times of the day.
            yield* clock.forward("1 hour")
            yield* clock[set]("1 day")
            yield* TestClock.adjust("1 hour")
            const { id } = yield* submit(instant)
            assert.strictEqual((yield* registry.await(alice, id)).expiresAt?.epochMilliseconds, moment)
            yield* clock[set]("1 day")
            yield* TestClock.adjust("14 minutes")
            assert.lengthOf((yield* registry.list(alice)).queries, 1)
            yield* TestClock.adjust("1 minute")
            assert.lengthOf((yield* registry.list(alice)).queries, 0)
          })
        )
      )
    )
  }
})

describe("Q3 a key is remembered for the window", () => {
  for (const set of ["forward", "back"] as const) {
    it.effect(`and no longer, also when the clock is set ${set}`, () =>
      SkewedClock.settable((clock) =>
        alone(
          Effect.gen(function* () {
            const { submit } = yield* open({ idempotencyWindow: "1 hour" })
            const again = Effect.map(submit(instant, { idempotencyKey: "k" }), ({ id }) => id)
            const id = yield* again
            yield* clock[set]("1 day")
            yield* TestClock.adjust("59 minutes")
            assert.strictEqual(yield* again, id)
            yield* TestClock.adjust("1 minute")
            assert.notStrictEqual(yield* again, id)
          })
        )
      )
    )
  }
})

describe("Q7 closing", () => {
  it.effect("takes five seconds at most when a driver is stuck, also when the clock is set back", () =>
    SkewedClock.settable(({ back }) =>
      alone(
        Effect.gen(function* () {
          const freed = yield* Deferred.make<void>()
          const { close, submit } = yield* open(
            { drain: "2 seconds" },
            { execute: () => Effect.as(Effect.uninterruptible(Deferred.await(freed)), { command: "", rowCount: 0 }) }
          )
          yield* submit(hang)
          yield* TestClock.adjust("1 second")
          const closing = yield* Effect.forkChild(close, { startImmediately: true })
          yield* back("1 day")
          yield* TestClock.adjust("5 seconds")
          const wasOver = closing.pollUnsafe() !== undefined
          yield* Deferred.succeed(freed, undefined)
          assert.isTrue(wasOver)
        })
      )
    )
  )

  it.effect("waits for what it cancels, also when the clock is set forward", () =>
    SkewedClock.settable(({ forward }) =>
      alone(
        Effect.gen(function* () {
          const { close, registry, submit } = yield* open(
            { drain: "2 seconds" },
            {
              execute: (_, sink, execution) =>
                Effect.onInterrupt(
                  ScriptedQueryDriver.answer({ turns: Number.POSITIVE_INFINITY }, sink, execution),
                  () => Effect.sleep("1 second")
                )
            }
          )
          const { id } = yield* submit(hang)
          yield* TestClock.adjust("1 second")
          const outcome = yield* Effect.forkChild(Effect.exit(registry.await(alice, id)), { startImmediately: true })
          const closing = yield* Effect.forkChild(close, { startImmediately: true })
          yield* forward("1 day")
          yield* TestClock.adjust("3 seconds")
          yield* Fiber.join(closing)
          const exit = yield* Fiber.join(outcome)
          assert.strictEqual(exit._tag === "Success" ? exit.value.state : exit._tag, "Canceled")
        })
      )
    )
  )
})

describe("when to come again is told by how long queries take", () => {
  for (const set of ["forward", "back"] as const) {
    it.effect(`also when the clock is set ${set} while one runs`, () =>
      SkewedClock.settable((clock) =>
        alone(
          Effect.gen(function* () {
            const { registry, submit } = yield* open({ maxRunning: 1, maxWaiting: 0 })
            const first = yield* submit(hang)
            yield* TestClock.adjust("60 seconds")
            yield* clock[set]("1 day")
            yield* registry.cancel(alice, first.id)
            yield* submit(hang)
            // The mean is a second to begin with, and an observation counts a fifth.
            assert.deepInclude((yield* Effect.flip(submit(hang))).reason, { retryAfterSeconds: 13 })
          })
        )
      )
    )
  }
})

describe("how long queries wait and run is measured", () => {
  for (const set of ["forward", "back"] as const) {
    it.effect(`also when the clock is set ${set} meanwhile`, () =>
      SkewedClock.settable((clock) =>
        alone(
          Effect.gen(function* () {
            const { registry, submit } = yield* open({ maxRunning: 1 })
            const [first, second] = [yield* submit(hang), yield* submit(instant)]
            yield* TestClock.adjust("60 seconds")
            yield* clock[set]("1 day")
            yield* registry.cancel(alice, first.id)
            yield* registry.await(alice, second.id)
            // Measured is what was told.
            yield* Effect.yieldNow
            const measured = (yield* Metric.snapshot).flatMap(({ id, state }) =>
              "buckets" in state && id.startsWith("holdfast_queries_") ? [[id, state.count, state.min, state.max]] : []
            )
            assert.sameDeepMembers(measured, [
              ["holdfast_queries_wait_seconds", 2, 0, 60],
              ["holdfast_queries_run_seconds", 2, 0, 60]
            ])
          })
        )
      ).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
    )
  }
})
