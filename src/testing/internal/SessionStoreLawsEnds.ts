/** The laws of ends: an end is final, is told, is remembered for a day, and is pruned. */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as SessionId from "../../session/SessionId.ts"
import type * as SessionStore from "../../session/SessionStore.ts"
import { eventually } from "./Eventually.ts"
import { all, authentication, create, newToken, outcome, session, times } from "./SessionSamples.ts"
import { law } from "./SessionStoreLaw.ts"

export const laws = [
  law("S3 nothing written after the end brings a session back", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const ends: ReadonlyArray<[string, (id: SessionId.SessionId) => Effect.Effect<unknown, unknown>]> = [
        ["SessionRevoked", (id) => store.revoke(id)],
        ["SessionRevoked", () => store.revokeAll("alice")],
        ["SessionExpired", () => advance("31 minutes")],
        ["SessionExpired", () => advance("12 hours")]
      ]
      for (const [reason, end] of ends) {
        const wanted = session()
        const { id } = yield* create(store, wanted)
        yield* end(id)
        for (const instance of [store, another]) {
          assert.strictEqual(yield* outcome(instance.touch(wanted.token)), reason)
          assert.strictEqual(yield* outcome(instance.renew({ token: wanted.token, next: newToken() })), reason)
          const login = instance.authenticate(authentication({ token: wanted.token }))
          assert.strictEqual(yield* outcome(login), reason)
          const update = instance.update({ id, version: 1, data: "late", dataVersion: 1 })
          assert.strictEqual(yield* outcome(update), reason)
          assert.strictEqual(yield* outcome(instance.load(wanted.token)), reason)
          assert.isFalse(yield* instance.revoke(id))
          assert.strictEqual(yield* outcome(instance.load(wanted.token)), reason)
        }
        assert.deepStrictEqual(yield* store.endedOf([id]), [id])
        assert.isEmpty(yield* store.list("alice"))
      }
    })
  ),

  law(
    "S3 S7 what was past its time when it was ended is over for good, also when the clock is set back",
    ["clock", "clockBack"],
    ({ advance, another, store }) =>
      Effect.gen(function* () {
        const ends: ReadonlyArray<(id: SessionId.SessionId) => Effect.Effect<unknown, unknown>> = [
          (id) => Effect.map(store.revoke(id), (wasLive) => assert.isFalse(wasLive)),
          () => Effect.map(store.revokeAll("alice"), (ended) => assert.isEmpty(ended))
        ]
        for (const end of ends) {
          const wanted = session()
          const { id } = yield* create(store, wanted)
          yield* another.load(wanted.token)
          yield* advance("2 hours")
          yield* end(id)
          yield* advance(Duration.hours(-2))
          for (const instance of [store, another]) {
            assert.strictEqual(yield* outcome(instance.load(wanted.token)), "SessionExpired")
            assert.strictEqual(yield* outcome(instance.touch(wanted.token)), "SessionExpired")
          }
          assert.isEmpty(yield* store.list("alice"))
        }
      })
  ),

  law("S3 an end among updates and loads is final", [], ({ another, store }) =>
    Effect.gen(function* () {
      for (const round of times(5, (index) => index)) {
        const wanted = session()
        const { id } = yield* create(store, wanted)
        const write = (version: number): Effect.Effect<string> =>
          outcome(another.update({ id, version, data: version, dataVersion: 1 })).pipe(
            Effect.flatMap((told) => (told === "ok" ? write(version + 1) : Effect.succeed(told)))
          )
        const loads = times(20, () => outcome(store.load(wanted.token)))
        const revokes = times(3, () => Effect.andThen(store.load(wanted.token).pipe(Effect.ignore), store.revoke(id)))
        const [told, , revoked] = yield* Effect.all([write(1), all(loads), all(revokes)], {
          concurrency: "unbounded"
        })
        assert.strictEqual(told, "SessionRevoked", `round ${round}`)
        assert.lengthOf(revoked.filter(Boolean), 1)
        assert.strictEqual(yield* outcome(another.load(wanted.token)), "SessionRevoked")
      }
    })
  ),

  law("S3 other times bring no session back, and S8 count as they are", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const times = { idleTimeout: Duration.days(1), absoluteTimeout: Duration.days(1) }
      const ended = yield* create(store, session())
      yield* store.revoke(ended.id)
      assert.strictEqual(yield* outcome(another.setExpiry({ id: ended.id, ...times })), "SessionRevoked")
      assert.strictEqual(yield* outcome(another.setExpiry({ id: SessionId.make(), ...times })), "SessionMissing")
      const kept = session({ maxPerPrincipal: 2 })
      const { id } = yield* create(store, kept)
      yield* store.setExpiry({ id, ...times })
      yield* create(store, session({ maxPerPrincipal: 2 }))
      // One has expired by now, the other has not: there is room for one.
      yield* advance("2 hours")
      assert.deepStrictEqual((yield* another.create(session({ maxPerPrincipal: 2 }))).displaced, [])
      assert.deepStrictEqual((yield* store.create(session({ maxPerPrincipal: 2 }))).displaced, [id])
    })
  ),

  law("the end of a session is remembered for 24 hours", ["clock"], ({ advance, store }) =>
    Effect.gen(function* () {
      const revoked = session()
      const expired = session({ absoluteTimeout: Duration.hours(1), idleTimeout: Duration.minutes(10) })
      assert.strictEqual(yield* outcome(store.load(newToken())), "SessionMissing")
      yield* create(store, expired)
      yield* store.revoke((yield* create(store, revoked)).id)
      yield* advance({ hours: 23, minutes: 59 })
      assert.strictEqual((yield* store.prune(100)).sessions, 0)
      assert.strictEqual(yield* outcome(store.load(revoked.token)), "SessionRevoked")
      assert.strictEqual(yield* outcome(store.load(expired.token)), "SessionExpired")
      yield* advance("2 minutes")
      assert.strictEqual((yield* store.prune(100)).sessions, 1)
      assert.strictEqual(yield* outcome(store.load(revoked.token)), "SessionMissing")
      assert.strictEqual(yield* outcome(store.load(expired.token)), "SessionExpired")
      yield* advance("1 hour")
      assert.strictEqual((yield* store.prune(100)).sessions, 1)
      assert.strictEqual(yield* outcome(store.load(expired.token)), "SessionMissing")
    })
  ),

  law(
    "S9 every instance is told of sessions that were ended, and of none that was not",
    ["hints"],
    ({ another, store }) =>
      Effect.gen(function* () {
        const heard: Array<SessionStore.Ended> = []
        yield* Effect.forkChild(
          Stream.runForEach(another.ended, (hint) => Effect.sync(() => heard.push(hint))),
          { startImmediately: true }
        )
        const has = (id: SessionId.SessionId) => heard.some((hint) => hint._tag === "Session" && hint.id === id)
        // Until the listener is there, nothing is promised.
        const first: Array<SessionId.SessionId> = []
        const revokeOne = Effect.gen(function* () {
          const { id } = yield* create(store, session())
          yield* store.revoke(id)
          return first.push(id)
        })
        yield* eventually(
          Effect.map(revokeOne, () => first.some(has)),
          Boolean
        )
        const kept = session({ principal: "bob" })
        const spared = yield* create(store, kept)
        const revoked = yield* create(store, session())
        yield* store.revoke(revoked.id)
        const displaced = yield* create(store, session({ maxPerPrincipal: 1 }))
        const room = yield* store.create(session({ maxPerPrincipal: 1 }))
        assert.deepStrictEqual(room.displaced, [displaced.id])
        const visitor = session({ principal: null })
        const mine = yield* create(store, visitor)
        const login = yield* store.authenticate(authentication({ token: visitor.token, maxPerPrincipal: 1 }))
        assert.deepStrictEqual(login.displaced, [room.record.id])
        yield* store.revokeAll("alice")
        yield* eventually(
          Effect.sync(() => [revoked.id, displaced.id, room.record.id, mine.id].every(has)),
          Boolean
        )
        assert.isFalse(has(spared.id))
      })
  ),

  law(
    "S12 pruning is bounded, safe from many instances, and spares what lives",
    ["clock"],
    ({ advance, another, store }) =>
      Effect.gen(function* () {
        yield* all(times(57, () => create(store, session({ principal: null, absoluteTimeout: Duration.hours(1) }))))
        yield* advance("26 hours")
        const living = session()
        yield* create(store, living)
        assert.strictEqual(Math.round(Duration.toMinutes(yield* store.pruneLag)), 60)
        assert.strictEqual((yield* store.prune(7)).sessions, 7)
        const pruned = yield* all(times(10, (index) => (index % 2 === 0 ? store : another).prune(10)))
        assert.isTrue(pruned.every(({ sessions }) => sessions <= 10))
        let sum = pruned.reduce((sum, { sessions }) => sum + sessions, 0)
        // What one instance found taken by another may be left over.
        for (let last = 1; last > 0; sum += last) last = (yield* store.prune(10)).sessions
        assert.strictEqual(sum, 50)
        assert.strictEqual(Duration.toMillis(yield* store.pruneLag), 0)
        assert.strictEqual(yield* outcome(another.load(living.token)), "ok")
      })
  )
]
