import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { existsSync } from "node:fs"
import * as ProcessTable from "../../src/node/internal/ProcessTable.ts"
import { client, freshPrefix, keysOf, ownServer } from "../support/redis.ts"

describe("the Redis servers of tests", () => {
  it.live("a fresh prefix of the shared server is empty, and its keys are gone afterwards", () =>
    Effect.gen(function* () {
      const redis = yield* client()
      const prefix = yield* Effect.scoped(
        Effect.gen(function* () {
          const prefix = yield* freshPrefix
          assert.deepStrictEqual(yield* keysOf(redis, prefix), [])
          yield* redis.send("SET", `${prefix}:one`, "1")
          assert.deepStrictEqual(yield* keysOf(redis, prefix), [`${prefix}:one`])
          return prefix
        })
      )
      assert.deepStrictEqual(yield* keysOf(redis, prefix), [])
    }).pipe(Effect.scoped)
  )

  it.effect("a server of its own survives a restart and a crash with its data and port, and leaves nothing", () =>
    Effect.gen(function* () {
      const { directory, identity } = yield* Effect.scoped(
        Effect.gen(function* () {
          const server = yield* ownServer({ password: "of-a-test", config: ["maxmemory 64mb"] })
          const ask = (...command: ReadonlyArray<string>) =>
            client(Effect.succeed(server.url)).pipe(
              Effect.flatMap(({ send }) => send(...command)),
              Effect.scoped
            )
          assert.deepStrictEqual(yield* ask("CONFIG", "GET", "maxmemory"), ["maxmemory", "67108864"])
          yield* ask("SET", "kept", "1")
          yield* server.restart
          assert.strictEqual(yield* ask("GET", "kept"), "1")
          yield* ask("SET", "kept", "2")
          yield* server.kill
          yield* Effect.flip(ask("GET", "kept"))
          assert.strictEqual(yield* server.pid, 0)
          yield* server.start
          assert.strictEqual(yield* ask("GET", "kept"), "2")
          const identity = ProcessTable.identityOf(yield* server.pid)
          // A server that stands still at the end is ended all the same.
          yield* server.pause
          return { directory: server.directory, identity }
        })
      )
      assert.isDefined(identity)
      assert.isFalse(identity !== undefined && ProcessTable.isAlive(identity))
      assert.isFalse(existsSync(directory))
    })
  )

  it.live("a server with a password that has much to load is ready when it has loaded it", () =>
    Effect.gen(function* () {
      // 100 microseconds for each key; after every thousand it answers that it is loading.
      const server = yield* ownServer({ password: "of-a-test", config: ["key-load-delay 100"] })
      const redis = client(Effect.succeed(server.url))
      const sets = Array.from({ length: 4000 }, (_, n) => `redis.call('set', 'k${n}', '1')`)
      yield* Effect.scoped(Effect.flatMap(redis, ({ send }) => send("EVAL", sets.join("\n"), "0")))
      yield* server.restart
      const size = yield* Effect.scoped(Effect.flatMap(redis, ({ send }) => send("DBSIZE")))
      assert.strictEqual(size, 4000)
    }).pipe(Effect.scoped)
  )

  it.live("a paused server answers when it is resumed, and not before", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const redis = yield* client(Effect.succeed(server.url))
      yield* server.pause
      const asked = yield* Effect.forkChild(redis.send("PING"), { startImmediately: true })
      assert.isTrue(Option.isNone(yield* Effect.timeoutOption(Fiber.await(asked), "300 millis")))
      yield* server.resume
      assert.strictEqual(yield* Fiber.join(asked), "PONG")
    }).pipe(Effect.scoped)
  )

  it.live("a server that cannot start says why", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(ownServer({ config: ["no-such-directive 1"] }))
      assert.match(error.message, /ended with code 1 before it was ready.*no-such-directive/s)
    }).pipe(Effect.scoped)
  )
})
