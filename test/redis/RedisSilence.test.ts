/**
 * C10 for the connections to Redis: a network that forgets all that is open is found out, the subscription included.
 */
import { describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as RedisTokenRepository from "../../src/redis/RedisTokenRepository.ts"
import * as RedisFailureCounts from "../../src/server/RedisFailureCounts.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { eventually } from "../support/conditions.ts"
import { freshPrefix, redisUrl } from "../support/redis.ts"
import { instance } from "../support/redisSessions.ts"
import { aftermath, found, tell } from "../support/silence.ts"
import { keys } from "../support/tokens.ts"
import { create, session } from "../../src/testing/internal/SessionSamples.ts"
import { claim } from "../../src/testing/internal/TokenSamples.ts"

const network = Effect.flatMap(redisUrl, FaultProxy.to)

describe.concurrent("connections to Redis", () => {
  it.live("C10 the connection of sessions is found out when it dies without a word", () =>
    Effect.gen(function* () {
      const proxy = yield* network
      const store = yield* instance({ url: proxy.url, prefix: yield* freshPrefix })
      const wanted = session()
      yield* create(store, wanted)
      yield* proxy.swallowOpen
      const make = Effect.suspend(() => store.create(session({ principal: null })))
      const both = Effect.andThen(store.load(wanted.token), make)
      found("Redis sessions", yield* aftermath(both), /cannot be reached. Nobody was logged out/)
    })
  )

  it.live("C10 the subscription of sessions is found out when it dies without a word, and everything is asked", () =>
    Effect.gen(function* () {
      const proxy = yield* network
      const prefix = yield* freshPrefix
      const store = yield* instance({ url: proxy.url, prefix })
      const another = yield* instance({ url: yield* redisUrl, prefix })
      let [unknown, heard] = [0, 0]
      yield* Effect.forkScoped(
        Stream.runForEach(store.ended, ({ _tag }) => Effect.sync(() => (_tag === "Unknown" ? unknown++ : heard++))),
        { startImmediately: true }
      )
      // One for commands and one to listen, both there: another instance's end is heard of.
      const end = Effect.suspend(() => Effect.flatMap(create(another, session()), ({ id }) => another.revoke(id)))
      yield* eventually(
        Effect.map(end, () => heard),
        (heard) => heard > 0
      )
      const before = unknown
      yield* proxy.swallowOpen
      const began = performance.now()
      const count = Effect.sync(() => unknown)
      yield* eventually(count, (count) => count > before, "15 seconds")
      tell(`Redis subscription: Unknown after ${Math.round(performance.now() - began)} ms`)
    })
  )

  it.live("C10 the connection of a token repository is found out when it dies without a word", () =>
    Effect.gen(function* () {
      const proxy = yield* network
      const repository = yield* RedisTokenRepository.make({ url: proxy.url, keys, prefix: yield* freshPrefix })
      const lock = Effect.suspend(() => repository.lock(Math.random().toString(36), claim("me", 0)))
      yield* lock
      yield* proxy.swallowOpen
      found("Redis tokens", yield* aftermath(lock), /did not answer|away/)
    })
  )

  it.live("C10 the connection that counts failed logins is found out when it dies without a word", () =>
    Effect.gen(function* () {
      const proxy = yield* network
      const counts = yield* RedisFailureCounts.make({ url: proxy.url, prefix: yield* freshPrefix })
      const wait = counts.wait([{ key: "alice", most: 1 }])
      yield* wait
      yield* proxy.swallowOpen
      const after = yield* aftermath(wait)
      found("Redis failure counts", after, /cannot be counted at the moment/)
    })
  )
})
