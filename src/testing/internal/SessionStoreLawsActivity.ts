/** The laws of activity: when a session is over, and when its activity is written. */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { create, newToken, outcome, session, sinceCreation } from "./SessionSamples.ts"
import { law } from "./SessionStoreLaw.ts"

export const laws = [
  law(
    "S4 a session without activity ends after its idle timeout and one touch interval",
    ["clock"],
    ({ advance, store }) =>
      Effect.gen(function* () {
        const wanted = session()
        const { id } = yield* create(store, wanted)
        yield* advance({ minutes: 30, seconds: 55 })
        assert.deepStrictEqual(yield* store.endedOf([id]), [])
        yield* advance("6 seconds")
        assert.deepStrictEqual(yield* store.endedOf([id]), [id])
        assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionExpired")
      })
  ),

  law("S4 an active session ends at its absolute end", ["clock"], ({ advance, store }) =>
    Effect.gen(function* () {
      const wanted = session({ absoluteTimeout: Duration.hours(1) })
      const created = yield* create(store, wanted)
      yield* advance("20 minutes")
      yield* store.load(wanted.token)
      yield* advance("20 minutes")
      const { expiresAt, idleExpiresAt } = yield* store.load(wanted.token)
      assert.deepStrictEqual(DateTime.distance(expiresAt, idleExpiresAt).pipe(Duration.toMillis), 0)
      assert.deepStrictEqual(created.idleExpiresAt.pipe(DateTime.isLessThan(created.expiresAt)), true)
      yield* advance("20 minutes")
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionExpired")
    })
  ),

  law(
    "S5 an active session never expires early, also when its activity was not written",
    ["clock"],
    ({ advance, store }) =>
      Effect.gen(function* () {
        for (const [idleTimeout, interval] of [
          [Duration.minutes(30), Duration.seconds(60)],
          [Duration.minutes(5), Duration.seconds(30)]
        ] as const) {
          const wanted = session({ idleTimeout })
          yield* create(store, wanted)
          for (const written of [false, true, false, true]) {
            yield* advance(
              written
                ? Duration.subtract(idleTimeout, Duration.seconds(2))
                : Duration.subtract(interval, Duration.seconds(2))
            )
            yield* store.load(wanted.token)
          }
          yield* advance(Duration.subtract(idleTimeout, Duration.seconds(2)))
          assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok")
        }
      })
  ),

  law("S5 activity is written at most once per touch interval", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const wanted = session()
      const created = yield* create(store, wanted)
      yield* advance("50 seconds")
      const early = yield* store.load(wanted.token)
      assert.strictEqual(sinceCreation(early), 0)
      yield* advance("15 seconds")
      const due = yield* store.load(wanted.token)
      assert.isAtLeast(sinceCreation(due), 65_000)
      assert.strictEqual(DateTime.distance(due.lastSeenAt, due.idleExpiresAt).pipe(Duration.toMinutes), 30)
      assert.deepStrictEqual(yield* another.load(wanted.token), due)
      yield* advance("50 seconds")
      assert.strictEqual(sinceCreation(yield* another.load(wanted.token)), sinceCreation(due))
      assert.strictEqual(due.version, created.version)
    })
  ),

  law("S5 a touch is an activity as a load is", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const wanted = session()
      const created = yield* create(store, wanted)
      yield* advance("29 minutes")
      yield* another.touch(wanted.token)
      const touched = yield* store.load(wanted.token)
      assert.isAtLeast(sinceCreation(touched), 29 * 60_000)
      yield* advance("50 seconds")
      yield* another.touch(wanted.token)
      assert.strictEqual(sinceCreation(yield* store.load(wanted.token)), sinceCreation(touched))
      assert.strictEqual(touched.version, created.version)
      assert.strictEqual(yield* outcome(store.touch(newToken())), "SessionMissing")
      // Without a load in between: a load would be an activity of its own.
      for (const instance of [store, another, store]) {
        yield* advance("29 minutes")
        yield* instance.touch(wanted.token)
      }
      assert.strictEqual(yield* outcome(another.load(wanted.token)), "ok")
    })
  ),

  law("S5 a session lives by the times that it was given last", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const [longer, shorter] = [session(), session({ principal: "bob" })]
      const created = yield* create(store, longer)
      const { id } = yield* create(store, shorter)
      yield* advance("10 minutes")
      const times = { idleTimeout: Duration.days(14), absoluteTimeout: Duration.days(30) }
      const changed = yield* another.setExpiry({ id: created.id, ...times })
      const age = DateTime.distance(created.createdAt, changed.expiresAt)
      assert.isAtLeast(Duration.toMillis(age), Duration.toMillis(Duration.days(30)))
      assert.strictEqual(DateTime.distance(changed.lastSeenAt, changed.idleExpiresAt).pipe(Duration.toDays), 14)
      assert.deepInclude(changed, { id: created.id, data: created.data, version: created.version })
      // A shorter idle time counts whole, also where the last activity was not written.
      const active = session({ principal: "carol" })
      const carol = yield* create(store, active)
      yield* advance("50 seconds")
      yield* store.load(active.token)
      yield* store.setExpiry({ id: carol.id, idleTimeout: Duration.minutes(1), absoluteTimeout: Duration.hours(1) })
      yield* advance("59 seconds")
      assert.strictEqual(yield* outcome(another.load(active.token)), "ok")
      yield* advance("68 seconds")
      assert.strictEqual(yield* outcome(another.load(active.token)), "SessionExpired")
      const brief = { idleTimeout: Duration.minutes(60), absoluteTimeout: Duration.minutes(15) }
      yield* store.setExpiry({ id, ...brief })
      yield* advance("14 minutes")
      assert.strictEqual(yield* outcome(another.load(shorter.token)), "ok")
      yield* advance("2 minutes")
      assert.strictEqual(yield* outcome(another.load(shorter.token)), "SessionExpired")
      assert.strictEqual(yield* outcome(store.setExpiry({ id, ...times })), "SessionExpired")
      yield* advance("13 days")
      assert.strictEqual(yield* outcome(store.load(longer.token)), "ok")
      yield* advance("13 days")
      assert.strictEqual(yield* outcome(another.load(longer.token)), "ok")
      assert.lengthOf(yield* store.list("alice"), 1)
      yield* advance("5 days")
      assert.strictEqual(yield* outcome(another.load(longer.token)), "SessionExpired")
      assert.isEmpty(yield* store.list("alice"))
    })
  ),

  law(
    "S5 a session that is loaded all the time never expires, whatever an instance remembers of it",
    ["clock"],
    (world) =>
      Effect.gen(function* () {
        const { advance, another, store } = world
        const wanted = session({ idleTimeout: Duration.minutes(10) })
        yield* create(store, wanted)
        // Longer than the idle timeout, in steps that are shorter than the touch interval.
        for (let minute = 0; minute < 15; minute += 0.5) {
          yield* advance("30 seconds")
          assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok", `after ${minute + 0.5} minutes`)
        }
        yield* advance({ minutes: 9, seconds: 55 })
        assert.strictEqual(yield* outcome(another.load(wanted.token)), "ok")
        yield* advance({ minutes: 11, seconds: 1 })
        assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionExpired")
      })
  )
]
