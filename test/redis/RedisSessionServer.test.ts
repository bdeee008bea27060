import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Redis from "effect/persistence/Redis"
import { parse as info } from "../../src/redis/internal/RedisServerInfo.ts"
import * as RedisSessionServer from "../../src/redis/internal/RedisSessionServer.ts"
import { eventually } from "../support/conditions.ts"
import { client, ownServer } from "../support/redis.ts"
import { instance } from "../support/redisSessions.ts"
import { create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

/** What is logged, as lines. */
const logged = <A, E, R>(work: (lines: Array<string>) => Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel}: ${String(message)}`))
    return Effect.provide(work(lines), Logger.layer([logger]))
  })

const textOf = (values: Readonly<Record<string, string>>) =>
  ["# Server", ...Object.entries(values).map(([name, value]) => `${name}:${value}`), ""].join("\r\n")
const good = {
  redis_version: "7.0.15",
  redis_mode: "standalone",
  cluster_enabled: "0",
  maxmemory_policy: "noeviction",
  aof_enabled: "1"
}

describe("RedisSessionServer", () => {
  it("judges by what a server says of itself, and says what to do", () => {
    const judged = (change: Partial<typeof good>, save?: string) => {
      const { refusals, warnings } = RedisSessionServer.judge(info(textOf({ ...good, ...change })), save)
      return [...refusals.map((text) => `refused: ${text}`), ...warnings].join("\n")
    }
    assert.strictEqual(judged({}), "")
    assert.strictEqual(judged({ redis_version: "8.4.0" }, ""), "")
    // Their keys have no time to live, so these evict none of them.
    assert.strictEqual(judged({ maxmemory_policy: "volatile-lru" }), "")
    for (const policy of ["allkeys-lru", "allkeys-lfu", "allkeys-random"]) {
      assert.match(judged({ maxmemory_policy: policy }), /Set maxmemory-policy noeviction$/)
    }
    assert.match(judged({ aof_enabled: "0" }, ""), /^Redis keeps nothing on the disk.*Set appendonly yes$/)
    assert.match(judged({ aof_enabled: "0" }), /^Redis keeps nothing on the disk/)
    assert.match(judged({ aof_enabled: "0" }, "3600 1"), /^Redis saves only now and then.*Set appendonly yes$/)
    assert.match(judged({ redis_version: "6.2.14" }), /^refused: The server is Redis 6\.2\.14: .*version 7/)
    assert.match(judged({ cluster_enabled: "1" }), /^refused: .*Redis Cluster.*Use one primary/)
    assert.match(RedisSessionServer.judge(info("what?"), undefined).refusals.join(), /INFO names no redis_version/)
  })

  it.effect("a service that refuses to show its settings, in whatever words, is taken for what INFO says", () =>
    Effect.gen(function* () {
      const accept = RedisSessionServer.make({ onUnsafe: "refuse" })
      // No server to be had here says so.
      const answering = (refusal: string) => (command: string) =>
        command === "INFO"
          ? Effect.succeed(textOf(good) as never)
          : Effect.fail(new Redis.RedisError({ cause: new Error(refusal) }))
      for (const refusal of [
        "ERR unknown command 'CONFIG'",
        "ERR Unsupported CONFIG parameter: save",
        "ERR Command is not available: 'CONFIG'",
        "NOPERM User app has no permissions to run the 'config|get' command"
      ]) {
        yield* accept({ send: answering(refusal) })
      }
      const loading = answering("LOADING Redis is loading the dataset in memory")
      assert.match(String((yield* Effect.flip(accept({ send: loading }))).cause), /LOADING/)
    })
  )

  it.live("Redis Cluster is refused with the reason, in every operation", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const server = yield* ownServer({ config: ["cluster-enabled yes"] })
        const store = yield* instance({ url: server.url })
        for (const operation of [
          Effect.asVoid(store.ping),
          store.load(newToken()),
          store.list("alice"),
          create(store, session())
        ]) {
          const { reason } = yield* Effect.flip(Effect.asVoid(operation))
          assert.strictEqual(reason._tag, "SessionsUnavailable")
          assert.match(String(reason._tag === "SessionsUnavailable" && reason.cause), /Redis Cluster/)
        }
        assert.lengthOf(
          lines.filter((line) => /^Error: .*Redis Cluster/.test(line)),
          1
        )
      })
    )
  )

  it.live("a server that may lose sessions is told of once each, also when it comes up after the store", () =>
    logged((lines) =>
      Effect.gen(function* () {
        const server = yield* ownServer({ config: ["maxmemory-policy allkeys-lru", "appendonly no"] })
        yield* server.stop
        const store = yield* instance({ url: server.url })
        assert.strictEqual(yield* outcome(store.ping), "SessionsUnavailable")
        yield* server.start
        yield* eventually(outcome(create(store, session())), (told) => told === "ok", "5 seconds")
        const warnings = () => lines.filter((line) => /^Warn: Redis (removes|keeps)/.test(line))
        yield* eventually(Effect.sync(warnings), ({ length }) => length === 2)
        yield* server.restart
        yield* eventually(outcome(store.ping), (told) => told === "ok", "5 seconds")
        const own = yield* client(Effect.succeed(server.url))
        yield* eventually(own.send("PUBSUB", "NUMSUB", "holdfast:ended"), (reply) => String(reply).endsWith(",1"))
        assert.lengthOf(warnings(), 2)
      })
    )
  )

  it.live("a server that may lose sessions is refused by who wants it so, until it is set up", () =>
    logged(() =>
      Effect.gen(function* () {
        const server = yield* ownServer({ config: ["maxmemory-policy allkeys-lru"] })
        const store = yield* instance({ url: server.url, onUnsafe: "refuse" })
        const refused = yield* Effect.flip(store.load(newToken()))
        assert.match(String(refused.reason._tag === "SessionsUnavailable" && refused.reason.cause), /noeviction/)
        const own = yield* client(Effect.succeed(server.url))
        yield* own.send("CONFIG", "SET", "maxmemory-policy", "noeviction")
        yield* eventually(outcome(create(store, session())), (told) => told === "ok", "5 seconds")
      })
    )
  )

  it.live("nothing is asked of a server that took the place of another before it was looked at", () =>
    logged(() =>
      Effect.gen(function* () {
        const server = yield* ownServer()
        const store = yield* instance({ url: server.url, onUnsafe: "refuse" })
        yield* create(store, session())
        const own = yield* client(Effect.succeed(server.url))
        yield* eventually(own.send("PUBSUB", "NUMSUB", "holdfast:ended"), (reply) => String(reply).endsWith(",1"))
        yield* own.send("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        yield* own.send("CLIENT", "KILL", "TYPE", "normal")
        const said = Effect.match(create(store, session()), {
          onFailure: ({ reason }) => String(reason._tag === "SessionsUnavailable" && reason.cause),
          onSuccess: () => "ok"
        })
        // Until it is noticed that the connection is lost, that is the answer.
        const told = yield* eventually(said, (told) => /^ok$|Set maxmemory-policy/.test(told), "5 seconds")
        assert.match(told, /noeviction/)
        assert.strictEqual(yield* own.send("ZCARD", "holdfast:due"), 1)
      })
    )
  )
})
