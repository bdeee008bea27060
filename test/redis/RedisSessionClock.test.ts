/** What a server's clock that was set on and back leaves of the laws. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { contradictions, instance, redisWorld } from "../support/redisSessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

const hours = (count: number) => Duration.hours(count)

describe("RedisSessionStore, when the server's clock is set on and back", () => {
  it.live("S7 no session lives that a login did not count any more, and revoking all leaves none", () =>
    Effect.gen(function* () {
      const { advance, another, client, prefix, store } = yield* redisWorld
      const [first, second] = [session(), session()]
      yield* create(store, first)
      yield* create(store, second)
      yield* another.load(first.token)
      yield* advance(hours(2))
      const visitor = session({ principal: null })
      yield* create(store, visitor)
      yield* store.authenticate(authentication({ token: visitor.token }))
      yield* advance(hours(-2))
      const all = yield* store.list("alice")
      assert.lengthOf(all, 1)
      assert.sameMembers(
        [...(yield* store.revokeAll("alice"))],
        all.map(({ id }) => id)
      )
      for (const { token } of [first, second]) {
        assert.strictEqual(yield* outcome(another.load(token)), "SessionExpired")
        assert.strictEqual(yield* outcome(store.touch(token)), "SessionExpired")
        assert.strictEqual(yield* outcome(store.renew({ token, next: newToken() })), "SessionExpired")
      }
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )

  it.live("S7 who was revoked altogether while it was ahead has no session afterwards", () =>
    Effect.gen(function* () {
      const { advance, another, client, prefix, store } = yield* redisWorld
      const [old, spared] = [session(), session()]
      yield* create(store, old)
      const { id } = yield* create(store, spared)
      yield* another.load(old.token)
      yield* advance(hours(2))
      assert.isEmpty(yield* store.revokeAll("alice", { except: id }))
      yield* advance(hours(-2))
      assert.strictEqual(yield* outcome(another.load(old.token)), "SessionExpired")
      // It is not meant, and still among those that the next revocation means.
      assert.strictEqual(yield* outcome(another.load(spared.token)), "ok")
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      assert.deepStrictEqual(yield* store.revokeAll("alice"), [id])
    })
  )

  it.live("S3 who logged out while it was ahead is not back", () =>
    Effect.gen(function* () {
      const { advance, another, client, prefix, store } = yield* redisWorld
      for (const wanted of [session(), session({ principal: null })]) {
        const { id } = yield* create(store, wanted)
        yield* another.load(wanted.token)
        yield* advance(hours(2))
        assert.isFalse(yield* store.revoke(id))
        yield* advance(hours(-2))
        assert.strictEqual(yield* outcome(another.load(wanted.token)), "SessionExpired")
        assert.deepStrictEqual(yield* contradictions(client, prefix), [])
      }
    })
  )

  it.live("S8 what lives is counted: the oldest makes room", () =>
    Effect.gen(function* () {
      const { advance, client, prefix, store } = yield* redisWorld
      const wanted = Array.from({ length: 3 }, () => session({ maxPerPrincipal: 3 }))
      for (const one of wanted) yield* create(store, one)
      yield* advance(hours(2))
      const { id } = yield* create(store, session({ maxPerPrincipal: 3 }))
      yield* advance(hours(-2))
      const live = yield* Effect.forEach(wanted, ({ token }) => outcome(store.load(token)))
      assert.isAtMost(live.filter((told) => told === "ok").length, 2)
      assert.deepStrictEqual((yield* store.create(session({ maxPerPrincipal: 1 }))).displaced, [id])
      assert.lengthOf(yield* store.list("alice"), 1)
      assert.deepStrictEqual(yield* contradictions(client, prefix), [])
    })
  )
})

describe("RedisSessionStore, at the moment at which a session ends", () => {
  it.live("S4 S5 no load is a moment early or late by the server's clock, remembered or not", () =>
    Effect.gen(function* () {
      const { client, prefix, store, url } = yield* redisWorld
      const forgetful = yield* instance({ url, prefix, rememberedBytes: 0 })
      const time = Effect.map(client.send("TIME"), (reply) => {
        const [seconds = 0, micros = 0] = Array.isArray(reply) ? reply.map(Number) : []
        return seconds * 1000 + Math.floor(micros / 1000)
      })
      for (const one of [store, forgetful]) {
        const absoluteTimeout = Duration.millis(100)
        const wanted = Array.from({ length: 5 }, () => session({ principal: null, absoluteTimeout }))
        yield* Effect.forEach(
          wanted,
          Effect.fnUntraced(function* (wanted) {
            const end = (yield* create(store, wanted)).expiresAt.epochMilliseconds
            for (let before = 0; before <= end;) {
              before = yield* time
              const told = yield* outcome(one.load(wanted.token))
              if (told === "ok") assert.isBelow(before, end)
              else {
                assert.strictEqual(told, "SessionExpired")
                assert.isAtLeast(yield* time, end)
              }
            }
          }),
          { concurrency: "unbounded" }
        )
      }
    })
  )
})
