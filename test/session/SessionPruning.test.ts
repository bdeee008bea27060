import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as TestClock from "effect/testing/TestClock"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { SessionError, SessionsUnavailable } from "../../src/session/SessionError.ts"
import * as SessionPruning from "../../src/session/SessionPruning.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { unprunedStore } from "../support/sessions.ts"
import { session } from "../../src/testing/internal/SessionSamples.ts"

/** A store that counts what is asked of it, and fails as often as it is told to. */
const watched = (batches: Array<number>, failing: { times: number }) =>
  Layer.effect(
    SessionStore,
    Effect.map(SessionStore, (store) => ({
      ...store,
      prune: (limit: number) =>
        failing.times-- > 0
          ? Effect.fail(new SessionError({ reason: new SessionsUnavailable({ cause: new Error("store down") }) }))
          : Effect.tap(store.prune(limit), ({ sessions }) => Effect.sync(() => batches.push(sessions)))
    }))
  ).pipe(Layer.provide(unprunedStore))

const values = Effect.map(
  Metric.snapshot,
  (all) => new Map(all.filter(({ id }) => id.startsWith("holdfast_sessions_prune")).map(({ id, state }) => [id, state]))
)

describe("SessionPruning", () => {
  it.effect("S12 a backlog is worked off in batches, also after the store failed, and what is left is told", () => {
    const batches: Array<number> = []
    const failing = { times: 3 }
    return Effect.gen(function* () {
      const store = yield* SessionStore
      yield* Effect.forEach(Array.from({ length: 25 }), () =>
        store.create(session({ principal: null, absoluteTimeout: Duration.hours(1) }))
      )
      yield* TestClock.adjust("26 hours")
      batches.length = 0
      const { record } = yield* store.create(session())
      yield* store.create(session({ principal: null, absoluteTimeout: Duration.hours(1) }))
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Layer.build(SessionPruning.layer({ interval: "1 minute", batch: 10 }))
          yield* TestClock.adjust("48 seconds")
          yield* TestClock.adjust("5 minutes")
          assert.deepStrictEqual(batches.slice(0, 3), [10, 10, 5])
          const seen = yield* values
          assert.deepInclude(seen.get("holdfast_sessions_pruned_total"), { count: 25 })
          assert.deepInclude(seen.get("holdfast_sessions_prune_failures_total"), { count: 3 })
          assert.deepInclude(seen.get("holdfast_sessions_prune_lag_seconds"), { value: 0 })
          assert.deepStrictEqual(yield* store.endedOf([record.id]), [])
        })
      )
      const rounds = batches.length
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(batches.length, rounds, "nothing goes on after the layer")
      yield* LedgerRecorder.assertEmpty()
    }).pipe(
      Effect.provide(Layer.provideMerge(watched(batches, failing), Ledger.layer)),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  })

  it.effect("S12 instances that start together do not prune together", () =>
    Effect.gen(function* () {
      const at: Array<number> = []
      const counted = Layer.effect(
        SessionStore,
        Effect.map(SessionStore, (store) => ({
          ...store,
          prune: (limit: number) =>
            Effect.andThen(
              Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.sync(() => at.push(now))),
              store.prune(limit)
            )
        }))
      ).pipe(Layer.provide(unprunedStore))
      for (let instance = 0; instance < 10; instance++) {
        yield* Layer.build(Layer.fresh(SessionPruning.layer({ interval: "1 minute" })).pipe(Layer.provide(counted)))
      }
      for (let seconds = 0; seconds < 73; seconds++) yield* TestClock.adjust("1 second")
      assert.lengthOf(at, 10)
      assert.isAtLeast(Math.min(...at), 48_000)
      assert.isAtMost(Math.max(...at), 72_000)
      assert.isAbove(new Set(at).size, 3)
    }).pipe(Effect.scoped)
  )

  it.effect("S12 a batch is as large as the store removes in a moment, whatever it is made of", () =>
    Effect.gen(function* () {
      for (const [millisEach, smallest, largest] of [
        [0.5, 3, 5],
        [0.001, 400, 400],
        [100, 1, 1]
      ] as const) {
        const sizes: Array<number> = []
        const rests: Array<number> = []
        let over = Number.NaN
        const slow = SessionStore.use((store) =>
          SessionPruning.round(400).pipe(
            Effect.provideService(SessionStore, {
              ...store,
              prune: Effect.fnUntraced(function* (limit) {
                rests.push(((yield* Clock.currentTimeMillis) - over) / ((sizes.at(-1) ?? 0) * millisEach))
                const took = Duration.millis(limit * millisEach)
                // The way to the store is long, which is no reason for small batches.
                yield* Effect.sleep(Duration.sum(took, Duration.millis(50)))
                over = yield* Clock.currentTimeMillis
                return { sessions: sizes.push(limit) < 30 ? limit : 0, took }
              })
            })
          )
        ).pipe(Effect.provide(unprunedStore))
        const working = yield* Effect.forkChild(slow, { startImmediately: true })
        while (working.pollUnsafe() === undefined) yield* TestClock.adjust("1 second")
        // It rests 59 times as long as each of them took.
        for (const rest of rests.slice(1)) assert.closeTo(rest, 59, 1)
        const last = sizes.slice(10)
        assert.isAtLeast(Math.min(...last), smallest, `${millisEach} ms each`)
        assert.isAtMost(Math.max(...last), largest, `${millisEach} ms each`)
      }
    })
  )

  it.effect("S12 a jump of the store's clock while it prunes stops nothing and slows nothing down", () =>
    Effect.gen(function* () {
      for (const jump of ["1 hour", "-1 hour"] as const) {
        const at: Array<number> = []
        const jumping = SessionStore.use((store) =>
          SessionPruning.round(400).pipe(
            Effect.provideService(SessionStore, {
              ...store,
              prune: Effect.fnUntraced(function* (limit) {
                at.push(yield* Clock.currentTimeMillis)
                yield* Effect.sleep("2 millis")
                const took = Duration.sum(
                  Duration.millis(2),
                  Duration.millis(jump === "1 hour" ? 3_600_000 : -3_600_000)
                )
                return { sessions: at.length < 10 ? limit : 0, took: at.length === 3 ? took : Duration.millis(2) }
              })
            })
          )
        ).pipe(Effect.provide(unprunedStore))
        const working = yield* Effect.forkChild(jumping, { startImmediately: true })
        yield* TestClock.adjust("5 seconds")
        assert.isDefined(working.pollUnsafe(), `${jump}: ${at.length} batches`)
        assert.lengthOf(at, 10)
      }
    })
  )
})
