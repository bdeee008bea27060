import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Redis from "effect/persistence/Redis"
import * as Redacted from "effect/Redacted"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import { once } from "node:events"
import * as Net from "node:net"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as RedisConnection from "../../src/redis/RedisConnection.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as LeakCheck from "../../src/testing/LeakCheck.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import { client, freshPrefix, ownServer, redisUrl } from "../support/redis.ts"

const increase = Redis.script((key: string) => [key], {
  numberOfKeys: 1,
  lua: "return redis.call('INCR', KEYS[1])"
}).withReturnType<unknown>()

const answer = <A, E>(work: Effect.Effect<A, E>) => Effect.exit(work)

const through = (url: Redacted.Redacted, port: number) => {
  const parsed = new URL(Redacted.value(url))
  parsed.host = `127.0.0.1:${port}`
  return Redacted.make(parsed.href)
}

const targetOf = (url: Redacted.Redacted) => {
  const { hostname, port } = new URL(Redacted.value(url))
  return { host: hostname, port: Number(port) }
}

/** How many connections of this name the shared server has. */
const connectionsOf = (name: string) =>
  client().pipe(
    Effect.flatMap(({ send }) => send("CLIENT", "LIST")),
    Effect.map((list) => String(list).split(`name=${name} `).length - 1),
    Effect.scoped
  )

describe("a connection to Redis", () => {
  it.live("is built while the server is away, says so, and is there when the server is", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      yield* server.stop
      const lines: Array<string> = []
      const logger = Logger.make(({ logLevel, message }) => void lines.push(`${logLevel}: ${String(message)}`))
      yield* Effect.gen(function* () {
        const redis = yield* RedisConnection.make({ url: server.url })
        const error = yield* Effect.flip(redis.send("INCR", "once"))
        assert.match(RedisConnection.messageOf(error), /ECONNREFUSED/)
        // It is known to be away: nobody waits to be told so.
        const began = performance.now()
        for (let index = 0; index < 20; index++) yield* Effect.flip(redis.send("INCR", "once"))
        assert.isBelow(performance.now() - began, inTimeOf(1000))
        yield* server.start
        const back = yield* eventually(answer(redis.send("GET", "once")), Exit.isSuccess, "5 seconds")
        // What was refused is not sent later.
        assert.deepStrictEqual(back, Exit.succeed(null))
        yield* eventually(
          Effect.sync(() => lines),
          (lines) => lines.length === 2
        )
      }).pipe(Effect.provide(Logger.layer([logger])))
      assert.match(
        lines[0] ?? "",
        /^Warn: Redis at 127\.0\.0\.1:\d+ cannot be used: .*ECONNREFUSED.*Holdfast keeps trying\.$/
      )
      assert.match(lines[1] ?? "", /^Info: Redis at 127\.0\.0\.1:\d+ can be used again\.$/)
    }).pipe(Effect.scoped)
  )

  it.live("a server that is killed and comes back is answered for within five seconds, its scripts loaded anew", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const redis = yield* RedisConnection.make({ url: server.url })
      assert.strictEqual(yield* redis.eval(increase)("n"), 1)
      yield* server.kill
      assert.isTrue(Exit.isFailure(yield* Effect.exit(redis.eval(increase)("n"))))
      yield* server.start
      const back = yield* eventually(answer(redis.eval(increase)("n")), Exit.isSuccess, "5 seconds")
      assert.deepStrictEqual(back, Exit.succeed(2))
      yield* redis.send("SCRIPT", "FLUSH")
      assert.strictEqual(yield* redis.eval(increase)("n"), 3)
    }).pipe(Effect.scoped)
  )

  it.live("a server that stands still is reported within the limit, and is there again when it goes on", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const redis = yield* RedisConnection.make({ url: server.url, operationTimeout: "500 millis" })
      yield* eventually(answer(redis.send("PING")), Exit.isSuccess)
      yield* server.pause
      const began = performance.now()
      const errors = yield* Effect.all(
        Array.from({ length: 200 }, () => Effect.flip(redis.send("GET", "x"))),
        { concurrency: "unbounded" }
      )
      assert.isBelow(performance.now() - began, inTimeOf(1500))
      for (const error of errors) assert.match(RedisConnection.messageOf(error), /did not answer within 500ms/)
      // Until the connection was given up, and the next could not be had.
      yield* eventually(Effect.flip(redis.send("GET", "x")), () => performance.now() - began > 2500, "10 seconds")
      yield* server.resume
      yield* eventually(answer(redis.send("GET", "x")), Exit.isSuccess, "5 seconds")
    }).pipe(Effect.scoped)
  )

  it.live("a connection that is dead without a word is replaced, and its end waits for nothing", () =>
    Effect.gen(function* () {
      const url = yield* redisUrl
      const proxy = yield* FaultProxy.to(url)
      const options = { url: proxy.url, operationTimeout: "500 millis" } as const
      let closing = 0
      yield* Effect.gen(function* () {
        const redis = yield* RedisConnection.make(options)
        const listening = yield* Effect.forkScoped(redis.listen("nobody", () => Effect.void))
        yield* eventually(answer(redis.send("PING")), Exit.isSuccess)
        yield* proxy.silence
        assert.match(
          RedisConnection.messageOf(yield* Effect.flip(redis.send("PING"))),
          /did not answer within 500ms|closed/
        )
        yield* proxy.speak
        yield* eventually(answer(redis.send("PING")), Exit.isSuccess, "5 seconds")
        yield* proxy.silence
        const waiting = yield* Effect.forkChild(redis.send("PING"), { startImmediately: true })
        closing = performance.now()
        yield* Fiber.interrupt(waiting)
        yield* Fiber.interrupt(listening)
      }).pipe(Effect.scoped)
      assert.isBelow(performance.now() - closing, inTimeOf(1000))
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.live("its end waits for no connect that is not answered", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make(targetOf(yield* redisUrl))
      yield* proxy.decide(() => "swallow")
      const began = performance.now()
      yield* Effect.gen(function* () {
        const redis = yield* RedisConnection.make({ url: proxy.through(yield* redisUrl) })
        yield* Effect.forkChild(redis.send("PING"))
        yield* eventually(proxy.open, (open) => open > 0)
      }).pipe(Effect.scoped)
      assert.isBelow(performance.now() - began, inTimeOf(1000))
      yield* eventually(proxy.open, (open) => open === 0)
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.live("closed at whatever moment of its beginning, it leaves no connection to the server", () =>
    Effect.gen(function* () {
      const url = yield* redisUrl
      const name = yield* freshPrefix
      for (const step of [3, 4, 5]) {
        for (let turns = 0; turns < 60; turns++) {
          yield* Effect.gen(function* () {
            yield* RedisConnection.make({ url, name })
            for (let turn = 0; turn < turns; turn++) yield* Effect.yieldNow
          }).pipe(Effect.scoped, Effect.provideService(Scheduler.MaxOpsBeforeYield, step))
        }
      }
      yield* LedgerRecorder.assertEmpty()
      // It begins after all of them, so by now the server knows them, too.
      const last = yield* RedisConnection.make({ url, name })
      yield* last.send("PING")
      yield* eventually(connectionsOf(name), (count) => count === 1)
      // A connection that never said its name is seen on this side only.
    }).pipe(Effect.scoped, LeakCheck.around(), Effect.provide(Ledger.layer))
  )

  it.live("its end is the end of its subscriptions, also where somebody goes on listening", () =>
    Effect.gen(function* () {
      const name = yield* freshPrefix
      const scope = yield* Scope.make()
      const redis = yield* Scope.provide(RedisConnection.make({ url: yield* redisUrl, name }), scope)
      const heard: Array<string> = []
      yield* Effect.forkScoped(redis.listen(name, ({ _tag }) => Effect.sync(() => void heard.push(_tag))))
      yield* eventually(
        Effect.sync(() => heard.join(" ")),
        (heard) => heard === "There"
      )
      yield* Scope.close(scope, Exit.void)
      yield* eventually(connectionsOf(name), (count) => count === 0)
      assert.deepStrictEqual(heard, ["There", "Lost"])
    }).pipe(Effect.scoped)
  )

  it.live("a subscription that is given up while it connects leaves no connection to the server", () =>
    Effect.gen(function* () {
      const name = yield* freshPrefix
      const redis = yield* RedisConnection.make({ url: yield* redisUrl, name })
      yield* redis.send("PING")
      for (let turn = 0; turn < 10; turn++) {
        yield* Fiber.interrupt(
          yield* Effect.forkChild(
            redis.listen(name, () => Effect.void),
            { startImmediately: true }
          )
        )
      }
      const there = yield* Deferred.make<void>()
      yield* Effect.forkScoped(redis.listen(name, () => Effect.asVoid(Deferred.succeed(there, undefined))))
      yield* Deferred.await(there)
      yield* eventually(connectionsOf(name), (count) => count === 2)
    }).pipe(Effect.scoped)
  )

  it.live("a connection to a server that became a replica is replaced", () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      const raw = yield* client(Effect.succeed(server.url))
      const redis = yield* RedisConnection.make({ url: server.url })
      const id = yield* redis.send("CLIENT", "ID")
      yield* raw.send("REPLICAOF", "127.0.0.1", "1")
      assert.match(RedisConnection.messageOf(yield* Effect.flip(redis.send("SET", "x", "1"))), /^READONLY/)
      yield* eventually(answer(redis.send("CLIENT", "ID")), (next) => Exit.isSuccess(next) && next.value !== id)
      yield* raw.send("REPLICAOF", "NO", "ONE")
      yield* eventually(answer(redis.send("SET", "x", "1")), Exit.isSuccess, "5 seconds")
    }).pipe(Effect.scoped)
  )

  it.live("its errors repeat neither arguments nor passwords", () =>
    Effect.gen(function* () {
      const server = yield* ownServer({ password: "Secret-right" })
      const redis = yield* RedisConnection.make({ url: server.url })
      const unknown = yield* Effect.flip(redis.send("NOSUCH", "Secret-argument"))
      assert.match(RedisConnection.messageOf(unknown), /^ERR unknown command/)
      const wrong = yield* RedisConnection.make({
        url: Redacted.make(`redis://:Secret-wrong@127.0.0.1:${server.port}`)
      })
      const refused = yield* Effect.flip(wrong.send("PING"))
      assert.match(RedisConnection.messageOf(refused), /WRONGPASS|invalid/)
      const urls = ["Secret", "http://Secret@x", "redis://Secret@x/name", "redis://:Secret%@x", "redis:Secret"]
      const bad = yield* Effect.forEach(urls, (url) =>
        Effect.flip(Effect.scoped(RedisConnection.make({ url: Redacted.make(url) })))
      )
      for (const error of bad) assert.match(RedisConnection.messageOf(error), /^The URL of Redis must /)
      for (const error of [unknown, refused, ...bad]) {
        assert.notInclude(JSON.stringify(error) + String(error.cause) + error.message, "Secret")
      }
    }).pipe(Effect.scoped)
  )

  it.live("a subscription hears every message in order, tells when it is lost, and is there again", () =>
    Effect.gen(function* () {
      const url = yield* redisUrl
      const channel = yield* freshPrefix
      const raw = yield* client()
      const proxy = yield* FaultProxy.to(url)
      const redis = yield* RedisConnection.make({
        url: proxy.url,
        operationTimeout: "2 seconds",
        listenerCheck: "200 millis"
      })
      const heard: Array<string> = []
      const hear = (one: RedisConnection.Heard) =>
        Effect.sync(() => void heard.push(one._tag === "Message" ? one.text : one._tag))
      yield* Effect.forkScoped(redis.listen(channel, hear))
      const until = (count: number) =>
        eventually(
          Effect.sync(() => heard),
          (heard) => heard.length >= count,
          "10 seconds"
        )
      yield* until(1)
      for (let index = 0; index < 100; index++) yield* raw.send("PUBLISH", channel, `m${index}`)
      yield* until(101)
      assert.deepStrictEqual(heard, ["There", ...Array.from({ length: 100 }, (_, index) => `m${index}`)])
      // Nobody closes it: it is deaf, and that is found out.
      yield* proxy.silence
      yield* until(102)
      yield* proxy.speak
      yield* until(103)
      yield* raw.send("PUBLISH", channel, "again")
      yield* until(104)
      assert.deepStrictEqual(heard.slice(101), ["Lost", "There", "again"])
    }).pipe(Effect.scoped)
  )

  it.live("a subscription that alone goes deaf is found out by asking it, and replaced", () =>
    Effect.gen(function* () {
      const url = yield* redisUrl
      const channel = yield* freshPrefix
      const clients: Array<Net.Socket> = []
      const upstreams: Array<Net.Socket> = []
      const { port } = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const server = Net.createServer((socket) => {
            const upstream = Net.connect(targetOf(url))
            clients.push(socket)
            upstreams.push(upstream)
            for (const each of [socket, upstream]) each.on("error", () => undefined)
            socket.pipe(upstream).pipe(socket)
          })
          await once(server.listen(0, "127.0.0.1"), "listening")
          return { server, port: (server.address() as Net.AddressInfo).port }
        }),
        ({ server }) =>
          Effect.sync(() => {
            for (const socket of [...clients, ...upstreams]) socket.destroy()
            server.close()
          })
      )
      const redis = yield* RedisConnection.make({
        url: through(url, port),
        operationTimeout: "2 seconds",
        listenerCheck: "200 millis"
      })
      yield* redis.send("PING")
      const heard: Array<string> = []
      yield* Effect.forkScoped(redis.listen(channel, ({ _tag }) => Effect.sync(() => void heard.push(_tag))))
      const until = (expected: string) =>
        eventually(
          Effect.sync(() => heard.join(" ")),
          (heard) => heard === expected
        )
      yield* until("There")
      const id = yield* redis.send("CLIENT", "ID")
      // Commands have the first connection, the subscription the second.
      clients[1]?.unpipe()
      yield* until("There Lost There")
      assert.strictEqual(yield* redis.send("CLIENT", "ID"), id)
    }).pipe(Effect.scoped)
  )
})
