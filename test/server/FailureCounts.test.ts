/** What every form of `FailureCounts` promises, in real time: its clock is its own. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as FailureCounts from "../../src/server/FailureCounts.ts"
import * as RedisFailureCounts from "../../src/server/RedisFailureCounts.ts"
import * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import { eventually } from "../support/conditions.ts"
import { client, freshPrefix, keysOf, ownServer, redisUrl } from "../support/redis.ts"

type Counts = FailureCounts.FailureCounts["Service"]

const isWait = Duration.isDuration

const attempt = (counts: Counts, limits: ReadonlyArray<FailureCounts.Limit>) =>
  Effect.flatMap(counts.begin(limits), (begun) =>
    isWait(begun) ? Effect.die(new Error(`refused for ${Duration.format(begun)}`)) : Effect.succeed(begun)
  )

const limit = (key: string, most = 10): FailureCounts.Limit => ({ key, most })

/** Two that count together, over windows of this length. */
const laws = (
  pair: (window: Duration.Duration) => Effect.Effect<readonly [Counts, Counts], unknown, Scope.Scope>,
  window: Duration.Duration
) => {
  const law = (name: string, test: (one: Counts, other: Counts) => Effect.Effect<void, unknown>) =>
    it.live(name, () => Effect.flatMap(pair(window), ([one, other]) => test(one, other)).pipe(Effect.scoped))

  law("of fifty that begin at once, wherever, ten do", (one, other) =>
    Effect.gen(function* () {
      const begun = yield* Effect.all(
        Array.from({ length: 50 }, (_, index) => (index % 2 === 0 ? one : other).begin([limit("alice")])),
        { concurrency: "unbounded" }
      )
      assert.lengthOf(
        begun.filter((each) => !isWait(each)),
        10
      )
      for (const each of begun) {
        if (isWait(each)) assert.isTrue(Duration.toMillis(each) > 0 && Duration.toMillis(each) <= 60_000)
      }
      assert.isUndefined(yield* one.wait([limit("bob")]))
    })
  )

  law("an attempt counts in all limits or in none, and looking counts nothing", (one, other) =>
    Effect.gen(function* () {
      for (let index = 0; index < 3; index++) yield* attempt(one, [limit("client", 3)])
      const both = [limit("user", 2), limit("client", 3)]
      assert.isTrue(isWait(yield* other.begin(both)))
      for (let index = 0; index < 5; index++) assert.isUndefined(yield* other.wait([limit("user", 2)]))
      yield* attempt(other, [limit("user", 2)])
      yield* attempt(one, [limit("user", 2)])
      assert.isDefined(yield* other.wait([limit("user", 2)]))
    })
  )

  law("what succeeded never counted; what failed does, also elsewhere", (one, other) =>
    Effect.gen(function* () {
      for (let index = 0; index < 20; index++) {
        yield* Effect.flatMap(attempt(index % 2 === 0 ? one : other, [limit("carol")]), ({ takeOff }) => takeOff)
      }
      for (let index = 0; index < 10; index++) {
        yield* Effect.flatMap(attempt(index % 2 === 0 ? one : other, [limit("carol")]), ({ failed }) => failed)
      }
      for (const counts of [one, other]) assert.isTrue(isWait(yield* counts.begin([limit("carol")])))
    })
  )
}

/** As {@link laws}, where time has to pass. */
const lawsOfTime = (
  pair: (window: Duration.Duration) => Effect.Effect<readonly [Counts, Counts], unknown, Scope.Scope>
) => {
  it.live("a failure counts from when it was told until the window is over, and no longer", () =>
    Effect.gen(function* () {
      const [one, other] = yield* pair(Duration.millis(400))
      const limits = [limit("dave", 2)]
      const early = yield* attempt(one, limits)
      // Time of the server's, which nobody can move.
      yield* Effect.sleep("150 millis")
      const telling = performance.now()
      yield* early.failed
      yield* Effect.flatMap(attempt(other, limits), ({ failed }) => failed)
      const wait = Duration.toMillis((yield* one.wait(limits)) ?? Duration.zero)
      assert.isAtLeast(wait, 400 - (performance.now() - telling) - 2)
      assert.isAtMost(wait, 400)
      yield* eventually(other.wait(limits), (wait) => wait === undefined, "2 seconds")
      assert.isAtLeast(performance.now() - telling, 390)
      yield* attempt(one, limits)
    }).pipe(Effect.scoped)
  )
}

const memoryPair = (window: Duration.Duration) =>
  Effect.map(FailureCounts.makeMemory(window), (counts) => [counts, counts] as const)

const redisPair = (window: Duration.Duration) =>
  Effect.gen(function* () {
    const options = { url: yield* redisUrl, prefix: yield* freshPrefix, window }
    return [yield* RedisFailureCounts.make(options), yield* RedisFailureCounts.make(options)] as const
  })

describe("failures counted in memory", () => {
  laws(memoryPair, Duration.minutes(1))
  lawsOfTime(memoryPair)
})

describe("failures counted in Redis", () => {
  laws(redisPair, Duration.minutes(1))
  lawsOfTime(redisPair)

  it.live("a user with the rights that the README names can count", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const admin = yield* client(Effect.succeed(server.url))
      const rights = [...RedisSessionStore.permissions("holdfast"), "+zremrangebyscore"]
      yield* admin.send("ACL", "SETUSER", "service", "on", ">secret", ...rights)
      const url = new URL(Redacted.value(server.url))
      url.username = "service"
      url.password = "secret"
      const counts = yield* RedisFailureCounts.make({ url: Redacted.make(url.href) })
      yield* (yield* attempt(counts, [limit("frank", 1)])).failed
      assert.isTrue(isWait(yield* counts.begin([limit("frank", 1)])))
      yield* (yield* attempt(counts, [limit("grace", 1)])).takeOff
      assert.isUndefined(yield* counts.wait([limit("grace", 1)]))
    }).pipe(Effect.scoped)
  )

  it.live(
    "a server whose memory is full forgets no failure and counts on, also where it may evict what has a time to live",
    () =>
      Effect.gen(function* () {
        const server = yield* ownServer({ config: ["maxmemory-policy volatile-ttl"] })
        const admin = yield* client(Effect.succeed(server.url))
        const counts = yield* RedisFailureCounts.make({ url: server.url })
        const limits = [limit("heidi", 1)]
        yield* (yield* attempt(counts, limits)).failed
        yield* admin.send("CONFIG", "SET", "maxmemory", "1")
        assert.isTrue(isWait(yield* counts.begin(limits)))
        yield* (yield* attempt(counts, [limit("ivan", 1)])).failed
        assert.isTrue(isWait(yield* counts.begin([limit("ivan", 1)])))
      }).pipe(Effect.scoped)
  )

  it.live("keys tell no names, and go with the attempts of others when their window is over", () =>
    Effect.gen(function* () {
      const prefix = yield* freshPrefix
      const redis = yield* client()
      const url = yield* redisUrl
      const counts = yield* RedisFailureCounts.make({ url, prefix })
      const names = Array.from({ length: 25 }, (_, index) => `alice ${index}`)
      yield* Effect.forEach(names, (name) => attempt(counts, [limit(name), limit("192.0.2.1", 100)]))
      const keys = yield* keysOf(redis, prefix)
      assert.lengthOf(keys, 27)
      for (const key of keys) assert.notMatch(key, /alice|192\.0/)
      // Looking takes away as many. Here the window is over when looked at, not while attempts still come.
      const later = yield* RedisFailureCounts.make({ url, prefix, window: Duration.millis(300) })
      const left = Effect.andThen(later.wait([limit("bob")]), keysOf(redis, prefix))
      yield* eventually(left, (keys) => keys.length === 0, "2 seconds")
    }).pipe(Effect.scoped)
  )

  it.live("a server that is away is FailuresUnavailable, and what was counted is there when it comes back", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const counts = yield* RedisFailureCounts.make({ url: server.url })
      const limits = [limit("erin", 1)]
      const begun = yield* attempt(counts, limits)
      yield* server.kill
      yield* begun.takeOff
      for (const asked of [counts.wait(limits), counts.begin(limits)]) {
        assert.strictEqual((yield* Effect.flip(asked))._tag, "FailuresUnavailable")
      }
      yield* server.start
      const wait = yield* eventually(Effect.exit(counts.wait(limits)), Exit.isSuccess, "5 seconds")
      assert.isTrue(Exit.isSuccess(wait) && wait.value !== undefined)
    }).pipe(Effect.scoped)
  )
})
