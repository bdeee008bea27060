/** The laws of logins: authentication, revocation of a principal, and the cap. */
import { assert } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { all, authentication, create, newToken, outcome, session, times } from "./SessionSamples.ts"
import { law } from "./SessionStoreLaw.ts"

export const laws = [
  law("S6 a login puts a new token in the place of all others, at once", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const visitor = session({ principal: null, device: {}, data: { cart: [1] } })
      const created = yield* create(store, visitor)
      yield* advance("2 hours")
      const keep = session({ token: visitor.token, idleTimeout: Duration.hours(9) })
      assert.strictEqual(yield* outcome(store.load(visitor.token)), "SessionExpired")
      const old = session({ principal: null, idleTimeout: Duration.hours(9), data: { cart: [2] } })
      const before = yield* create(store, old)
      yield* advance("2 hours")
      const renewed = newToken()
      yield* store.renew({ token: old.token, next: renewed })
      yield* store.load(renewed)
      const login = authentication({ token: renewed, idleTimeout: keep.idleTimeout, device: { ip: "192.0.2.7" } })
      const { displaced, record } = yield* another.authenticate(login)
      assert.isEmpty(displaced)
      assert.deepInclude(record, {
        id: before.id,
        principal: "alice",
        data: { cart: [2] },
        version: before.version + 1,
        renewalNonce: null
      })
      assert.deepStrictEqual(record.device, { ip: "192.0.2.7" })
      assert.deepStrictEqual(record.lastSeenAt, record.createdAt)
      assert.strictEqual(DateTime.distance(record.createdAt, record.expiresAt).pipe(Duration.toHours), 12)
      for (const token of [old.token, renewed]) {
        assert.strictEqual(yield* outcome(store.load(token)), "SessionSuperseded")
        assert.strictEqual(yield* outcome(store.touch(token)), "SessionSuperseded")
        assert.strictEqual(yield* outcome(store.renew({ token, next: newToken() })), "SessionSuperseded")
        assert.strictEqual(yield* outcome(store.authenticate(authentication({ token }))), "SessionSuperseded")
      }
      assert.deepStrictEqual(yield* store.load(login.next), record)
      assert.strictEqual(yield* outcome(store.load(visitor.token)), "SessionExpired")
      assert.notStrictEqual(created.id, record.id)
    })
  ),

  law("S6 of parallel logins in one session one succeeds, and no token but its own lives", [], ({ another, store }) =>
    Effect.gen(function* () {
      for (const visitors of [true, false]) {
        const wanted = session(visitors ? { principal: null } : {})
        yield* create(store, wanted)
        const logins = times(8, (index) =>
          authentication({
            token: wanted.token,
            principal: index % 3 === 0 ? "bob" : "alice",
            device: { ip: String(index) }
          })
        )
        const outcomes = yield* all(
          logins.map((login, index) => outcome((index % 2 === 0 ? store : another).authenticate(login)))
        )
        assert.deepStrictEqual(outcomes.toSorted(), [...times(7, () => "SessionSuperseded"), "ok"])
        const loads = yield* all(logins.map(({ next }) => outcome(store.load(next))))
        assert.deepStrictEqual(
          loads,
          outcomes.map((told) => (told === "ok" ? "ok" : "SessionMissing"))
        )
      }
    })
  ),

  law(
    "S6 two principals that take each other's sessions over do not wait for each other for ever",
    [],
    ({ another, store }) =>
      Effect.gen(function* () {
        for (const _ of times(10, () => undefined)) {
          const [hers, his] = [session({ principal: "alice" }), session({ principal: "bob" })]
          yield* create(store, hers)
          yield* create(store, his)
          const outcomes = yield* all([
            outcome(store.authenticate(authentication({ token: his.token, principal: "alice", maxPerPrincipal: 1 }))),
            outcome(another.authenticate(authentication({ token: hers.token, principal: "bob", maxPerPrincipal: 1 })))
          ])
          // The one whose session had to make room for the other's is told.
          assert.include(outcomes, "ok")
          assert.isTrue(outcomes.every((told) => told === "ok" || told === "SessionRevoked"))
        }
      })
  ),

  law("S6 an update begun before a login takes no effect", [], ({ another, store }) =>
    Effect.gen(function* () {
      const wanted = session({ principal: "bob", data: "bob's" })
      const { id, version } = yield* create(store, wanted)
      const login = authentication({ token: wanted.token, data: { value: "alice's", version: 3 } })
      const { record } = yield* store.authenticate(login)
      assert.deepInclude(record, { data: "alice's", dataVersion: 3 })
      const late = another.update({ id, version, data: "bob's again", dataVersion: 1 })
      assert.strictEqual(yield* outcome(late), "SessionConflict")
      assert.deepStrictEqual(yield* store.load(login.next), record)
      assert.isEmpty(yield* store.list("bob"))
      assert.lengthOf(yield* store.list("alice"), 1)
      assert.isEmpty(yield* another.revokeAll("bob"))
      assert.strictEqual(yield* outcome(store.load(login.next)), "ok")
      assert.deepStrictEqual(yield* another.revokeAll("alice"), [id])
    })
  ),

  law("S7 a login that began before its principal was revoked is refused", [], ({ another, store }) =>
    Effect.gen(function* () {
      const visitor = session({ principal: null })
      yield* create(store, visitor)
      for (const _ of times(3, () => undefined)) {
        const epoch = yield* store.epoch("alice")
        yield* store.create(session({ epoch }))
        yield* another.revokeAll("alice")
        assert.strictEqual(yield* outcome(store.create(session({ epoch }))), "SessionRevoked")
        const login = authentication({ token: visitor.token, epoch })
        assert.strictEqual(yield* outcome(store.authenticate(login)), "SessionRevoked")
        assert.isEmpty(yield* store.list("alice"))
        assert.strictEqual(yield* outcome(store.load(visitor.token)), "ok")
      }
      const now = authentication({ token: visitor.token, epoch: yield* another.epoch("alice") })
      assert.strictEqual(yield* outcome(store.authenticate(now)), "ok")
      assert.strictEqual(yield* store.epoch("nobody"), 0)
    })
  ),

  law("S7 revoking a principal ends all its sessions and nobody else's", [], ({ another, store }) =>
    Effect.gen(function* () {
      const mine = yield* all(times(3, () => create(store, session())))
      const theirs = session({ principal: "bob" })
      const visitor = session({ principal: null })
      yield* create(store, theirs)
      yield* create(store, visitor)
      const [kept, ...others] = mine.map(({ id }) => id)
      const revoked = yield* another.revokeAll("alice", { except: kept })
      assert.sameMembers([...revoked], others)
      assert.deepStrictEqual(
        (yield* store.list("alice")).map(({ id }) => id),
        kept === undefined ? [] : [kept]
      )
      assert.deepStrictEqual(yield* another.revokeAll("alice"), kept === undefined ? [] : [kept])
      assert.deepStrictEqual(yield* another.revokeAll("alice"), [])
      assert.deepStrictEqual(yield* another.revokeAll("nobody"), [])
      assert.strictEqual(yield* outcome(store.load(theirs.token)), "ok")
      assert.strictEqual(yield* outcome(store.load(visitor.token)), "ok")
    })
  ),

  law("S7 what is live after revoking among creates was created after it", [], ({ another, store }) =>
    Effect.gen(function* () {
      for (const principal of times(5, (index) => `alice ${index}`)) {
        const creates = times(10, (index) =>
          create(index % 2 === 0 ? store : another, session({ principal, maxPerPrincipal: 100 }))
        )
        const [created, revoked] = yield* Effect.all([all(creates), another.revokeAll(principal)], {
          concurrency: "unbounded"
        })
        const live = yield* store.list(principal)
        assert.sameMembers(
          [...revoked, ...live.map(({ id }) => id)],
          created.map(({ id }) => id)
        )
        const dead = created.filter(({ id }) => revoked.includes(id))
        for (const { createdAt } of live)
          assert.isTrue(dead.every((other) => DateTime.isGreaterThanOrEqualTo(createdAt, other.createdAt)))
      }
    })
  ),

  law("S8 the cap holds under parallel logins, and the oldest make room", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const first = session({ maxPerPrincipal: 3 })
      yield* create(store, first)
      yield* advance("1 second")
      const wanted = times(20, () => session({ maxPerPrincipal: 3 }))
      const created = yield* all(wanted.map((one, index) => create(index % 2 === 0 ? store : another, one)))
      const live = (yield* store.list("alice")).map(({ id }) => id)
      assert.lengthOf(live, 3)
      const outcomes = yield* all(wanted.map(({ token }) => outcome(another.load(token))))
      assert.deepStrictEqual(
        outcomes,
        created.map(({ id }) => (live.includes(id) ? "ok" : "SessionRevoked"))
      )
      assert.strictEqual(yield* outcome(store.load(first.token)), "SessionRevoked")
      yield* advance("1 second")
      const { id } = yield* create(store, session({ maxPerPrincipal: 1 }))
      assert.deepStrictEqual(
        (yield* store.list("alice")).map((live) => live.id),
        [id]
      )
    })
  ),

  law("S8 the cap holds under parallel logins in sessions that exist", ["clock"], ({ advance, another, store }) =>
    Effect.gen(function* () {
      const oldest = yield* create(store, session())
      yield* advance("1 second")
      const visitors = times(12, () => session({ principal: null }))
      const records = yield* all(visitors.map((one) => create(store, one)))
      const logins = visitors.map(({ token }) => authentication({ token, maxPerPrincipal: 3 }))
      const done = yield* all(logins.map((login, index) => (index % 2 === 0 ? store : another).authenticate(login)))
      const live = (yield* store.list("alice")).map(({ id }) => id)
      assert.lengthOf(live, 3)
      const displaced = done.flatMap((login) => login.displaced)
      assert.sameMembers([...displaced, ...live], [oldest.id, ...records.map(({ id }) => id)])
      // A login again in the same session takes no second place.
      const kept = logins.find(({ token }) =>
        live.includes(records[visitors.findIndex((one) => one.token === token)]?.id ?? oldest.id)
      )
      assert.isDefined(kept)
      const again = yield* store.authenticate(authentication({ token: kept?.next ?? newToken(), maxPerPrincipal: 3 }))
      assert.isEmpty(again.displaced)
      assert.lengthOf(yield* store.list("alice"), 3)
      assert.strictEqual((yield* store.list("alice"))[0]?.id, again.record.id)
    })
  ),

  law(
    "S8 sessions that are over take no place under the cap, and visitors have none",
    ["clock"],
    ({ advance, store }) =>
      Effect.gen(function* () {
        const long = session({ maxPerPrincipal: 2, idleTimeout: Duration.hours(2) })
        const short = session({ maxPerPrincipal: 2 })
        yield* create(store, long)
        yield* advance("1 second")
        yield* create(store, short)
        yield* advance("1 hour")
        yield* create(store, session({ maxPerPrincipal: 2 }))
        assert.strictEqual(yield* outcome(store.load(long.token)), "ok")
        assert.strictEqual(yield* outcome(store.load(short.token)), "SessionExpired")
        const visitors = times(4, () => session({ principal: null, maxPerPrincipal: 1 }))
        yield* all(visitors.map((visitor) => create(store, visitor)))
        for (const { token } of visitors) assert.strictEqual(yield* outcome(store.load(token)), "ok")
      })
  ),

  law(
    "S8 a session that a login did not count any more is over for good, also when the clock is set back",
    ["clock", "clockBack"],
    ({ advance, another, store }) =>
      Effect.gen(function* () {
        for (const isNew of [true, false]) {
          const principal = isNew ? "alice" : "bob"
          const old = times(2, () => session({ principal, maxPerPrincipal: 2 }))
          for (const one of old) yield* create(store, one)
          yield* another.load(old[0]?.token ?? newToken())
          yield* advance("2 hours")
          const visitor = session({ principal: null })
          yield* create(store, visitor)
          const room = isNew
            ? yield* store.create(session({ principal, maxPerPrincipal: 2 }))
            : yield* store.authenticate(authentication({ token: visitor.token, principal, maxPerPrincipal: 2 }))
          assert.isEmpty(room.displaced)
          yield* advance(Duration.hours(-2))
          for (const instance of [store, another]) {
            for (const { token } of old) assert.strictEqual(yield* outcome(instance.load(token)), "SessionExpired")
            assert.isAtMost((yield* instance.list(principal)).length, 1)
          }
        }
      })
  )
]
