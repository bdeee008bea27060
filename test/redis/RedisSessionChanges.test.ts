/** What becomes of a live session in Redis: another token, other times, and an operator. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { keysOf } from "../support/redis.ts"
import { contradictions, keptSession, redisWorld, rewrite, sessionKey } from "../support/redisSessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) => Effect.all(effects, { concurrency: "unbounded" })
const times = <A>(count: number, make: (index: number) => A) => Array.from({ length: count }, (_, index) => make(index))

describe("RedisSessionStore, a session on behalf of somebody", () => {
  it.live("takes room for the operator only while there is one", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const actorOf = (id: string) =>
        Effect.map(client.send("GET", sessionKey(prefix, id)), (kept) => keptSession(kept)?.actor)
      const [plain, assisted] = [session(), session({ principal: "bob", actor: "olga" })]
      assert.strictEqual(yield* actorOf((yield* create(store, plain)).id), "")
      const { id } = yield* create(store, assisted)
      assert.strictEqual(yield* actorOf(id), "olga")
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      yield* store.authenticate(authentication({ token: assisted.token, principal: "bob" }))
      assert.strictEqual(yield* actorOf(id), "")
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S15 an operator's name that no store could keep is refused, and nothing is stored", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      for (const actor of ["", "a\0b", "a\ud800", "x".repeat(257)]) {
        assert.strictEqual(yield* outcome(store.create(session({ actor }))), "SessionInvalid")
      }
      assert.deepStrictEqual(yield* keysOf(client, prefix), [])
      const { actor } = yield* create(store, session({ actor: "' or \n🎈" }))
      assert.strictEqual(actor, "' or \n🎈")
    })
  )
})

describe("RedisSessionStore, a rotation", () => {
  it.live("S6 ends the grace of a renewed token at once, also where it is remembered", () =>
    Effect.gen(function* () {
      const { advance, another, client, prefix, store } = yield* redisWorld
      const forever = { idleTimeout: Duration.days(20), absoluteTimeout: Duration.days(90) }
      const [wanted, renewed] = [session(forever), newToken()]
      yield* create(store, wanted)
      yield* store.renew({ token: wanted.token, next: renewed })
      // The grace begins, and both instances remember both tokens.
      for (const token of [renewed, wanted.token]) for (const one of [store, another]) yield* one.load(token)
      const next = newToken()
      // Whoever has the token whose grace runs has the session, and may change the token as well.
      yield* another.rotate({ token: wanted.token, next })
      for (const one of [store, another]) {
        for (const token of [wanted.token, renewed]) {
          assert.strictEqual(yield* outcome(one.load(token)), "SessionSuperseded")
          assert.strictEqual(yield* outcome(one.renew({ token, next: renewed })), "SessionSuperseded")
        }
        assert.strictEqual(yield* outcome(one.load(next)), "ok")
      }
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      yield* advance("1 minute")
      for (const token of [wanted.token, renewed]) {
        assert.strictEqual(yield* outcome(another.load(token)), "SessionSuperseded")
      }
    })
  )

  it.live("S6 of a token whose successor nobody presented yet leaves neither of the two", () =>
    Effect.gen(function* () {
      const { another, client, prefix, store } = yield* redisWorld
      for (const presents of ["old", "new"]) {
        const [wanted, renewed, next] = [session(), newToken(), newToken()]
        yield* create(store, wanted)
        yield* store.renew({ token: wanted.token, next: renewed })
        yield* another.rotate({ token: presents === "old" ? wanted.token : renewed, next })
        const told = yield* all([wanted.token, renewed, next].map((token) => outcome(store.load(token))))
        assert.deepStrictEqual(told, ["SessionSuperseded", "SessionSuperseded", "ok"])
      }
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S12 is remembered of its old tokens for a day, however long ago the login was, and then forgotten", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      const forever = { idleTimeout: Duration.days(20), absoluteTimeout: Duration.days(90) }
      const [wanted, renewed] = [session({ ...forever, principal: null }), newToken()]
      yield* create(store, wanted)
      yield* advance("10 days")
      yield* store.renew({ token: wanted.token, next: renewed })
      const tokens = [wanted.token, renewed]
      const rotate = Effect.gen(function* () {
        const next = newToken()
        yield* store.rotate({ token: tokens.at(-1) ?? next, next })
        tokens.push(next)
      })
      for (const _ of times(3, String)) yield* rotate
      yield* advance("23 hours")
      yield* rotate
      const told = Effect.forEach(tokens, (token) => outcome(store.load(token)))
      assert.deepStrictEqual(yield* told, [...times(5, () => "SessionSuperseded" as const), "ok"])
      yield* advance("2 hours")
      yield* rotate
      assert.deepStrictEqual(yield* told, [
        ...times(4, () => "SessionMissing" as const),
        ...times(2, () => "SessionSuperseded" as const),
        "ok"
      ])
      assert.lengthOf(yield* keysOf(client, `${prefix}:t:`), 3)
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      // All that is left goes with the session.
      yield* advance("100 days")
      assert.strictEqual((yield* store.prune(10)).sessions, 1)
      assert.deepStrictEqual(yield* keysOf(client, prefix), [])
    })
  )

  it.live("S11 of a session that cannot be read fails, and its token stays", () =>
    Effect.gen(function* () {
      const { client, prefix, store } = yield* redisWorld
      const wanted = session()
      const { id } = yield* create(store, wanted)
      const times = { idleTimeout: Duration.days(1), absoluteTimeout: Duration.days(1) }
      const content = keptSession(yield* client.send("GET", sessionKey(prefix, id)))?.content
      yield* rewrite(client, prefix, id, { content: "" })
      assert.strictEqual(yield* outcome(store.rotate({ token: wanted.token, next: newToken() })), "SessionUndecodable")
      assert.strictEqual(yield* outcome(store.setExpiry({ id, ...times })), "SessionUndecodable")
      yield* rewrite(client, prefix, id, { content })
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "ok")
      yield* client.send("SET", `${prefix}:d:alice`, "x")
      assert.strictEqual(yield* outcome(store.setExpiry({ id, ...times })), "SessionsUnavailable")
      yield* client.send("DEL", `${prefix}:d:alice`)
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )
})

describe("RedisSessionStore, other times", () => {
  it.live("S8 beside parallel logins leave no more sessions than the cap, and no index behind", () =>
    Effect.gen(function* () {
      const { another, client, prefix, store } = yield* redisWorld
      for (const round of times(10, (index) => index)) {
        const limits = { maxPerPrincipal: 3, principal: `p${round}` }
        const first = yield* Effect.forEach(times(3, String), () => create(store, session(limits)))
        const visitor = session({ principal: null })
        yield* create(store, visitor)
        const login = authentication({ ...limits, token: visitor.token })
        const logins = [
          ...times(4, (index) => Effect.asVoid((index % 2 === 0 ? store : another).create(session(limits)))),
          Effect.asVoid(another.authenticate(login))
        ]
        const changes = first.flatMap(({ id }, index) =>
          times(4, (turn) => {
            const times = { idleTimeout: Duration.hours(turn + 1), absoluteTimeout: Duration.days(turn + 1) }
            return (turn % 2 === index % 2 ? store : another).setExpiry({ id, ...times })
          })
        )
        const work = times(20, (index) => (index % 4 === 3 ? logins[(index - 3) / 4] : changes[index]))
        const told = yield* all(work.flatMap((one) => (one === undefined ? [] : [outcome(Effect.asVoid(one))])))
        for (const one of told) assert.include(["ok", "SessionRevoked"], one)
        assert.lengthOf(yield* store.list(limits.principal), 3)
        assert.strictEqual(yield* client.send("ZCARD", `${prefix}:p:p${round}`), 3)
      }
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S5 are those by which a session is counted, written as seen, remembered and pruned", () =>
    Effect.gen(function* () {
      const { advance, another, client, prefix, store } = yield* redisWorld
      const wanted = session({ maxPerPrincipal: 2 })
      const { id, lastSeenAt } = yield* create(store, wanted)
      for (const one of [store, another]) yield* one.load(wanted.token)
      yield* advance("40 seconds")
      // An activity; and of both instances none goes by what it remembers.
      const brief = { idleTimeout: Duration.minutes(5), absoluteTimeout: Duration.minutes(20) }
      const changed = yield* another.setExpiry({ id, ...brief })
      assert.isAtLeast(changed.lastSeenAt.epochMilliseconds, lastSeenAt.epochMilliseconds)
      for (const one of [another, store]) {
        const { expiresAt, lastSeenAt } = yield* one.load(wanted.token)
        assert.deepStrictEqual([expiresAt, lastSeenAt], [changed.expiresAt, changed.lastSeenAt])
      }
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      yield* advance("6 minutes")
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionExpired")
      assert.strictEqual(yield* outcome(another.setExpiry({ id, ...brief })), "SessionExpired")
      const { displaced } = yield* store.create(session({ maxPerPrincipal: 1 }))
      assert.deepStrictEqual(displaced, [])
      yield* advance({ hours: 24, minutes: 10 })
      assert.strictEqual((yield* store.prune(10)).sessions, 0)
      yield* advance("10 minutes")
      assert.strictEqual((yield* store.prune(10)).sessions, 1)
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionMissing")
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )
})
