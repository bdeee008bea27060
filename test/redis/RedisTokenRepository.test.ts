import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as RedisTokenRepository from "../../src/redis/RedisTokenRepository.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as TokenRepositoryLaws from "../../src/testing/TokenRepositoryLaws.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { eventually } from "../support/conditions.ts"
import { client, freshPrefix, keysOf, ownServer, redisUrl } from "../support/redis.ts"
import { keyOf, keys } from "../support/tokens.ts"
import { claim, replace, replacement } from "../../src/testing/internal/TokenSamples.ts"

const world = Effect.gen(function* () {
  const options = { url: yield* redisUrl, keys, prefix: yield* freshPrefix }
  return { options, repository: yield* RedisTokenRepository.make(options), redis: yield* client() }
})

TokenRepositoryLaws.run(
  Layer.effect(
    TokenRepositoryLaws.World,
    Effect.flatMap(world, ({ options }) =>
      Effect.all({ one: RedisTokenRepository.make(options), other: RedisTokenRepository.make(options) })
    )
  ),
  { name: "RedisTokenRepository" }
)

describe("RedisTokenRepository", () => {
  it.live("keys that are dumped show no token, and belong to the prefix and the account", () =>
    Effect.gen(function* () {
      const { options, redis, repository } = yield* world
      yield* replace(repository, "alice", replacement("Secret-access", "Secret-refresh"))
      assert.deepStrictEqual(yield* keysOf(redis, options.prefix), [`${options.prefix}:account:alice`])
      const fields = yield* redis.send("HVALS", `${options.prefix}:account:alice`)
      const bytes = String(fields) + Buffer.from(String(fields), "base64").toString("latin1")
      assert.notInclude(bytes, "Secret")
      assert.notInclude(String(fields), Buffer.from("Secret").toString("base64").slice(0, 8))
    }).pipe(Effect.scoped)
  )

  it.live("what was moved to another tenant, or whose key is gone, is absent, is logged, and can be replaced", () =>
    Effect.gen(function* () {
      const { options, redis, repository } = yield* world
      yield* replace(repository, "alice", replacement("Secret-access", "Secret-refresh"))
      yield* redis.send("COPY", `${options.prefix}:account:alice`, `${options.prefix}:account:bob`)
      const lines: Array<string> = []
      const logger = Logger.make(({ message }) => lines.push(JSON.stringify(message)))
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* repository.get("bob"), { version: 1, access: undefined, refresh: undefined })
        assert.isDefined((yield* repository.get("alice")).access)
        const other = yield* RedisTokenRepository.make({ ...options, keys: [keyOf("k2", 2)] })
        assert.isUndefined((yield* other.get("alice")).access)
        assert.strictEqual(yield* replace(other, "alice", replacement("a2")), 2)
      }).pipe(Effect.provide(Logger.layer([logger])))
      assert.lengthOf(lines, 3)
      for (const line of lines) assert.match(line, /cannot be decrypted/)
    }).pipe(Effect.scoped)
  )

  it.live("a token that was had before the memory was full is kept: the one before may be of no use any more", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const own = yield* client(Effect.succeed(server.url))
      const repository = yield* RedisTokenRepository.make({ url: server.url, keys })
      assert.strictEqual(yield* replace(repository, "alice", replacement("a1", "r1")), 1)
      assert.strictEqual((yield* repository.lock("alice", claim("first", 1)))._tag, "Locked")
      yield* own.send("CONFIG", "SET", "maxmemory", "1")
      assert.strictEqual(yield* repository.put("alice", "first", replacement("a2", "r2")), 2)
      yield* repository.invalidate("alice", 2)
      const { access, refresh } = yield* repository.get("alice")
      assert.isTrue(access?.isRejected)
      assert.strictEqual(refresh && Redacted.value(refresh), "r2")
      const error = yield* Effect.flip(repository.lock("bob", claim("second", 0)))
      assert.match(error.message, /OOM/)
    }).pipe(Effect.scoped)
  )

  it.live("Redis Cluster is RefreshFailed and says what to use instead", () =>
    Effect.gen(function* () {
      const server = yield* ownServer({ config: ["cluster-enabled yes"] })
      const repository = yield* RedisTokenRepository.make({ url: server.url, keys })
      for (const operation of [
        Effect.asVoid(repository.get("alice")),
        Effect.asVoid(repository.lock("alice", claim("first", 0)))
      ]) {
        const error = yield* Effect.flip(operation)
        assert.strictEqual(error.reason._tag, "RefreshFailed")
        assert.match(error.message, /tokens cannot be kept in Redis Cluster.*Use one primary/)
      }
    }).pipe(Effect.scoped)
  )

  it.live("what this version cannot read is RefreshFailed, and takes no other account down", () =>
    Effect.gen(function* () {
      const { options, redis, repository } = yield* world
      yield* redis.send("HSET", `${options.prefix}:account:odd`, "version", "1", "sealed", "x", "obtainedAt", "0")
      yield* redis.send("SET", `${options.prefix}:account:text`, "1")
      for (const account of ["odd", "text"]) {
        const error = yield* Effect.flip(repository.get(account))
        assert.strictEqual(error.reason._tag, "RefreshFailed")
      }
      assert.strictEqual(yield* replace(repository, "alice", replacement("a1")), 1)
    }).pipe(Effect.scoped)
  )

  it.live("a server that cannot be reached is RefreshFailed and names no password; bad options are InvalidConfig", () =>
    Effect.gen(function* () {
      const url = Redacted.make("redis://:Secret@127.0.0.1:1/2")
      const away = yield* RedisTokenRepository.make({ url, keys })
      const error = yield* Effect.flip(away.get("alice"))
      assert.strictEqual(error.reason._tag, "RefreshFailed")
      assert.match(error.message, /redis:\/\/127.0.0.1:1\/2.*ECONNREFUSED/)
      assert.notInclude(error.message, "Secret")
      for (const bad of [
        { url: Redacted.make("http://Secret@x"), keys },
        { url, keys, prefix: "a b" },
        { url, keys, operationTimeout: "0 millis" as const }
      ]) {
        const error = yield* Effect.flip(RedisTokenRepository.make(bad))
        assert.strictEqual(error.reason._tag, "InvalidConfig")
        assert.notInclude(error.message, "Secret")
      }
    }).pipe(Effect.scoped)
  )

  it.live(
    "a server that stands still is reported within the limit, the end waits for nothing, and a lock outlives it",
    () =>
      Effect.gen(function* () {
        const server = yield* ownServer()
        const options = { url: server.url, keys, operationTimeout: "500 millis" } as const
        const survivor = yield* RedisTokenRepository.make(options)
        let began = 0
        yield* Effect.gen(function* () {
          const repository = yield* RedisTokenRepository.make(options)
          // A machine that is busy may need more than the limit to begin with, and the lock be taken all the same.
          yield* eventually(Effect.exit(repository.lock("alice", claim("first", 0))), Exit.isSuccess)
          yield* server.pause
          began = performance.now()
          const error = yield* Effect.flip(repository.put("alice", "first", replacement("a1")))
          assert.strictEqual(error.reason._tag, "RefreshFailed")
          const waiting = yield* Effect.forkChild(repository.get("alice"), { startImmediately: true })
          yield* Fiber.interrupt(waiting)
        }).pipe(Effect.scoped)
        assert.isBelow(performance.now() - began, 2000)
        yield* server.kill
        yield* server.start
        const kept = yield* eventually(Effect.exit(survivor.get("alice")), Exit.isSuccess, "5 seconds")
        assert.strictEqual(Exit.isSuccess(kept) && kept.value.version, 0)
        const locking = Effect.exit(survivor.lock("alice", claim("next", 0)))
        const busy = yield* eventually(locking, Exit.isSuccess, "5 seconds")
        assert.strictEqual(Exit.isSuccess(busy) && busy.value._tag, "Busy")
        const putting = Effect.exit(survivor.put("alice", "first", replacement("a1")))
        assert.deepStrictEqual(yield* eventually(putting, Exit.isSuccess, "5 seconds"), Exit.succeed(1))
      }).pipe(Effect.scoped, Effect.andThen(LedgerRecorder.assertEmpty()), Effect.provide(Ledger.layer))
  )
})
