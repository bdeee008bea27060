/**
 * C10 for Holdfast's own connections to PostgreSQL: a network that forgets all that is open is found out, and the connections
 * that it took are not asked one after the other.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { vi } from "vitest"
import * as PgDirect from "../../src/postgres/internal/PgDirect.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as PgTokenRepository from "../../src/postgres/PgTokenRepository.ts"
import * as Users from "../../src/server/Users.ts"
import * as UsersMigrations from "../../src/server/UsersMigrations.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { instance } from "../support/sessions.ts"
import { aftermath, found, tell } from "../support/silence.ts"
import { keys, tokenDatabase } from "../support/tokens.ts"
import { create, session } from "../../src/testing/internal/SessionSamples.ts"
import { claim } from "../../src/testing/internal/TokenSamples.ts"

// All at once: each waits for seconds, and does little meanwhile.
vi.setConfig({ maxConcurrency: 6 })

const all = <A, E>(count: number, effect: Effect.Effect<A, E>) =>
  Effect.all(
    Array.from({ length: count }, () => effect),
    { concurrency: "unbounded", discard: true }
  )

const store = Effect.gen(function* () {
  const { url } = yield* freshDatabase
  yield* PgSessionStore.migrate({ url })
  const network = yield* FaultProxy.to(url)
  const store = yield* instance({ url: network.url })
  const here = yield* instance({ url })
  return { here, network, store }
})

const unavailable = /cannot be reached. Nobody was logged out/

describe.concurrent("connections of Holdfast's own", () => {
  it.live("C10 the readers of sessions are found out when they die without a word, all of them at once", () =>
    Effect.gen(function* () {
      const { network, store: there } = yield* store
      const wanted = session()
      yield* create(there, wanted)
      yield* all(200, there.list("alice"))
      yield* network.swallowOpen
      found("session reads", yield* aftermath(Effect.all([there.load(wanted.token), there.list("alice")])), unavailable)
    })
  )

  it.live("C10 the writers of sessions are found out when they die without a word, all of them at once", () =>
    Effect.gen(function* () {
      const { network, store: there } = yield* store
      const make = Effect.suspend(() => there.create(session({ principal: null })))
      yield* all(20, make)
      yield* network.swallowOpen
      found("session writes", yield* aftermath(make, { among: 1 }), unavailable)
      yield* network.swallowOpen
      found("session writes, eight at a time", yield* aftermath(make), unavailable)
    })
  )

  it.live("C10 connections that nobody used when they died cost nobody an answer", () =>
    Effect.gen(function* () {
      const { network, store: there } = yield* store
      const make = Effect.suspend(() => there.create(session({ principal: null })))
      yield* all(20, make)
      yield* network.swallowOpen
      // What nobody uses is not asked whether it is there until somebody does.
      yield* Effect.sleep("6 seconds")
      const [took, made] = yield* Effect.timed(Effect.exit(make))
      assert.strictEqual(made._tag, "Success", String(took))
    })
  )

  it.live("C10 the listener of sessions is found out when it dies without a word, and everything is asked", () =>
    Effect.gen(function* () {
      const { here, network, store: there } = yield* store
      let [unknown, heard] = [0, 0]
      yield* Effect.forkScoped(
        Stream.runForEach(there.ended, ({ _tag }) => Effect.sync(() => (_tag === "Unknown" ? unknown++ : heard++))),
        { startImmediately: true }
      )
      const end = Effect.suspend(() => Effect.flatMap(create(here, session()), ({ id }) => here.revoke(id)))
      yield* eventually(
        Effect.map(end, () => heard),
        (heard) => heard > 0
      )
      const before = unknown
      yield* network.swallowOpen
      const began = performance.now()
      yield* eventually(
        Effect.sync(() => unknown),
        (count) => count > before,
        "15 seconds"
      )
      tell(`session listener: Unknown after ${Math.round(performance.now() - began)} ms`)
    })
  )

  it.live("C10 the connections that read users are found out when they die without a word, all of them at once", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* UsersMigrations.migrate(url)
      const network = yield* FaultProxy.to(url)
      const context = yield* Layer.build(
        Users.layer.pipe(Layer.provide(PgDirect.layer("users", { url: network.url, maxConnections: 2 })))
      )
      const users = Context.get(context, Users.Users)
      yield* all(50, users.isOperator("alice"))
      yield* network.swallowOpen
      found("users", yield* aftermath(users.isOperator("alice"), { among: 1 }), /cannot be read at the moment/)
      yield* all(50, users.isOperator("alice"))
      yield* network.swallowOpen
      found("users, eight at a time", yield* aftermath(users.isOperator("alice")), /cannot be read at the moment/)
    })
  )

  it.live(
    "C10 the connections of a token repository are found out when they die without a word, all of them at once",
    () =>
      Effect.gen(function* () {
        const network = yield* FaultProxy.to(yield* tokenDatabase)
        const repository = yield* PgTokenRepository.make({ url: network.url, keys, maxConnections: 4 })
        const lock = Effect.suspend(() => repository.lock(Math.random().toString(36), claim("me", 0)))
        yield* all(50, lock)
        yield* network.swallowOpen
        found("tokens", yield* aftermath(lock, { among: 1 }), /did not answer/)
        yield* network.swallowOpen
        found("tokens, eight at a time", yield* aftermath(lock), /did not answer/)
      })
  )
})
