/** Sessions that share the connections of their runtime. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import type { ServerResponse } from "node:http"
import * as ClientSession from "../../src/client/ClientSession.ts"
import * as ClientSessions from "../../src/client/ClientSessions.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Servers from "../support/httpServers.ts"

const layer = ClientSession.layer({ reuse: "shared" })

/** A short job with a session of its own. */
const job = (url: string) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    return yield* Effect.flatMap(client.get(url), ({ text }) => text)
  }).pipe(Effect.provide(layer))

describe("shared sessions", () => {
  it.live("one after the other, in a program that provides the connections, use the same ones", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      yield* Effect.repeat(job(server.url), { times: 9 }).pipe(Effect.provide(ClientSession.layerShared()))
      assert.isAtMost(server.accepted(), 2)
      yield* server.allClosed
    })
  )

  it.live("so do those of a runtime that is used by runPromise", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      const runtime = ManagedRuntime.make(ClientSession.layerShared())
      for (let n = 0; n < 5; n++) yield* Effect.promise(() => runtime.runPromise(job(server.url)))
      assert.isAtMost(server.accepted(), 2)
      assert.isAtLeast(server.sockets(), 1)
      yield* Effect.promise(() => runtime.dispose())
      yield* server.allClosed
    })
  )

  it.live("keep to what the connections are told", () =>
    Effect.gen(function* () {
      // Answers when there are two: so many connections are in use.
      const asked: Array<ServerResponse> = []
      const server = yield* Servers.https((_, response) => {
        if (asked.push(response) === 2) for (const response of asked.splice(0)) response.end("secret")
      })
      const shared = ClientSession.layerShared({ connectionsPerOrigin: 2, tls: { ca: server.ca } })
      const all = Effect.forEach(Array.from({ length: 10 }), () => job(server.url), { concurrency: "unbounded" })
      const answers = yield* Effect.provide(all, shared)
      assert.deepStrictEqual(new Set(answers), new Set(["secret"]))
      assert.strictEqual(server.accepted(), 2)
      yield* server.allClosed
    })
  )

  it.live("by key, too", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      const sessions = ClientSessions.layer({ session: { reuse: "shared" }, idleTimeToLive: 0 })
      const both = Layer.provideMerge(sessions, ClientSession.layerShared())
      yield* Effect.gen(function* () {
        const { layer } = yield* ClientSessions.ClientSessions
        const text = Effect.gen(function* () {
          const client = yield* HttpClient.HttpClient
          return yield* Effect.flatMap(client.get(server.url), ({ text }) => text)
        })
        for (const key of ["alice", "bob", "alice"]) yield* Effect.provide(text, layer(key))
      }).pipe(Effect.provide(both))
      assert.isAtMost(server.accepted(), 2)
      yield* server.allClosed
    })
  )

  it.live("without any to share have connections of their own while one of them lives, and leave none", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      yield* job(server.url)
      yield* server.allClosed
      assert.deepStrictEqual(yield* Effect.flatMap(Ledger.Ledger, (ledger) => ledger.holdings), [])
    }).pipe(Effect.provide(Ledger.layer))
  )
})
