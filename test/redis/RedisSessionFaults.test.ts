/**
 * What becomes of sessions in Redis when the server, or the way to it, does not do what it should. Each test has a server of
 * its own. "Unavailable" within the time limit, never "logged out", and all is well again within five seconds.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import type { SessionError } from "../../src/session/SessionError.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import { client, ownServer } from "../support/redis.ts"
import { advanceOf, contradictions, instance } from "../support/redisSessions.ts"
import { authentication, create, newToken, outcome, session } from "../../src/testing/internal/SessionSamples.ts"

type Store = Effect.Success<ReturnType<typeof instance>>

const all = <A, E>(effects: ReadonlyArray<Effect.Effect<A, E>>) => Effect.all(effects, { concurrency: "unbounded" })
const times = <A>(count: number, make: (index: number) => A) => Array.from({ length: count }, (_, index) => make(index))

const brief = { idleTimeout: Duration.minutes(20), absoluteTimeout: Duration.hours(1) }

const operations = (store: Store): ReadonlyArray<Effect.Effect<unknown, SessionError>> => [
  store.load(newToken()),
  create(store, session()),
  create(store, session({ principal: null })),
  store.touch(newToken()),
  store.renew({ token: newToken(), next: newToken() }),
  store.authenticate(authentication({ token: newToken() })),
  store.update({ id: SessionId.make(), version: 1, data: 1, dataVersion: 1 }),
  store.rotate({ token: newToken(), next: newToken() }),
  store.setExpiry({ id: SessionId.make(), ...brief }),
  store.visitors({ limit: 10 }),
  store.revoke(SessionId.make()),
  // What was under way may take effect, and not on whom the tests look for.
  store.revokeAll("bob"),
  store.epoch("alice"),
  store.list("alice"),
  store.endedOf([SessionId.make()]),
  store.prune(1),
  store.pruneLag,
  store.ping
]

/** Every operation is answered with "unavailable" within a limit that leaves the store's own, of a second, some air. */
const allUnavailable = (store: Store) =>
  Effect.gen(function* () {
    const outcomes = yield* all(
      operations(store).map((operation) =>
        Effect.timeoutOrElse(outcome(operation), {
          duration: inTimeOf(1300),
          orElse: () => Effect.succeed("no answer" as const)
        })
      )
    )
    assert.deepStrictEqual(new Set(outcomes), new Set(["SessionsUnavailable"]))
  })

/** The session is there again within five seconds, and until then nobody is told otherwise. */
const recovers = (store: Store, token: ReturnType<typeof newToken>) =>
  eventually(
    Effect.map(outcome(store.load(token)), (told) => {
      assert.include(["ok", "SessionsUnavailable"], told)
      return told
    }),
    (told) => told === "ok",
    "5 seconds"
  )

const faults = (name: string, body: Effect.Effect<void, unknown, Scope.Scope>) =>
  it.live(name, () => Effect.provideService(body, References.MinimumLogLevel, "None"), 60_000 * scale)

const limit = { operationTimeout: "1 second" } as const

describe("sessions in Redis", () => {
  faults(
    "S11 a server that is down is reported as such, in time, and found again when it is back",
    Effect.gen(function* () {
      const server = yield* ownServer()
      yield* server.stop
      const store = yield* instance({ url: server.url, ...limit })
      yield* allUnavailable(store)
      yield* server.start
      yield* eventually(outcome(store.ping), (told) => told === "ok", "5 seconds")
      const wanted = session()
      yield* create(store, wanted)
      for (const take of [server.restart, Effect.andThen(server.kill, server.start)]) {
        yield* take
        yield* recovers(store, wanted.token)
      }
    })
  )

  faults(
    "S1 S3 nothing that was answered is lost when the server is killed under load and its log is synced",
    Effect.gen(function* () {
      const server = yield* ownServer({ config: ["appendfsync always"] })
      const [store, another] = yield* Effect.all([
        instance({ url: server.url, prefix: "p", ...limit }),
        instance({ url: server.url, prefix: "p", ...limit })
      ])
      for (const round of times(2 * scale, (index) => index)) {
        const written = new Map<SessionId.SessionId, { token: ReturnType<typeof newToken>; version: number }>()
        const ended = new Map<SessionId.SessionId, ReturnType<typeof newToken>>()
        const load = { on: true }
        const worker = (number: number) =>
          Effect.gen(function* () {
            const instance = number % 2 === 0 ? store : another
            for (let turn = 0; load.on; turn++) {
              const wanted = session({ principal: `p${number % 5}`, maxPerPrincipal: 100_000 })
              const { id } = yield* create(instance, wanted)
              written.set(id, { token: wanted.token, version: 1 })
              const { version } = yield* instance.update({ id, version: 1, data: turn, dataVersion: 1 })
              written.set(id, { token: wanted.token, version })
              if (turn % 3 !== 0) continue
              // From here on, it may have ended.
              written.delete(id)
              yield* instance.revoke(id)
              ended.set(id, wanted.token)
            }
          }).pipe(
            Effect.catch(({ reason }) => Effect.sync(() => assert.strictEqual(reason._tag, "SessionsUnavailable")))
          )
        const workers = yield* Effect.forkChild(all(times(16, worker)), { startImmediately: true })
        yield* eventually(
          Effect.sync(() => ended.size),
          (size) => size > 100
        )
        yield* server.kill
        load.on = false
        yield* Fiber.join(workers)
        yield* server.start
        yield* eventually(outcome(store.ping), (told) => told === "ok", "5 seconds")
        yield* eventually(outcome(another.ping), (told) => told === "ok", "5 seconds")
        for (const [id, { token, version }] of written) {
          const record = yield* store.load(token)
          assert.strictEqual(record.id, id)
          assert.isAtLeast(record.version, version)
        }
        for (const token of ended.values()) {
          assert.strictEqual(yield* outcome(another.load(token)), "SessionRevoked", `round ${round}`)
        }
        assert.deepStrictEqual(yield* contradictions(yield* client(Effect.succeed(server.url)), "p"), [])
      }
    })
  )

  faults(
    "S11 a server that stands still, for a moment or for long, holds nobody up beyond the limit",
    Effect.gen(function* () {
      const server = yield* ownServer({ config: ["enable-debug-command yes"] })
      const store = yield* instance({ url: server.url, ...limit })
      const wanted = session()
      yield* create(store, wanted)
      yield* server.pause
      yield* allUnavailable(store)
      yield* server.resume
      yield* recovers(store, wanted.token)
      const own = yield* client(Effect.succeed(server.url))
      const asleep = yield* Effect.forkChild(own.send("DEBUG", "SLEEP", "3"), { startImmediately: true })
      yield* eventually(outcome(store.load(wanted.token)), (told) => told === "SessionsUnavailable", "3 seconds")
      yield* Fiber.join(asleep)
      yield* recovers(store, wanted.token)
    })
  )

  faults(
    "S11 a connection that is cut, or a network that swallows everything, is reported in time and replaced",
    Effect.gen(function* () {
      const server = yield* ownServer()
      const proxy = yield* FaultProxy.make(server)
      const store = yield* instance({ url: proxy.through(server.url), ...limit })
      const wanted = session()
      yield* create(store, wanted)
      for (let round = 0; round < 5; round++) {
        const loads = yield* Effect.forkChild(all(times(50, () => outcome(store.load(wanted.token)))), {
          startImmediately: true
        })
        yield* proxy.cut
        for (const told of yield* Fiber.join(loads)) assert.include(["ok", "SessionsUnavailable"], told)
        yield* recovers(store, wanted.token)
      }
      yield* proxy.freeze
      yield* proxy.decide(() => "swallow")
      yield* allUnavailable(store)
      yield* proxy.decide(() => "pass")
      yield* recovers(store, wanted.token)
    })
  )

  faults(
    "S11 a replica, which may know nothing yet, is asked for nothing",
    Effect.gen(function* () {
      const server = yield* ownServer()
      const store = yield* instance({ url: server.url, ...limit })
      const wanted = session()
      const { id } = yield* create(store, wanted)
      yield* store.load(wanted.token)
      const own = yield* client(Effect.succeed(server.url))
      yield* own.send("REPLICAOF", "127.0.0.1", "1")
      yield* allUnavailable(store)
      assert.strictEqual(yield* outcome(store.load(wanted.token)), "SessionsUnavailable")
      assert.strictEqual(yield* outcome(store.endedOf([id])), "SessionsUnavailable")
      yield* own.send("REPLICAOF", "NO", "ONE")
      yield* recovers(store, wanted.token)
    })
  )

  faults(
    "S11 a server that is still loading its data has not lost any",
    Effect.gen(function* () {
      const server = yield* ownServer({
        config: ["appendonly no", "key-load-delay 5000", "loading-process-events-interval-bytes 1024"]
      })
      const store = yield* instance({ url: server.url, ...limit })
      const wanted = session()
      yield* create(store, wanted)
      yield* Effect.forEach(times(200, String), () => create(store, session({ principal: null })), { concurrency: 32 })
      const own = yield* client(Effect.succeed(server.url))
      yield* own.send("SAVE")
      yield* server.kill
      const starting = yield* Effect.forkChild(server.start, { startImmediately: true })
      let loading = false
      yield* eventually(
        Effect.map(Effect.result(store.load(wanted.token)), (result) => {
          if (result._tag === "Success") return true
          const { reason } = result.failure
          assert.strictEqual(reason._tag, "SessionsUnavailable")
          if (reason._tag === "SessionsUnavailable") loading ||= String(reason.cause).includes("LOADING")
          return false
        }),
        (there) => there
      )
      assert.isTrue(loading)
      yield* Fiber.join(starting)
    })
  )

  faults(
    "S5 S11 with a full memory nobody new gets in, and whoever is in stays in and gets out",
    Effect.gen(function* () {
      const server = yield* ownServer()
      const store = yield* instance({ url: server.url, prefix: "p", ...limit })
      const own = yield* client(Effect.succeed(server.url))
      const wanted = times(4, () => session({ maxPerPrincipal: 10 }))
      const records = yield* all(wanted.map((one) => create(store, one)))
      const [first, second, third, fourth] = wanted
      const [one, two] = records
      if (!first || !second || !third || !fourth || !one || !two) return assert.fail()
      yield* own.send("CONFIG", "SET", "maxmemory", "1")
      const late = session()
      assert.strictEqual(yield* outcome(store.create(late)), "SessionsUnavailable")
      const update = { id: one.id, version: 1, data: "x", dataVersion: 1 }
      assert.strictEqual(yield* outcome(store.update(update)), "SessionsUnavailable")
      assert.strictEqual(yield* outcome(store.renew({ token: first.token, next: newToken() })), "SessionsUnavailable")
      assert.strictEqual(yield* outcome(store.rotate({ token: first.token, next: newToken() })), "SessionsUnavailable")
      const login = authentication({ token: first.token, principal: "bob" })
      assert.strictEqual(yield* outcome(store.authenticate(login)), "SessionsUnavailable")
      assert.strictEqual(yield* outcome(store.load(late.token)), "SessionMissing")
      // Activity is written: a session must not end early because the memory is full for long.
      yield* own.send("CONFIG", "SET", "maxmemory", "0")
      yield* advanceOf(own, "p")("29 minutes")
      yield* own.send("CONFIG", "SET", "maxmemory", "1")
      for (const { token } of [first, second, third]) assert.strictEqual(yield* outcome(store.load(token)), "ok")
      yield* store.touch(fourth.token)
      yield* own.send("CONFIG", "SET", "maxmemory", "0")
      yield* advanceOf(own, "p")("29 minutes")
      yield* own.send("CONFIG", "SET", "maxmemory", "1")
      for (const { token } of wanted) assert.strictEqual(yield* outcome(store.load(token)), "ok")
      assert.lengthOf(yield* store.list("alice"), 4)
      assert.isEmpty((yield* store.visitors({ limit: 10 })).sessions)
      // Whoever must go soon can be told so.
      yield* store.setExpiry({ id: two.id, ...brief })
      assert.isTrue(yield* store.revoke(one.id))
      assert.strictEqual(yield* outcome(store.load(first.token)), "SessionRevoked")
      assert.lengthOf(yield* store.revokeAll("alice"), 3)
      assert.lengthOf(yield* store.endedOf(records.map(({ id }) => id)), 4)
      yield* store.prune(10)
      yield* store.ping
      yield* own.send("CONFIG", "SET", "maxmemory", "0")
      assert.strictEqual(yield* outcome(store.create(late)), "ok")
      assert.deepStrictEqual(yield* contradictions(own, "p"), [])
    })
  )

  faults(
    "S11 a wrong password is unavailable, and no error shows it",
    Effect.gen(function* () {
      const server = yield* ownServer({ password: "right" })
      const wrong = new URL(Redacted.value(server.url))
      wrong.password = "wrong-secret"
      const store = yield* instance({ url: Redacted.make(wrong.href), ...limit })
      yield* allUnavailable(store)
      const { reason } = yield* Effect.flip(store.ping)
      const cause = reason._tag === "SessionsUnavailable" ? String(reason.cause) : ""
      assert.match(cause, /WRONGPASS/)
      assert.notInclude(cause, "secret")
      yield* (yield* instance({ url: server.url, ...limit })).ping
    })
  )
})
