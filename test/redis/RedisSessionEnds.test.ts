import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { eventually } from "../support/conditions.ts"
import { instance, redisWorld, rewrite } from "../support/redisSessions.ts"

const newSession = {
  principal: "alice",
  data: {},
  dataVersion: 1,
  device: {},
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 1000
}

/** An instance of a program: its map of sessions over its own store. */
const program = (options: RedisSessionStore.Options & Sessions.Options) =>
  Effect.gen(function* () {
    const store = yield* instance(options)
    const layer = Layer.fresh(Sessions.layer(options)).pipe(Layer.provide(Layer.succeed(SessionStore, store)))
    return { store, sessions: Context.get(yield* Layer.build(layer), Sessions.Sessions) }
  })

/** A program, and another behind a proxy, which listens already. */
const world = Effect.fnUntraced(function* (options: Partial<RedisSessionStore.Options> & Sessions.Options) {
  const { advance, client, prefix, url } = yield* redisWorld
  const { hostname, port } = new URL(Redacted.value(url))
  const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
  const here = yield* program({ url, prefix })
  const there = yield* program({ prefix, url: proxy.through(url), ...options })
  // The world's own two instances listen as well.
  const listening = eventually(client.send("PUBSUB", "NUMSUB", `${prefix}:ended`), (reply) =>
    String(reply).endsWith(",4")
  )
  yield* listening
  const { record, token } = yield* here.sessions.create(newSession)
  return { advance, client, prefix, proxy, here, there, listening, record, token }
})

const within =
  (duration: Duration.Input) =>
  (ended: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.timeoutOrElse(ended, { duration, orElse: () => Effect.die(new Error("The end did not arrive in time")) })

describe("RedisSessionEnds", () => {
  it.live(
    "S9 the end of a session reaches every instance within two seconds, alone, displaced or with all others",
    () =>
      Effect.gen(function* () {
        const { here, there, token } = yield* world({ pollInterval: "1 hour" })
        const { lifetime, record } = yield* there.sessions.open(token)
        yield* here.sessions.end(record.id)
        yield* within("2 seconds")(lifetime.ended)
        const displaced = yield* here.sessions.create(newSession)
        const first = yield* there.sessions.open(displaced.token)
        const second = yield* here.sessions.create({ ...newSession, maxPerPrincipal: 1 })
        yield* within("2 seconds")(first.lifetime.ended)
        const held = [yield* there.sessions.open(second.token)]
        // More than go into one message.
        const many = yield* Effect.forEach(Array.from({ length: 150 }), () => here.sessions.create(newSession))
        for (const { token } of many) held.push(yield* there.sessions.open(token))
        yield* (yield* here.sessions.revokeAll("alice")).over
        yield* within("2 seconds")(Effect.forEach(held, ({ lifetime }) => lifetime.ended, { discard: true }))
      })
  )

  it.live("S9 an end that comes while the listener is cut off is found when it is back", () =>
    Effect.gen(function* () {
      const { here, listening, proxy, there, token } = yield* world({ pollInterval: "1 hour" })
      const { lifetime, record } = yield* there.sessions.open(token)
      yield* proxy.decide(() => "refuse")
      yield* proxy.cut
      yield* here.sessions.end(record.id)
      yield* proxy.decide(() => "pass")
      yield* within("5 seconds")(lifetime.ended)
      yield* listening
    })
  )

  it.live("S9 a listener whose network swallows everything is given up, and what it missed is found", () =>
    Effect.gen(function* () {
      const options = { pollInterval: "1 hour", listenerCheck: "500 millis", operationTimeout: "1 second" } as const
      const { here, proxy, there, token } = yield* world(options)
      const { lifetime, record } = yield* there.sessions.open(token)
      yield* proxy.freeze
      yield* here.sessions.end(record.id)
      yield* within("5 seconds")(lifetime.ended)
    })
  )

  it.live("S9 a forged message ends nothing, and a broken one breaks nothing", () =>
    Effect.gen(function* () {
      const { client, here, prefix, there, token } = yield* world({ pollInterval: "1 hour" })
      const held = yield* there.sessions.open(token)
      const other = yield* here.sessions.create(newSession)
      const ending = yield* there.sessions.open(other.token)
      for (const text of [
        held.record.id,
        "",
        " ",
        "s_",
        `${held.record.id} ${held.record.id}`,
        `x ${SessionId.make()}`,
        "x".repeat(100_000),
        "{}",
        "\u{1F388}"
      ]) {
        yield* client.send("PUBLISH", `${prefix}:ended`, text)
      }
      yield* here.sessions.end(other.record.id)
      yield* within("2 seconds")(ending.lifetime.ended)
      assert.isFalse(held.lifetime.isEnding())
    })
  )

  it.live("S9 an end that nobody tells is found by polling, also of a session that expired", () =>
    Effect.gen(function* () {
      const { advance, client, here, prefix, there, token } = yield* world({ pollInterval: "300 millis" })
      const { lifetime, record } = yield* there.sessions.open(token)
      // An end that no script wrote.
      yield* rewrite(client, prefix, record.id, { ended: "1", stamp: "1" })
      yield* within("3 seconds")(lifetime.ended)
      const expiring = yield* here.sessions.create({ ...newSession, absoluteTimeout: Duration.hours(1) })
      const held = yield* there.sessions.open(expiring.token)
      yield* advance("1 hour")
      yield* within("3 seconds")(held.lifetime.ended)
    })
  )
})
