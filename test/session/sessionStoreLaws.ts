/**
 * The laws that every session store keeps, whatever it is made of. An adapter's test file gives them a world to run in.
 */
import { assert, describe } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import type { SessionError } from "../../src/session/SessionError.ts"
import type { SessionRecord } from "../../src/session/SessionRecord.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import type * as SessionStore from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import { eventually } from "../support/conditions.ts"

/** Where a law is tried: two instances over the same sessions, and a hand on the store's clock. */
export interface World {
  readonly store: SessionStore.SessionStore["Service"]
  readonly another: SessionStore.SessionStore["Service"]
  readonly advance: (by: Duration.Input) => Effect.Effect<void, unknown>
}

/** Declares one test that is given a world of its own. */
export type Law = (name: string, body: (world: World) => Effect.Effect<void, unknown>) => void

export const newToken = () => SessionToken.hash(SessionToken.make())

export const session = (options: Partial<SessionStore.NewSession> = {}): SessionStore.NewSession => ({
  token: newToken(),
  principal: "alice",
  data: { cart: ["apple"] },
  dataVersion: 1,
  device: { userAgent: "test", ip: "192.0.2.1" },
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 5,
  ...options
})

/** A new session. */
export const create = (store: SessionStore.SessionStore["Service"], wanted: SessionStore.NewSession) =>
  Effect.map(store.create(wanted), ({ record }) => record)

/** A login in the session of a token. */
export const authentication = (
  options: Partial<SessionStore.Authentication> & Pick<SessionStore.Authentication, "token">
): SessionStore.Authentication => ({
  next: newToken(),
  principal: "alice",
  device: { userAgent: "test", ip: "192.0.2.1" },
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 5,
  ...options
})

/** What everybody who presents the token makes of it. */
const nextOf = (token: SessionToken.TokenHash, nonce: string | null) =>
  SessionToken.TokenHash.make(createHash("sha256").update(`${token} ${nonce}`).digest("hex"))

/** Waits in real time, also where the TestClock stands still. */
const live = Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())

/** What came of an operation: `ok`, or the reason. */
export const outcome = <A>(effect: Effect.Effect<A, SessionError>) =>
  Effect.map(
    Effect.result(effect),
    Result.match({ onFailure: ({ reason }) => reason._tag, onSuccess: () => "ok" as const })
  )

const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) => Effect.all(effects, { concurrency: "unbounded" })
const times = <A>(count: number, make: (index: number) => A) => Array.from({ length: count }, (_, index) => make(index))

export const sessionStoreLaws = (name: string, law: Law) =>
  describe(name, () => {
    law("S1 what one instance wrote another reads right after", ({ another, store }) =>
      Effect.gen(function* () {
        const wanted = session({ principal: null, dataVersion: 7 })
        const created = yield* create(store, wanted)
        assert.deepInclude(created, { principal: null, data: wanted.data, dataVersion: 7, version: 1 })
        assert.deepStrictEqual(created.device, wanted.device)
        assert.deepStrictEqual(created.lastSeenAt, created.createdAt)
        assert.strictEqual(DateTime.distance(created.createdAt, created.idleExpiresAt).pipe(Duration.toMinutes), 30)
        assert.strictEqual(DateTime.distance(created.createdAt, created.expiresAt).pipe(Duration.toHours), 12)
        assert.deepStrictEqual(yield* another.load(wanted.token), created)
        const updated = yield* another.update({ id: created.id, version: 1, data: { cart: [] }, dataVersion: 8 })
        assert.deepStrictEqual(updated, { ...created, data: { cart: [] }, dataVersion: 8, version: 2 })
        assert.deepStrictEqual(yield* store.load(wanted.token), updated)
        // As where something is in quarantine beside the data.
        const below = yield* store.update({ id: created.id, version: 2, data: [], dataVersion: -8 })
        assert.deepStrictEqual(below, { ...updated, data: [], dataVersion: -8, version: 3 })
        assert.deepStrictEqual(yield* another.load(wanted.token), below)
      })
    )

    law("S1 data comes back as it was written, to the character", ({ store }) =>
      Effect.gen(function* () {
        const text =
          '{"z":1,"a":{"__proto__":{"x":[1e-7,1.5e+300,null,true]}},"":"\\u0000 \\ud800 é \\"","long":"LONG"}'
        const data = JSON.parse(text.replace("LONG", "ü".repeat(30_000)))
        for (const value of [data, null, 0, "text", [], [[]]]) {
          const wanted = session({ principal: null, data: value })
          yield* create(store, wanted)
          assert.strictEqual(JSON.stringify((yield* store.load(wanted.token)).data), JSON.stringify(value))
        }
      })
    )

    law("a token that is in use, or was, is not given to another session", ({ advance, another, store }) =>
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
    )

    law(
      "S2 of parallel updates of one version exactly one takes effect, and the others are told",
      ({ another, store }) =>
        Effect.gen(function* () {
          const wanted = session()
          const { id } = yield* create(store, wanted)
          const outcomes = yield* all(
            times(20, (index) =>
              outcome((index % 2 === 0 ? store : another).update({ id, version: 1, data: index, dataVersion: 1 }))
            )
          )
          assert.deepStrictEqual(outcomes.toSorted(), [...times(19, () => "SessionConflict"), "ok"])
          const { data, version } = yield* store.load(wanted.token)
          assert.strictEqual(version, 2)
          assert.strictEqual(data, outcomes.indexOf("ok"))
        })
    )

    law("S3 nothing written after the end brings a session back", ({ advance, another, store }) =>
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
    )

    law(
      "S3 S7 what was past its time when it was ended is over for good, also when the clock is set back",
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
    )

    law("S3 an end among updates and loads is final", ({ another, store }) =>
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
    )

    law("S4 a session without activity ends after its idle timeout and one touch interval", ({ advance, store }) =>
      Effect.gen(function* () {
        const wanted = session()
        const { id } = yield* create(store, wanted)
        yield* advance({ minutes: 30, seconds: 55 })
        assert.deepStrictEqual(yield* store.endedOf([id]), [])
        yield* advance("6 seconds")
        assert.deepStrictEqual(yield* store.endedOf([id]), [id])
        assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionExpired")
      })
    )

    law("S4 an active session ends at its absolute end", ({ advance, store }) =>
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
    )

    law("S5 an active session never expires early, also when its activity was not written", ({ advance, store }) =>
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
    )

    law("S5 activity is written at most once per touch interval", ({ advance, another, store }) =>
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
    )

    law("S5 a touch is an activity as a load is", ({ advance, another, store }) =>
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
      })
    )

    law("S6 a login puts a new token in the place of all others, at once", ({ advance, another, store }) =>
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
    )

    law("S6 of parallel logins in one session one succeeds, and no token but its own lives", ({ another, store }) =>
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
    )

    law(
      "S6 two principals that take each other's sessions over do not wait for each other for ever",
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
    )

    law("S6 an update begun before a login takes no effect", ({ another, store }) =>
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
    )

    law("S6 a token is to be renewed from its age on, by whoever presents it", ({ advance, another, store }) =>
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
    )

    law("S6 parallel renewals converge on one token", ({ advance, another, store }) =>
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
    )

    law(
      "S6 a renewed token lives until 30 seconds after the new one was first presented",
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
    )

    law("S6 renewals among logins leave no token alive but the login's", ({ another, store }) =>
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
    )

    law("S7 a login that began before its principal was revoked is refused", ({ another, store }) =>
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
    )

    law("S7 revoking a principal ends all its sessions and nobody else's", ({ another, store }) =>
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
    )

    law("S7 what is live after revoking among creates was created after it", ({ another, store }) =>
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
    )

    law("S8 the cap holds under parallel logins, and the oldest make room", ({ advance, another, store }) =>
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
    )

    law("S8 the cap holds under parallel logins in sessions that exist", ({ advance, another, store }) =>
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
    )

    law("S8 sessions that are over take no place under the cap, and visitors have none", ({ advance, store }) =>
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
    )

    law("a list holds the live sessions, the newest first", ({ advance, store }) =>
      Effect.gen(function* () {
        const ids: Array<SessionId.SessionId> = []
        for (const _ of times(4, () => undefined)) {
          ids.unshift((yield* create(store, session())).id)
          yield* advance("1 second")
        }
        const [, second, ...rest] = ids
        assert.isDefined(second)
        if (second !== undefined) yield* store.revoke(second)
        assert.deepStrictEqual(
          (yield* store.list("alice")).map(({ id }) => id),
          [...ids.slice(0, 1), ...rest]
        )
        assert.isEmpty(yield* store.list("bob"))
        const unknown = SessionId.make()
        assert.sameMembers([...(yield* store.endedOf([...ids, unknown]))], [second, unknown])
        assert.isEmpty(yield* store.endedOf([]))
      })
    )

    law("S6 a rotation puts a new token in the place of all others, at once, and changes nothing else", (world) =>
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
    )

    law("S6 of parallel rotations one succeeds, and no token but its own lives", ({ another, store }) =>
      Effect.gen(function* () {
        const wanted = session()
        const { id } = yield* create(store, wanted)
        const nexts = times(16, newToken)
        const outcomes = yield* all(
          nexts.map((next, index) => outcome((index % 2 === 0 ? store : another).rotate({ token: wanted.token, next })))
        )
        assert.deepStrictEqual(outcomes.toSorted(), [...times(15, () => "SessionSuperseded"), "ok"])
        const living = yield* Effect.filter(nexts, (token) =>
          Effect.map(outcome(store.load(token)), (as) => as === "ok")
        )
        assert.deepStrictEqual(living, [nexts[outcomes.indexOf("ok")]])
        assert.strictEqual((yield* store.load(living[0] ?? wanted.token)).id, id)
      })
    )

    law("S5 a session lives by the times that it was given last", ({ advance, another, store }) =>
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
    )

    law("S3 other times bring no session back, and S8 count as they are", ({ advance, another, store }) =>
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
    )

    law("a session that an operator opened on behalf of somebody says so until they log in", (world) =>
      Effect.gen(function* () {
        const { another, store } = world
        const wanted = session({ actor: "olga" })
        const created = yield* create(store, wanted)
        assert.deepInclude(created, { principal: "alice", actor: "olga" })
        assert.deepStrictEqual(yield* another.load(wanted.token), created)
        assert.deepStrictEqual(yield* another.list("alice"), [created])
        assert.isEmpty(yield* another.list("olga"))
        const updated = yield* another.update({ id: created.id, version: 1, data: {}, dataVersion: 1 })
        assert.strictEqual(updated.actor, "olga")
        const next = newToken()
        assert.strictEqual((yield* store.rotate({ token: wanted.token, next })).actor, "olga")
        const login = yield* store.authenticate(authentication({ token: next }))
        assert.strictEqual(login.record.actor, null)
        assert.strictEqual((yield* create(another, session({ principal: "bob" }))).actor, null)
        assert.strictEqual(yield* outcome(store.create(session({ actor: "\ud800" }))), "SessionInvalid")
      })
    )

    law("visitors' sessions are told a page at a time, and nobody else's", ({ advance, another, store }) =>
      Effect.gen(function* () {
        yield* create(store, session({ principal: null }))
        yield* advance("31 minutes")
        const theirs = yield* Effect.forEach(
          times(7, () => session({ principal: null })),
          (one) => create(store, one)
        )
        yield* Effect.forEach(
          times(5, () => session()),
          (one) => create(store, one)
        )
        const [ended, ...living] = theirs
        if (ended !== undefined) yield* store.revoke(ended.id)
        const pages = Effect.fnUntraced(function* (limit: number) {
          const found: Array<SessionRecord> = []
          for (let after: string | undefined; ;) {
            const { next, sessions } = yield* another.visitors({ after, limit })
            assert.isAtMost(sessions.length, limit)
            found.push(...sessions)
            if (next === undefined) return found
            after = next
          }
        })
        const byId = (a: SessionRecord, b: SessionRecord) => (a.id < b.id ? -1 : 1)
        for (const limit of [1, 3, 100]) {
          assert.deepStrictEqual((yield* pages(limit)).toSorted(byId), living.toSorted(byId))
        }
      })
    )

    law("the end of a session is remembered for 24 hours", ({ advance, store }) =>
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
    )

    law("S9 every instance is told of sessions that were ended, and of none that was not", ({ another, store }) =>
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
        ).pipe(live)
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
        ).pipe(live)
        assert.isFalse(has(spared.id))
      })
    )

    law("a principal that no store could keep is refused", ({ store }) =>
      Effect.gen(function* () {
        const visitor = session({ principal: null })
        yield* create(store, visitor)
        for (const principal of ["", "a\0b", "a\ud800", "x".repeat(257)]) {
          const outcomes = [
            yield* outcome(store.create(session({ principal }))),
            yield* outcome(store.authenticate(authentication({ token: visitor.token, principal }))),
            yield* outcome(store.revokeAll(principal)),
            yield* outcome(store.epoch(principal)),
            yield* outcome(store.list(principal))
          ]
          assert.deepStrictEqual(new Set(outcomes), new Set(["SessionInvalid"]))
        }
        for (const principal of ["ü".repeat(256), "' or 1=1; --", "\u0001", "🎈"]) {
          const { id } = yield* create(store, session({ principal, device: { userAgent: "a\0\ud800" } }))
          assert.deepStrictEqual(
            (yield* store.list(principal)).map((record) => [record.id, record.principal, record.device.userAgent]),
            [[id, principal, "a\0\ud800"]]
          )
        }
      })
    )

    law("S12 pruning is bounded, safe from many instances, and spares what lives", ({ advance, another, store }) =>
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

    law("the store answers with the time of its clock", ({ advance, another, store }) =>
      Effect.gen(function* () {
        const wanted = session()
        const { createdAt } = yield* create(store, wanted)
        yield* advance("10 minutes")
        const { createdAt: moved } = (yield* another.list("alice"))[0] ?? { createdAt }
        const age = Duration.toMinutes(DateTime.distance(moved, yield* another.ping))
        assert.isAtLeast(age, 10)
        assert.isBelow(age, 11)
      })
    )
  })

const sinceCreation = ({ createdAt, lastSeenAt }: { createdAt: DateTime.Utc; lastSeenAt: DateTime.Utc }) =>
  DateTime.toEpochMillis(lastSeenAt) - DateTime.toEpochMillis(createdAt)
