import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as RateLimiter from "effect/persistence/RateLimiter"
import * as Scope from "effect/Scope"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import * as ClientSessions from "../../src/client/ClientSessions.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as InterruptSweep from "../../src/testing/InterruptSweep.ts"
import { eventually } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"

const get = (client: HttpClient.HttpClient, url: string) => Effect.flatMap(client.get(url), ({ text }) => text)
const kinds = Effect.map(
  Effect.flatMap(Ledger.Ledger, (ledger) => ledger.holdings),
  (holdings) => holdings.map(({ kind }) => kind)
)

const idOf = (sessions: ClientSessions.ClientSessions["Service"], key: string) =>
  Effect.scoped(Effect.map(sessions.get(key), ({ id }) => id))

describe("client sessions by key", () => {
  it.live("one per key, kept while it is held and for a while, then ended with its connections", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      const sessions = yield* ClientSessions.make({ idleTimeToLive: "20 millis" })
      const ids = yield* Effect.scoped(
        Effect.gen(function* () {
          const [one, again, other] = yield* Effect.all([
            sessions.get("alice"),
            sessions.get("alice"),
            sessions.get("bob")
          ])
          yield* get(one.client, server.url)
          yield* get(other.client, server.url)
          return [one.id, again.id, other.id]
        })
      )
      assert.strictEqual(ids[0], ids[1])
      assert.notStrictEqual(ids[0], ids[2])
      yield* server.allClosed
      yield* eventually(kinds, (kinds) => kinds.length === 1)
      const later = yield* Effect.scoped(Effect.map(sessions.get("alice"), ({ id }) => id))
      assert.notStrictEqual(later, ids[0])
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.live("all end with their owner's lifetime, also those that somebody holds", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      const owner = yield* Lifetime.scoped({ kind: "session", id: "alice" })
      const sessions = yield* Lifetime.within(owner)(ClientSessions.make())
      const { client } = yield* sessions.get("account")
      yield* get(client, server.url)
      const tree = yield* Effect.flatMap(Ledger.Ledger, (ledger) => ledger.held)
      assert.deepStrictEqual(
        [tree[0]?.kind, tree[0]?.holdings[0]?.kind, tree[0]?.holdings[0]?.holdings[0]?.kind],
        ["session", "client-sessions", "client-session"]
      )
      yield* owner.end()
      yield* server.allClosed
      assert.deepStrictEqual(yield* kinds, [])
      assert.strictEqual(ClientError.from(yield* Effect.flip(get(client, server.url))).reason._tag, "Closed")
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.live("one that was ended, by its key or by itself, is replaced", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      const sessions = yield* ClientSessions.make()
      const first = yield* sessions.get("alice")
      yield* get(first.client, server.url)
      yield* sessions.end("alice")
      yield* server.allClosed
      const second = yield* sessions.get("alice")
      assert.notStrictEqual(second.id, first.id)
      yield* second.end
      const third = yield* sessions.get("alice")
      assert.strictEqual(yield* get(third.client, server.url), "GET /")
      const text = Effect.flatMap(HttpClient.HttpClient, (client) => get(client, server.url))
      assert.strictEqual(yield* Effect.provide(text, sessions.layer("alice")), "GET /")
    })
  )

  it.live("their options are those of the key", () =>
    Effect.gen(function* () {
      const sessions = yield* ClientSessions.make({ session: (key) => ({ timeout: key === "bad" ? -1 : 1000 }) })
      yield* sessions.get("good")
      assert.strictEqual((yield* Effect.flip(sessions.get("bad"))).reason._tag, "InvalidConfig")
    })
  )

  it.live("one that many ask for at once is made once", () =>
    Effect.gen(function* () {
      let made = 0
      const sessions = yield* ClientSessions.make({ session: () => ({ grace: ++made }) })
      const ids = yield* Effect.forEach(Array.from({ length: 50 }), () => idOf(sessions, "alice"), {
        concurrency: "unbounded"
      })
      assert.strictEqual(new Set(ids).size, 1)
      assert.strictEqual(made, 1)
    })
  )

  it.live("one that could not be made is made when it is asked for again", () =>
    Effect.gen(function* () {
      const failures: Array<() => Options> = [
        () => ({ timeout: -1 }),
        () => {
          throw new Error("no such account")
        }
      ]
      const sessions = yield* ClientSessions.make({ session: () => failures.shift()?.() ?? {} })
      assert.strictEqual((yield* Effect.flip(sessions.get("alice"))).reason._tag, "InvalidConfig")
      assert.isTrue(Exit.hasDies(yield* Effect.exit(sessions.get("alice"))))
      assert.deepStrictEqual(Array.from(yield* sessions.keys), [])
      assert.strictEqual(yield* idOf(sessions, "alice"), yield* idOf(sessions, "alice"))
    })
  )

  it.live("after the end of their owner whoever asks is told so", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const sessions = yield* Scope.provide(ClientSessions.make(), scope)
      yield* Scope.close(scope, Exit.void)
      const error = yield* Effect.flip(sessions.get("alice"))
      assert.strictEqual(error.reason._tag, "Closed")
      assert.match(error.message, /What keeps the client sessions is closed\. Use it within the lifetime/)
    })
  )

  it.live("they end side by side: one that uses up its grace holds up no other", () =>
    Effect.gen(function* () {
      const server = yield* Servers.silent
      const scope = yield* Scope.make()
      const sessions = yield* Scope.provide(ClientSessions.make({ session: { grace: "1 second" } }), scope)
      for (const key of ["alice", "bob", "carol", "dave"]) {
        const { client } = yield* sessions.get(key)
        yield* Effect.forkDetach(Effect.ignore(get(client, server.url)), { startImmediately: true })
      }
      yield* eventually(Effect.sync(server.sockets), (open) => open === 4)
      const [took] = yield* Effect.timed(Scope.close(scope, Exit.void))
      yield* server.allClosed
      assert.isAtLeast(Duration.toMillis(took), 990)
      assert.isBelow(Duration.toMillis(took), 2000)
    })
  )

  it.live("one that is ending is replaced at once, by one, which outlasts it", () =>
    Effect.gen(function* () {
      const server = yield* Servers.silent
      for (const isHeld of [true, false]) {
        const sessions = yield* ClientSessions.make({ session: { grace: "500 millis" } })
        const holder = yield* Scope.make()
        const old = yield* Scope.provide(sessions.get("alice"), holder)
        yield* Effect.forkDetach(Effect.ignore(get(old.client, server.url)), { startImmediately: true })
        yield* eventually(Effect.sync(old.running), (count) => count === 1)
        if (!isHeld) yield* Scope.close(holder, Exit.void)
        const ending = yield* Effect.forkChild(sessions.end("alice"), { startImmediately: true })
        const ids = yield* Effect.forEach(Array.from({ length: 20 }), () => idOf(sessions, "alice"), {
          concurrency: "unbounded"
        })
        assert.isUndefined(ending.pollUnsafe())
        assert.strictEqual(new Set(ids).size, 1)
        assert.notInclude(ids, old.id)
        yield* Fiber.join(ending)
        assert.strictEqual(yield* idOf(sessions, "alice"), ids[0])
        yield* Scope.close(holder, Exit.void)
      }
    })
  )

  it.live("one that is let go of after it was replaced does not make its successor forgotten", () =>
    Effect.gen(function* () {
      const sessions = yield* ClientSessions.make()
      const holder = yield* Scope.make()
      yield* Scope.provide(sessions.get("alice"), holder)
      yield* sessions.end("alice")
      const successor = yield* sessions.get("alice")
      yield* Scope.close(holder, Exit.void)
      yield* sessions.end("alice")
      assert.isTrue(successor.isEnding())
      assert.notStrictEqual(yield* idOf(sessions, "alice"), successor.id)
    }).pipe(Effect.scoped)
  )

  it.live("a session stands under the map in the ledger, and lives on its services, whoever asked first", () =>
    Effect.gen(function* () {
      const sessions = yield* ClientSessions.make()
      const asker = yield* Lifetime.scoped({ kind: "request", id: "1" })
      yield* Effect.provideService(
        Effect.provideService(sessions.get("alice"), Ledger.Parent, asker.entry),
        Lifetime.Current,
        Effect.succeed(asker)
      )
      yield* asker.end()
      const tree = yield* Effect.flatMap(Ledger.Ledger, (ledger) => ledger.held)
      assert.deepStrictEqual(
        tree.map(({ holdings, kind }) => [kind, ...holdings.map(({ kind }) => kind)]),
        [["client-sessions", "client-session"]]
      )
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.live(
    "an idle one that is released just when somebody asks again is either kept or replaced, never used ended",
    () =>
      Effect.gen(function* () {
        const server = yield* Servers.good
        const once = Effect.gen(function* () {
          const sessions = yield* ClientSessions.make({ idleTimeToLive: "1 millis" })
          for (let turn = 0; turn < 10; turn++) {
            const used = Effect.flatMap(sessions.get("alice"), ({ client }) => get(client, server.url))
            assert.strictEqual(yield* Effect.scoped(used), "GET /")
            yield* Effect.sleep(1)
          }
        })
        yield* InterruptSweep.sweep(once, { steps: [3, 7, 16, 33, 64] })
        yield* server.allClosed
        assert.deepStrictEqual(yield* kinds, [])
      }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.live("a hundred asked for and let go leave nothing", () =>
    Effect.gen(function* () {
      const sessions = yield* ClientSessions.make({ idleTimeToLive: 0 })
      for (let i = 0; i < 100; i++) yield* Effect.scoped(sessions.get(`key ${i}`))
      assert.deepStrictEqual(yield* kinds, ["client-sessions"])
      assert.deepStrictEqual(Array.from(yield* sessions.keys), [])
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )
})

describe("what Effect has to hold requests back", () => {
  it.live("a circuit that opened refuses with HeldBack, and sends nothing", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((_, response) => void response.socket?.destroy())
      const breaker = yield* CircuitBreaker.make({
        tripPolicy: { _tag: "Consecutive", failures: 2 },
        openDuration: "1 minute"
      })
      const { client } = yield* ClientSession.make({ retry: false, circuitBreaker: { breaker } })
      const tags = yield* Effect.forEach([1, 2, 3], () =>
        Effect.map(Effect.flip(get(client, server.url)), (error) => ClientError.from(error).reason._tag)
      )
      assert.deepStrictEqual(tags, ["NetworkError", "NetworkError", "HeldBack"])
      assert.strictEqual(server.accepted(), 2)
    }).pipe(Effect.provide(CircuitBreaker.layerStoreMemory()))
  )

  it.live("a rate limit spreads requests", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      const limiter = yield* RateLimiter.make
      const rateLimit = { limiter, window: "100 millis", limit: 2, key: "all" } as const
      const { client } = yield* ClientSession.make({ rateLimit })
      const started = performance.now()
      yield* Effect.forEach([1, 2, 3, 4, 5], () => get(client, server.url), { concurrency: "unbounded" })
      assert.isAtLeast(performance.now() - started, 150)
    }).pipe(Effect.provide(RateLimiter.layerStoreMemory))
  )
})

describe("the end of a client session", () => {
  it.live("is one, whoever asks for it and however often, also from inside", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const session = yield* Scope.provide(ClientSession.make(), scope)
      yield* Effect.all([session.end, session.end, Scope.close(scope, Exit.void), session.end], {
        concurrency: "unbounded"
      })
      yield* session.end
      assert.isTrue(session.isEnding())
    })
  )
})
