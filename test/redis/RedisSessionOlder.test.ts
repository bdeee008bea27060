/** Sessions in Redis that an older version wrote, and what an instance of it that runs beside this one meets. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SessionId } from "../../src/session/SessionId.ts"
import { older } from "../support/olderRedisSessions.ts"
import { keysOf } from "../support/redis.ts"
import { contradictions, keptSession, redisWorld, sessionKey } from "../support/redisSessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

const times = <A>(count: number, make: (index: number) => A) => Array.from({ length: count }, (_, index) => make(index))
const minutes = (count: number) => count * 60_000
const idsOf = (sessions: ReadonlyArray<{ readonly id: SessionId }>) => sessions.map(({ id }) => id)

describe("RedisSessionStore, a session that an older version wrote", () => {
  it.live("S13 goes on as it was, without an operator, in the form of this version", () =>
    Effect.gen(function* () {
      const { another, client, prefix, store } = yield* redisWorld
      const { id, token } = yield* older(client, prefix)
      const loaded = yield* store.load(token)
      assert.deepInclude(loaded, { id, principal: "alice", actor: null, data: { cart: [] }, version: 1 })
      assert.deepStrictEqual(loaded.device, { ip: "192.0.2.1" })
      assert.strictEqual(loaded.expiresAt.epochMilliseconds - loaded.createdAt.epochMilliseconds, 43_200_000)
      assert.strictEqual(keptSession(yield* client.send("GET", sessionKey(prefix, id)))?.principal, "alice")
      for (const gone of [`content:${id}`, "ends"]) {
        assert.strictEqual(yield* client.send("EXISTS", `${prefix}:${gone}`), 0)
      }
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      assert.deepStrictEqual(yield* another.list("alice"), [loaded])
      const next = newToken()
      assert.deepStrictEqual(yield* another.rotate({ token, next }), loaded)
      const day = Duration.days(1)
      const changed = yield* store.setExpiry({ id, idleTimeout: day, absoluteTimeout: day })
      assert.isAbove(changed.expiresAt.epochMilliseconds, loaded.expiresAt.epochMilliseconds)
      assert.strictEqual((yield* another.update({ id, version: 1, data: 1, dataVersion: 1 })).actor, null)
      assert.strictEqual((yield* store.authenticate(authentication({ token: next }))).record.actor, null)
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("is met by whatever asks for it first: a touch, its id, its principal, a login", () =>
    Effect.gen(function* () {
      const { another, client, prefix, store } = yield* redisWorld
      const [touched, updated, revoked, timed, asked, visitor] = [
        yield* older(client, prefix),
        yield* older(client, prefix),
        yield* older(client, prefix),
        yield* older(client, prefix),
        yield* older(client, prefix),
        yield* older(client, prefix, { principal: null })
      ]
      yield* store.touch(touched.token)
      yield* store.update({ id: updated.id, version: 1, data: "new", dataVersion: 1 })
      assert.isTrue(yield* store.revoke(revoked.id))
      const brief = { idleTimeout: Duration.minutes(5), absoluteTimeout: Duration.minutes(20) }
      yield* store.setExpiry({ id: timed.id, ...brief })
      assert.deepStrictEqual(yield* store.endedOf([revoked.id, asked.id]), [revoked.id])
      const next = newToken()
      yield* store.authenticate(authentication({ token: visitor.token, next }))
      assert.sameMembers(idsOf(yield* another.list("alice")), [...idsOf([touched, updated, timed, asked, visitor])])
      assert.strictEqual(yield* outcome(another.load(revoked.token)), "SessionRevoked")
      assert.strictEqual(yield* outcome(another.load(visitor.token)), "SessionSuperseded")
      assert.strictEqual((yield* another.load(updated.token)).data, "new")
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      const bobs = yield* Effect.forEach(times(20, String), () => older(client, prefix, { principal: "bob" }))
      assert.sameMembers([...(yield* store.revokeAll("bob"))], idsOf(bobs))
      assert.strictEqual(yield* outcome(another.load(bobs[7]?.token ?? newToken())), "SessionRevoked")
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S8 is counted, and the oldest makes room", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      for (const count of [3, 12]) {
        const principal = `p${count}`
        const ages = times(count, (index) => minutes(count - index))
        const all = yield* Effect.forEach(ages, (age) => older(client, prefix, { principal, age }))
        const { displaced } = yield* store.create(session({ principal, maxPerPrincipal: count - 1 }))
        assert.deepStrictEqual(displaced, idsOf(all).slice(0, 2))
        assert.deepStrictEqual(idsOf(yield* store.list(principal)).slice(1), idsOf(all).slice(2).toReversed())
        assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      }
    })
  )

  it.live("S4 S6 S12 says why it is over, and its tokens are good for what they were", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const gone = yield* older(client, prefix, { age: minutes(30), endedAge: minutes(10) })
      const expired = yield* older(client, prefix, { age: minutes(40) })
      const dropped = yield* older(client, prefix, { dropped: true })
      const three = [newToken(), newToken(), newToken()]
      const inAMinute = String(Date.now() + minutes(1))
      const renewed = yield* older(client, prefix, {
        tokens: three,
        token: { 0: { validUntil: "1" }, 1: { validUntil: inAMinute } }
      })
      const unpresented = yield* older(client, prefix, {
        tokens: [newToken(), newToken()],
        token: { 1: { predecessor: "" } }
      })
      const [before = newToken(), last = newToken()] = unpresented.tokens
      yield* client.send("HSET", `${prefix}:token:${last}`, "predecessor", before)
      const due = yield* older(client, prefix, { token: { 0: { issuedAt: "1", nonce: "y".repeat(43) } } })
      const told = yield* Effect.forEach(
        [gone.token, expired.token, dropped.token, ...three, ...unpresented.tokens],
        (token) => outcome(store.load(token))
      )
      assert.deepStrictEqual(told, [
        "SessionRevoked",
        "SessionExpired",
        "SessionExpired",
        "SessionSuperseded",
        ...times(4, () => "ok" as const)
      ])
      assert.strictEqual((yield* store.load(due.token)).renewalNonce, "y".repeat(43))
      assert.strictEqual(yield* outcome(store.renew({ token: before, next: newToken() })), "SessionSuperseded")
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      assert.include(idsOf(yield* store.list("alice")), renewed.id)
    })
  )

  it.live("S12 S13 is found by pruning, which leaves none, whatever can be read of it", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const lasting = yield* Effect.forEach(times(30, String), () => older(client, prefix))
      const long = yield* Effect.forEach(times(20, String), () => older(client, prefix, { age: minutes(60 * 40) }))
      const [spoiled, other, missing] = [long[0], lasting[0], lasting[1]]
      if (!spoiled || !other || !missing) return assert.fail()
      yield* client.send("HSET", `${prefix}:session:${other.id}`, "idle", "x y")
      yield* client.send("DEL", `${prefix}:session:${missing.id}`, `${prefix}:session:${spoiled.id}`)
      yield* client.send("LPUSH", `${prefix}:session:${spoiled.id}`, "x")
      let pruned = 0
      for (let turn = 0, more = true; more && turn < 20; turn++) {
        const told = yield* store.prune(10)
        pruned += told.sessions
        more = told.more === true || told.sessions === 10
      }
      assert.strictEqual(pruned, 19)
      assert.strictEqual(yield* client.send("EXISTS", `${prefix}:ends`), 0)
      assert.strictEqual(yield* outcome(store.load(other.token)), "SessionUndecodable")
      assert.lengthOf(yield* store.list("alice"), 28)
    })
  )

  it.live("is told among the visitors, once", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const all = yield* Effect.forEach(times(70, String), () => older(client, prefix, { principal: null }))
      yield* older(client, prefix)
      all.push(
        ...(yield* Effect.forEach(times(9, String), () => create(store, session({ principal: null })))).map(
          ({ id }) => ({ id, tokens: [], token: newToken() })
        )
      )
      const found: Array<SessionId> = []
      for (let after: string | undefined, more = true; more;) {
        const { next, sessions } = yield* store.visitors({ after, limit: 20 })
        found.push(...idsOf(sessions))
        more = next !== undefined
        after = next
      }
      assert.deepStrictEqual(found.toSorted(), idsOf(all).toSorted())
    })
  )
})

describe("RedisSessionStore, beside an instance of an older version", () => {
  it.live("S11 that one finds something else where it looks for what this one wrote, and takes nothing for over", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const moved = yield* older(client, prefix)
      yield* store.load(moved.token)
      const wanted = session()
      const { id } = yield* create(store, wanted)
      const next = newToken()
      yield* store.renew({ token: wanted.token, next })
      const hashes = [
        ...[moved.id, id].map((id) => `session:${id}`),
        ...[moved.token, wanted.token, next].map((token) => `token:${token}`)
      ]
      for (const name of hashes) {
        const error = yield* Effect.flip(client.send("HMGET", `${prefix}:${name}`, "session"))
        assert.match(error.message, /WRONGTYPE/, name)
      }
      for (const name of ["sessions-of:alice", "deadlines-of:alice"]) {
        assert.match((yield* Effect.flip(client.send("ZCARD", `${prefix}:${name}`))).message, /WRONGTYPE/, name)
      }
      // It would be a session of nobody's for this one, were it one.
      assert.lengthOf(yield* store.list("alice"), 2)
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("nothing is written for one where none was", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const wanted = session()
      const { id } = yield* create(store, wanted)
      const kept = [sessionKey(prefix, id), `${prefix}:t:${wanted.token.slice(0, 32)}`]
      const sets = ["p:alice", "b:1", "blocks", "due"].map((name) => `${prefix}:${name}`)
      assert.deepStrictEqual(yield* keysOf(client, prefix), [...kept, ...sets].toSorted())
      for (const key of [...kept, ...sets]) assert.strictEqual(yield* client.send("TTL", key), -1)
    })
  )
})
