/** The laws of tokens: renewal, its time of grace, rotation, and tokens that are taken. */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { all, authentication, create, newToken, nextOf, outcome, session, times } from "./SessionSamples.ts"
import { law } from "./SessionStoreLaw.ts"

export const laws = [
  law("a token that is in use, or was, is not given to another session", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const [wanted, mine, ended] = [session(), session({ principal: "bob" }), session({ principal: "carol" })]
      const created = yield* create(store, wanted)
      yield* create(store, mine)
      yield* store.revoke((yield* create(store, ended)).id)
      yield* advance("1 minute")
      for (const { token: taken } of [wanted, ended]) {
        for (const instance of [store, another]) {
          const created = create(instance, { ...session({ principal: null }), token: taken })
          assert.strictEqual(yield* outcome(created), "SessionTokenTaken")
          const renewed = instance.renew({ token: mine.token, next: taken })
          assert.strictEqual(yield* outcome(renewed), "SessionTokenTaken")
          const rotated = instance.rotate({ token: mine.token, next: taken })
          assert.strictEqual(yield* outcome(rotated), "SessionTokenTaken")
          const login = instance.authenticate(authentication({ token: mine.token, next: taken, principal: "dora" }))
          assert.strictEqual(yield* outcome(login), "SessionTokenTaken")
        }
      }
      assert.strictEqual((yield* another.load(mine.token)).principal, "bob")
      assert.strictEqual(yield* outcome(another.load(ended.token)), "SessionRevoked")
      assert.isEmpty(yield* store.list("dora"))
      assert.strictEqual((yield* another.load(wanted.token)).id, created.id)
      assert.lengthOf(yield* store.list("alice"), 1)
    })
  ),

  law(
    "S6 a token is to be renewed from its age on, by any instance that is shown it",
    ["clock"],
    ({ advance, another, store }) =>
      Effect.gen(function* () {
        const wanted = session({ renewEvery: Duration.minutes(20) })
        yield* create(store, wanted)
        yield* advance("19 minutes")
        assert.isNull((yield* store.load(wanted.token)).renewalNonce)
        yield* advance("2 minutes")
        const { renewalNonce } = yield* store.load(wanted.token)
        assert.match(renewalNonce ?? "", /^[A-Za-z0-9_-]{43}$/)
        assert.strictEqual((yield* another.load(wanted.token)).renewalNonce, renewalNonce)
        const next = newToken()
        assert.isNull((yield* another.renew({ token: wanted.token, next })).renewalNonce)
        assert.isNull((yield* store.load(next)).renewalNonce)
        // Who did not hear of the renewal repeats it.
        assert.strictEqual((yield* store.load(wanted.token)).renewalNonce, renewalNonce)
        yield* advance("21 minutes")
        const again = (yield* store.load(next)).renewalNonce
        assert.isString(again)
        assert.notStrictEqual(again, renewalNonce)
      })
  ),

  law("S6 parallel renewals converge on one token", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const wanted = session({ renewEvery: Duration.minutes(20) })
      const { id } = yield* create(store, wanted)
      yield* advance("21 minutes")
      const renewed = yield* all(
        times(20, (index) => {
          const instance = index % 2 === 0 ? store : another
          return Effect.gen(function* () {
            const { renewalNonce } = yield* instance.load(wanted.token)
            const next = nextOf(wanted.token, renewalNonce)
            assert.strictEqual((yield* instance.renew({ token: wanted.token, next })).id, id)
            return next
          })
        })
      )
      assert.lengthOf(new Set(renewed), 1)
      assert.strictEqual((yield* store.load(renewed[0] ?? newToken())).id, id)
      const other = store.renew({ token: wanted.token, next: newToken() })
      assert.strictEqual(yield* outcome(other), "SessionSuperseded")
      const taken = yield* create(store, session())
      const foreign = session()
      yield* create(store, foreign)
      const next = store.renew({ token: renewed[0] ?? newToken(), next: foreign.token })
      assert.strictEqual(yield* outcome(next), "SessionTokenTaken")
      assert.notStrictEqual(taken.id, id)
    })
  ),

  law(
    "S6 a renewed token lives until 30 seconds after the new one was first presented",
    ["clock"],
    ({ advance, another, store }) =>
      Effect.gen(function* () {
        const [first, second, third] = [newToken(), newToken(), newToken()]
        yield* create(store, session({ token: first, idleTimeout: Duration.hours(3) }))
        yield* advance("61 minutes")
        yield* store.renew({ token: first, next: second })
        // Nobody has seen the new one: the answer may have been lost.
        yield* advance("61 minutes")
        assert.strictEqual(yield* outcome(another.load(first)), "ok")
        yield* another.load(second)
        yield* advance("28 seconds")
        assert.strictEqual(yield* outcome(store.load(first)), "ok")
        // Presenting it again does not begin the time anew.
        yield* store.load(second)
        yield* store.renew({ token: second, next: third })
        yield* advance("3 seconds")
        assert.strictEqual(yield* outcome(store.load(first)), "SessionSuperseded")
        assert.strictEqual(yield* outcome(store.touch(first)), "SessionSuperseded")
        assert.strictEqual(yield* outcome(store.renew({ token: first, next: second })), "SessionSuperseded")
        assert.strictEqual(yield* outcome(store.load(second)), "ok")
        yield* store.touch(third)
        yield* advance("31 seconds")
        assert.deepStrictEqual(yield* all([second, third].map((token) => outcome(another.load(token)))), [
          "SessionSuperseded",
          "ok"
        ])
      })
  ),

  law("S6 renewals among logins leave no token alive but the login's", [], ({ another, store }) =>
    Effect.gen(function* () {
      for (const _ of times(10, () => undefined)) {
        const wanted = session({ principal: null })
        yield* create(store, wanted)
        const [first, second] = [newToken(), newToken()]
        const login = authentication({ token: wanted.token })
        const renewals = another
          .renew({ token: wanted.token, next: first })
          .pipe(Effect.andThen(another.renew({ token: first, next: second })), Effect.result)
        const [told] = yield* Effect.all([outcome(store.authenticate(login)), renewals], { concurrency: "unbounded" })
        assert.strictEqual(told, "ok")
        for (const token of [wanted.token, first, second]) {
          assert.include(["SessionSuperseded", "SessionMissing"], yield* outcome(store.load(token)))
        }
        assert.strictEqual(yield* outcome(another.load(login.next)), "ok")
      }
    })
  ),

  law(
    "S6 a rotation puts a new token in the place of all others, at once, and changes nothing else",
    ["clock"],
    (world) =>
      Effect.gen(function* () {
        const { advance, another, store } = world
        const wanted = session({ idleTimeout: Duration.hours(3) })
        const created = yield* create(store, wanted)
        yield* advance("61 minutes")
        const due = yield* store.load(wanted.token)
        const renewed = nextOf(wanted.token, due.renewalNonce)
        yield* store.renew({ token: wanted.token, next: renewed })
        const rotated = newToken()
        const record = yield* another.rotate({ token: renewed, next: rotated })
        assert.deepStrictEqual(record, { ...due, renewalNonce: null })
        for (const instance of [store, another]) {
          for (const token of [wanted.token, renewed]) {
            assert.strictEqual(yield* outcome(instance.load(token)), "SessionSuperseded")
            assert.strictEqual(yield* outcome(instance.rotate({ token, next: newToken() })), "SessionSuperseded")
            assert.strictEqual(yield* outcome(instance.renew({ token, next: newToken() })), "SessionSuperseded")
          }
          assert.deepStrictEqual(yield* instance.load(rotated), record)
        }
        // The new token is young, and its renewal begins as that of any other.
        yield* advance("61 minutes")
        const { renewalNonce } = yield* another.load(rotated)
        const next = nextOf(rotated, renewalNonce)
        yield* store.renew({ token: rotated, next })
        assert.strictEqual((yield* another.load(next)).id, created.id)
        yield* store.revoke(created.id)
        assert.strictEqual(yield* outcome(another.rotate({ token: next, next: newToken() })), "SessionRevoked")
      })
  ),

  law("S6 of parallel rotations one succeeds, and no token but its own lives", [], ({ another, store }) =>
    Effect.gen(function* () {
      const wanted = session()
      const { id } = yield* create(store, wanted)
      const nexts = times(16, newToken)
      const outcomes = yield* all(
        nexts.map((next, index) => outcome((index % 2 === 0 ? store : another).rotate({ token: wanted.token, next })))
      )
      assert.deepStrictEqual(outcomes.toSorted(), [...times(15, () => "SessionSuperseded"), "ok"])
      const living = yield* Effect.filter(nexts, (token) => Effect.map(outcome(store.load(token)), (as) => as === "ok"))
      assert.deepStrictEqual(living, [nexts[outcomes.indexOf("ok")]])
      assert.strictEqual((yield* store.load(living[0] ?? wanted.token)).id, id)
    })
  ),

  law("a token presented in vain is one of the session that took its place", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const [expired, revoked, living, unknown] = [session(), session(), session({ principal: "bob" }), newToken()]
      const renewed = newToken()
      yield* create(store, expired)
      yield* store.renew({ token: expired.token, next: renewed })
      yield* advance("31 minutes")
      yield* store.revoke((yield* create(store, revoked)).id)
      yield* create(store, living)
      const [later, visitors] = [session({ maxPerPrincipal: 10 }), session({ principal: null })]
      yield* create(store, { ...visitors, instead: revoked.token })
      for (const instead of [renewed, living.token, unknown]) {
        yield* create(store, { ...later, token: instead === renewed ? later.token : newToken(), instead })
      }
      for (const instance of [store, another]) {
        const told = (token: typeof unknown) => outcome(instance.load(token))
        assert.deepStrictEqual(
          yield* Effect.all([renewed, revoked.token, expired.token, living.token, unknown].map(told)),
          ["SessionSuperseded", "SessionSuperseded", "SessionExpired", "ok", "SessionMissing"]
        )
        assert.strictEqual(
          yield* outcome(instance.renew({ token: revoked.token, next: newToken() })),
          "SessionSuperseded"
        )
      }
      assert.strictEqual(yield* outcome(store.load(visitors.token)), "ok")
      // It shares the fate of the session that took its place.
      yield* advance(Duration.hours(1))
      assert.strictEqual(yield* outcome(another.load(revoked.token)), "SessionExpired")
    })
  ),

  law(
    "S6 a token that was replaced at once is dead for good, also when the clock is set back",
    ["clock", "clockBack"],
    ({ advance, another, store }) =>
      Effect.gen(function* () {
        const [rotated, login, ended] = [session(), session({ principal: "bob" }), session({ principal: "carol" })]
        for (const one of [rotated, login, ended]) yield* create(store, one)
        yield* advance("10 minutes")
        const next = newToken()
        yield* store.rotate({ token: rotated.token, next })
        yield* another.authenticate(authentication({ token: login.token, principal: "bob" }))
        yield* store.revoke((yield* store.load(ended.token)).id)
        yield* store.create(session({ principal: "dora", instead: ended.token }))
        yield* advance(Duration.minutes(-9))
        for (const instance of [store, another]) {
          for (const { token } of [rotated, login, ended]) {
            assert.strictEqual(yield* outcome(instance.load(token)), "SessionSuperseded")
            assert.strictEqual(yield* outcome(instance.touch(token)), "SessionSuperseded")
            assert.strictEqual(yield* outcome(instance.rotate({ token, next: newToken() })), "SessionSuperseded")
          }
        }
        assert.strictEqual(yield* outcome(another.load(next)), "ok")
      })
  )
]
