/**
 * The laws that every session store keeps, whatever it is made of. An adapter's test file gives them a world to run in.
 */
import { assert, describe } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { SessionError } from "../../src/session/SessionError.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import type { NewSession, SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"

/** Where a law is tried: two instances over the same sessions, and a hand on the store's clock. */
export interface World {
  readonly store: SessionStore["Service"]
  readonly another: SessionStore["Service"]
  readonly advance: (by: Duration.Input) => Effect.Effect<void, unknown>
}

/** Declares one test that is given a world of its own. */
export type Law = (name: string, body: (world: World) => Effect.Effect<void, unknown>) => void

export const newToken = () => SessionToken.hash(SessionToken.make())

export const session = (options: Partial<NewSession> = {}): NewSession => ({
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
export const create = (store: SessionStore["Service"], wanted: NewSession) =>
  Effect.map(store.create(wanted), ({ record }) => record)

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

    law("a token that is in use is not given to another session", ({ another, store }) =>
      Effect.gen(function* () {
        const wanted = session()
        const created = yield* create(store, wanted)
        assert.strictEqual(yield* outcome(create(another, { ...wanted, data: "stolen" })), "SessionsUnavailable")
        assert.deepStrictEqual(yield* another.load(wanted.token), created)
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

    law("the end of a session is remembered for 24 hours", ({ advance, store }) =>
      Effect.gen(function* () {
        const revoked = session()
        const expired = session({ absoluteTimeout: Duration.hours(1), idleTimeout: Duration.minutes(10) })
        assert.strictEqual(yield* outcome(store.load(newToken())), "SessionMissing")
        yield* create(store, expired)
        yield* store.revoke((yield* create(store, revoked)).id)
        yield* advance({ hours: 23, minutes: 59 })
        assert.strictEqual(yield* store.prune(100), 0)
        assert.strictEqual(yield* outcome(store.load(revoked.token)), "SessionRevoked")
        assert.strictEqual(yield* outcome(store.load(expired.token)), "SessionExpired")
        yield* advance("2 minutes")
        assert.strictEqual(yield* store.prune(100), 1)
        assert.strictEqual(yield* outcome(store.load(revoked.token)), "SessionMissing")
        assert.strictEqual(yield* outcome(store.load(expired.token)), "SessionExpired")
        yield* advance("1 hour")
        assert.strictEqual(yield* store.prune(100), 1)
        assert.strictEqual(yield* outcome(store.load(expired.token)), "SessionMissing")
      })
    )

    law("S12 pruning is bounded, safe from many instances, and spares what lives", ({ advance, another, store }) =>
      Effect.gen(function* () {
        yield* all(times(57, () => create(store, session({ principal: null, absoluteTimeout: Duration.hours(1) }))))
        yield* advance("26 hours")
        const living = session()
        yield* create(store, living)
        assert.strictEqual(yield* store.prune(7), 7)
        const pruned = yield* all(times(10, (index) => (index % 2 === 0 ? store : another).prune(10)))
        assert.isTrue(pruned.every((count) => count <= 10))
        let sum = pruned.reduce((sum, count) => sum + count, 0)
        // What one instance found taken by another may be left over.
        for (let last = 1; last > 0; sum += last) last = yield* store.prune(10)
        assert.strictEqual(sum, 50)
        assert.strictEqual(yield* outcome(another.load(living.token)), "ok")
      })
    )

    law("the store answers", ({ store }) => store.ping)
  })

const sinceCreation = ({ createdAt, lastSeenAt }: { createdAt: DateTime.Utc; lastSeenAt: DateTime.Utc }) =>
  DateTime.toEpochMillis(lastSeenAt) - DateTime.toEpochMillis(createdAt)
