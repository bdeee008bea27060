import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as PgSessionSql from "../../src/postgres/internal/PgSessionSql.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { eventually } from "../support/conditions.ts"
import { pgWorld } from "../support/sessions.ts"

const newSession = {
  principal: "alice",
  data: {},
  dataVersion: 1,
  device: {},
  idleTimeout: Duration.minutes(30),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 100
}

/** An instance of a program: its map of sessions over its own store. */
const program = (options: PgSessionStore.Options & Sessions.Options) =>
  Effect.map(
    Layer.build(
      Layer.fresh(Sessions.layer(options).pipe(Layer.provideMerge(Layer.fresh(PgSessionStore.layer(options)))))
    ),
    (context) => ({
      sessions: Context.get(context, Sessions.Sessions),
      store: Context.get(context, SessionStore)
    })
  )

/** A database with a program on it, and another behind a proxy, in which only the listener's connection is open yet. */
const world = Effect.fnUntraced(function* (options: Partial<PgSessionStore.Options> & Sessions.Options) {
  const { advance, connection, url } = yield* pgWorld
  const { hostname, port } = new URL(Redacted.value(url))
  const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
  const here = yield* program({ url })
  const applicationName = "there"
  const there = yield* program({ applicationName, url: proxy.through(url), ...options })
  const listeners = Effect.map(
    connection.queryValues(
      "select pid from pg_stat_activity where application_name = $1 and (query like 'LISTEN%' or query = 'select 1')",
      [applicationName]
    ),
    (rows) => rows.length
  )
  const listening = eventually(listeners, (count) => count === 1)
  yield* listening
  const { record, token } = yield* here.sessions.create(newSession)
  return { advance, connection, url, proxy, here, there, listening, record, token }
})

const within =
  (duration: Duration.Input) =>
  (ended: Effect.Effect<void>): Effect.Effect<void> =>
    Effect.timeoutOrElse(ended, { duration, orElse: () => Effect.die(new Error("The end did not arrive in time")) })

describe("PgSessionEnds", () => {
  it.live("S9 the end of a session reaches every instance within two seconds", () =>
    Effect.gen(function* () {
      const { here, there, token } = yield* world({ pollInterval: "1 hour" })
      const { lifetime, record } = yield* there.sessions.open(token)
      yield* here.sessions.end(record.id)
      yield* within("2 seconds")(lifetime.ended)
    })
  )

  it.live("S9 a session that had to make room, or ends with all of its principal, is over on every instance", () =>
    Effect.gen(function* () {
      const { here, there, token } = yield* world({ pollInterval: "1 hour" })
      const first = yield* there.sessions.open(token)
      const second = yield* here.sessions.create({ ...newSession, maxPerPrincipal: 1 })
      yield* within("2 seconds")(first.lifetime.ended)
      const held = yield* there.sessions.open(second.token)
      yield* (yield* here.sessions.revokeAll("alice")).over
      yield* within("2 seconds")(held.lifetime.ended)
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
      yield* proxy.freeze
      const { lifetime, record } = yield* there.sessions.open(token)
      yield* here.sessions.end(record.id)
      yield* within("5 seconds")(lifetime.ended)
    })
  )

  it.live("S9 an end that nobody tells is found by polling", () =>
    Effect.gen(function* () {
      const { advance, here, proxy, there, token } = yield* world({
        pollInterval: "300 millis",
        listenerCheck: "1 hour"
      })
      yield* proxy.freeze
      const { lifetime, record } = yield* there.sessions.open(token)
      yield* here.sessions.end(record.id)
      yield* within("3 seconds")(lifetime.ended)
      const expiring = yield* here.sessions.create({ ...newSession, absoluteTimeout: Duration.hours(1) })
      const held = yield* there.sessions.open(expiring.token)
      yield* advance("1 hour")
      yield* within("3 seconds")(held.lifetime.ended)
    })
  )

  it.live("S9 a forged notification ends nothing, and a broken one breaks nothing", () =>
    Effect.gen(function* () {
      const { connection, here, there, token } = yield* world({ pollInterval: "1 hour" })
      const held = yield* there.sessions.open(token)
      const other = yield* here.sessions.create(newSession)
      const ending = yield* there.sessions.open(other.token)
      for (const payload of [held.record.id, "", "s_", "x".repeat(7900), SessionId.make(), "{}", "\u{1F388}"]) {
        yield* connection.query("select pg_notify($1, $2)", [PgSessionSql.channelOf("holdfast"), payload])
      }
      yield* here.sessions.end(other.record.id)
      yield* within("2 seconds")(ending.lifetime.ended)
      assert.isFalse(held.lifetime.isEnding())
    })
  )

  it.live("schemas of one database do not hear each other", () =>
    Effect.gen(function* () {
      const names = ["holdfast", "a".repeat(62) + "b", "a".repeat(62) + "c", "a".repeat(48), "a".repeat(49)]
      const channels = names.map(PgSessionSql.channelOf)
      assert.lengthOf(new Set(channels), names.length)
      const { connection } = yield* pgWorld
      for (const channel of channels) yield* connection.query("select pg_notify($1, '')", [channel])
    })
  )
})
