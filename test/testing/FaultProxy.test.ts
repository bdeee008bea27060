import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { createServer, connect, type AddressInfo, type Socket } from "node:net"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { client, redisUrl } from "../support/redis.ts"

/** A server that says what it hears. */
const echoing = Effect.acquireRelease(
  Effect.callback<{ readonly host: string; readonly port: number; readonly stop: () => void }>((resume) => {
    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      sockets.add(socket)
      socket.on("error", () => socket.destroy())
      socket.on("data", (bytes) => socket.write(bytes))
    })
    const stop = () => {
      server.close()
      for (const socket of sockets) socket.destroy()
    }
    server.listen(0, "127.0.0.1", () =>
      resume(Effect.succeed({ host: "127.0.0.1", port: (server.address() as AddressInfo).port, stop }))
    )
  }),
  ({ stop }) => Effect.sync(stop)
)

/** A connection and what it has heard, piece by piece. */
const connected = (port: number): Effect.Effect<Dialogue, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const socket = connect({ host: "127.0.0.1", port, noDelay: true })
      const pieces: Array<string> = []
      let end: string | undefined
      socket.on("data", (bytes) => pieces.push(bytes.toString("latin1")))
      socket.on("error", (error) => (end = Reflect.get(error, "code")))
      socket.on("close", () => (end ??= "closed"))
      return {
        say: (text: string) => void socket.write(text),
        pieces: () => pieces,
        heard: Effect.sync(() => pieces.join("")),
        end: Effect.sync(() => end),
        close: () => void socket.destroy()
      }
    }),
    ({ close }) => Effect.sync(close)
  )

interface Dialogue {
  readonly say: (text: string) => void
  readonly pieces: () => ReadonlyArray<string>
  readonly heard: Effect.Effect<string>
  readonly end: Effect.Effect<string | undefined>
  readonly close: () => void
}

const world = Effect.gen(function* () {
  const server = yield* echoing
  const proxy = yield* FaultProxy.make(server)
  return { proxy, open: connected(proxy.port) }
})

const hears = ({ heard }: Dialogue, text: string) => eventually(heard, (all) => all === text)

describe.concurrent("a network that misbehaves", () => {
  it.live("passes, refuses, swallows, as is decided for the n-th connection", () =>
    Effect.gen(function* () {
      const { open, proxy } = yield* world
      yield* proxy.decide((n) => (n === 1 ? "pass" : n === 2 ? "refuse" : "swallow"))
      const one = yield* open
      one.say("hello")
      yield* hears(one, "hello")
      const two = yield* open
      yield* eventually(two.end, (end) => end === "ECONNRESET")
      const three = yield* open
      three.say("hello")
      yield* eventually(proxy.open, (open) => open === 1.5)
      one.say(", you")
      yield* hears(one, "hello, you")
      assert.deepStrictEqual(three.pieces(), [])
    })
  )

  it.live("delays every byte, and keeps their order", () =>
    Effect.gen(function* () {
      const { open, proxy } = yield* world
      yield* proxy.decide(() => ({ delay: 40 }))
      const one = yield* open
      const began = performance.now()
      for (const letter of "abcdefghij") one.say(letter)
      yield* hears(one, "abcdefghij")
      assert.isAtLeast(performance.now() - began, 79)
    })
  )

  it.live("lets so many bytes a second pass", () =>
    Effect.gen(function* () {
      const { open, proxy } = yield* world
      yield* proxy.decide(() => ({ throttle: 10_000 }))
      const one = yield* open
      const began = performance.now()
      one.say("x".repeat(1000))
      yield* hears(one, "x".repeat(1000))
      assert.isAtLeast(performance.now() - began, 199)
    })
  )

  it.live("splits what is said into small packets, and sends what was said apart as one", () =>
    Effect.gen(function* () {
      const { open, proxy } = yield* world
      yield* proxy.decide((n) => (n === 1 ? { split: 2 } : { coalesce: 60 }))
      const split = yield* open
      split.say("abcdef")
      yield* hears(split, "abcdef")
      assert.isAtLeast(split.pieces().length, 3)
      const whole = yield* open
      whole.say("ab")
      yield* Effect.yieldNow
      whole.say("cd")
      yield* hears(whole, "abcd")
      assert.strictEqual(whole.pieces().length, 1)
    })
  )

  it.live("cuts in the middle of an answer, and what is open at any time", () =>
    Effect.gen(function* () {
      const { open, proxy } = yield* world
      yield* proxy.decide((n) => (n === 1 ? { cutAfter: 5 } : "pass"))
      const one = yield* open
      one.say("hello")
      yield* hears(one, "hello")
      one.say("again")
      yield* eventually(one.end, (end) => end === "ECONNRESET")
      const two = yield* open
      two.say("hello")
      yield* hears(two, "hello")
      yield* proxy.cut
      yield* eventually(two.end, (end) => end === "ECONNRESET")
    })
  )

  it.live("swallows what is open, and what is new works", () =>
    Effect.gen(function* () {
      const { open, proxy } = yield* world
      const old = yield* open
      old.say("a")
      yield* hears(old, "a")
      yield* proxy.swallowOpen
      old.say("b")
      const young = yield* open
      young.say("c")
      yield* hears(young, "c")
      assert.deepStrictEqual(old.pieces(), ["a"])
      assert.isUndefined(yield* old.end)
    })
  )

  it.live("is silent for a while: what lost a byte is lost, what had nothing to say goes on", () =>
    Effect.gen(function* () {
      const { open, proxy } = yield* world
      const [speaker, listener] = [yield* open, yield* open]
      for (const each of [speaker, listener]) {
        each.say("a")
        yield* hears(each, "a")
      }
      yield* proxy.silence
      speaker.say("b")
      const during = yield* open
      during.say("c")
      yield* eventually(proxy.dropped, (bytes) => bytes === 2)
      yield* proxy.speak
      listener.say("d")
      yield* hears(listener, "ad")
      speaker.say("e")
      const after = yield* open
      after.say("f")
      yield* hears(after, "f")
      assert.deepStrictEqual([speaker.pieces(), during.pieces()], [["a"], []])
    })
  )

  it.live("follows a script over time", () =>
    Effect.gen(function* () {
      const { open, proxy } = yield* world
      const one = yield* open
      one.say("a")
      yield* hears(one, "a")
      const frozen = yield* Latch.make(false)
      const heard = yield* Latch.make(false)
      yield* Effect.forkChild(
        proxy.script(
          ["1 millis", Effect.andThen(proxy.freeze, frozen.open)],
          ["60 millis", proxy.thaw],
          ["1 millis", Effect.andThen(heard.await, proxy.cut)]
        )
      )
      yield* frozen.await
      one.say("b")
      yield* hears(one, "ab")
      yield* heard.open
      yield* eventually(one.end, (end) => end === "ECONNRESET")
    })
  )

  it.live("loses the notifications of PostgreSQL and of Redis, and nothing else", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const network = yield* FaultProxy.to(url)
      const [listener, teller] = [yield* PgConnection.make({ url: network.url }), yield* PgConnection.make({ url })]
      const heard = yield* listener.listen("news")
      yield* network.loseNotifications(true)
      yield* teller.query("select pg_notify('news', 'lost')")
      yield* eventually(network.lost, (lost) => lost === 1)
      yield* network.loseNotifications(false)
      yield* teller.query("select pg_notify('news', 'told')")
      assert.strictEqual((yield* Queue.take(heard)).payload, "told")

      const redis = yield* FaultProxy.to(yield* redisUrl)
      const behind = yield* client(Effect.succeed(redis.url))
      yield* redis.loseNotifications(true)
      assert.strictEqual(yield* behind.send("PING"), "PONG")
      const unknown = yield* FaultProxy.make({ host: "127.0.0.1", port: 1 })
      const exit = yield* Effect.exit(unknown.loseNotifications(true))
      assert.include(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", "name `protocol`")
      assert.notStrictEqual(Redacted.value(redis.url), Redacted.value(yield* redisUrl))
    })
  )
})
