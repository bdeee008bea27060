import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import * as SessionStore from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import { unprunedStore } from "../support/sessions.ts"

const limits = {
  idleTimeout: Duration.minutes(10),
  absoluteTimeout: Duration.hours(12),
  renewEvery: Duration.hours(1),
  maxPerPrincipal: 5
}
const create = (of: Partial<SessionStore.Limits> = {}) =>
  Effect.flatMap(Sessions.Sessions, (sessions) =>
    sessions.create({ ...limits, ...of, principal: "alice", data: { count: 0 }, dataVersion: 1, device: {} })
  )

const open = (token: SessionToken.SessionToken) =>
  Effect.scoped(
    Effect.flatMap(Sessions.Sessions, (sessions) => Effect.map(sessions.open(token), ({ record }) => record))
  )
const refusal = (token: SessionToken.SessionToken) => Effect.map(Effect.flip(open(token)), ({ reason }) => reason._tag)

/** Sessions over a store that counts its loads, and tells of ends what is put into the queue. */
const world = (staleness?: Duration.Input) =>
  Effect.gen(function* () {
    const hints = yield* Queue.unbounded<SessionStore.Ended>()
    const counted = { loads: 0 }
    const layerStore = Layer.effect(
      SessionStore.SessionStore,
      Effect.map(SessionStore.SessionStore, (store) => ({
        ...store,
        ended: Stream.fromQueue(hints),
        load: (token: SessionToken.TokenHash) =>
          Effect.suspend(() => {
            counted.loads++
            return store.load(token)
          })
      }))
    ).pipe(Layer.provide(unprunedStore))
    const layer = Sessions.layer({ staleness, pollInterval: "1 hour" }).pipe(
      Layer.provideMerge(layerStore),
      Layer.provideMerge(Ledger.layer)
    )
    return { hints, counted, context: yield* Layer.build(Layer.fresh(layer)) }
  })
type World = Effect.Success<ReturnType<typeof world>>

const within = <A, E>(
  staleness: Duration.Input | undefined,
  test: (world: World) => Effect.Effect<A, E, Layer.Success<typeof unprunedStore> | Sessions.Sessions>
) => Effect.scoped(Effect.flatMap(world(staleness), (world) => Effect.provide(test(world), world.context)))

describe("the staleness of sessions", () => {
  it.effect("is none unless it is declared: the store is asked each time", () =>
    within(undefined, ({ counted }) =>
      Effect.gen(function* () {
        const { token } = yield* create()
        yield* open(token)
        yield* open(token)
        assert.strictEqual(counted.loads, 2)
      })
    )
  )

  it.effect("lets one load answer for so long, and no longer", () =>
    within("2 seconds", ({ counted }) =>
      Effect.gen(function* () {
        const { token } = yield* create()
        yield* open(token)
        yield* TestClock.adjust("1900 millis")
        yield* open(token)
        assert.strictEqual(counted.loads, 1)
        yield* TestClock.adjust("200 millis")
        yield* open(token)
        assert.strictEqual(counted.loads, 2)
      })
    )
  )

  it.effect("is ten seconds at most", () =>
    within("1 hour", ({ counted }) =>
      Effect.gen(function* () {
        const { token } = yield* create()
        yield* open(token)
        yield* TestClock.adjust("10001 millis")
        yield* open(token)
        assert.strictEqual(counted.loads, 2)
      })
    )
  )

  it.effect("S1 S6 what this process changes shows at once", () =>
    within("10 seconds", () =>
      Effect.gen(function* () {
        const sessions = yield* Sessions.Sessions
        const { record, token } = yield* create()
        yield* open(token)
        yield* sessions.update({ id: record.id, version: record.version, data: { count: 1 }, dataVersion: 1 })
        assert.deepStrictEqual((yield* open(token)).data, { count: 1 })

        const { idleTimeout } = limits
        yield* sessions.setExpiry({ id: record.id, idleTimeout, absoluteTimeout: Duration.hours(1) })
        const until = (yield* open(token)).expiresAt
        assert.isBelow(until.epochMilliseconds, record.expiresAt.epochMilliseconds)

        const rotated = SessionToken.make()
        yield* sessions.rotate(token, rotated)
        assert.strictEqual(yield* refusal(token), "SessionSuperseded")
        yield* open(rotated)
        const again = yield* sessions.authenticate(rotated, { ...limits, principal: "bob", device: {} })
        assert.notStrictEqual(yield* refusal(rotated), undefined)
        assert.strictEqual((yield* open(again.token)).principal, "bob")
      })
    )
  )

  for (const [how, end] of [
    ["its own end", ({ id, sessions }) => sessions.end(id)],
    ["a logout", ({ sessions, token }) => sessions.logout(token)],
    ["the end of all of its principal", ({ sessions }) => sessions.revokeAll("alice")],
    [
      "an end elsewhere that is told",
      ({ hints, id, store }) =>
        Effect.andThen(store.revoke(id), Effect.andThen(Queue.offer(hints, { _tag: "Session", id }), Effect.yieldNow))
    ],
    [
      "an end elsewhere, when news was lost",
      ({ hints, id, store }) =>
        Effect.andThen(store.revoke(id), Effect.andThen(Queue.offer(hints, { _tag: "Unknown" }), Effect.yieldNow))
    ]
  ] satisfies ReadonlyArray<
    readonly [
      string,
      (world: {
        readonly id: Sessions.CreatedSession["record"]["id"]
        readonly token: SessionToken.SessionToken
        readonly sessions: Sessions.Sessions["Service"]
        readonly store: SessionStore.SessionStore["Service"]
        readonly hints: Queue.Queue<SessionStore.Ended>
      }) => Effect.Effect<unknown, unknown>
    ]
  >) {
    it.effect(`S9 a session that was loaded lately is over at once after ${how}`, () =>
      within("10 seconds", ({ hints }) =>
        Effect.gen(function* () {
          const [sessions, store] = [yield* Sessions.Sessions, yield* SessionStore.SessionStore]
          const { record, token } = yield* create()
          yield* open(token)
          yield* end({ id: record.id, token, sessions, store, hints })
          assert.strictEqual(yield* refusal(token), "SessionRevoked")
        })
      )
    )
  }

  it.effect("S9 an end elsewhere that nobody tells shows when the time is over", () =>
    within("2 seconds", () =>
      Effect.gen(function* () {
        const { record, token } = yield* create()
        yield* open(token)
        yield* (yield* SessionStore.SessionStore).revoke(record.id)
        yield* TestClock.adjust("1 second")
        yield* open(token)
        yield* TestClock.adjust("1001 millis")
        assert.strictEqual(yield* refusal(token), "SessionRevoked")
      })
    )
  )

  it.effect("S4 stretches no time: a session that may be over is asked for", () =>
    within("10 seconds", () =>
      Effect.gen(function* () {
        const { token } = yield* create({ absoluteTimeout: Duration.minutes(2) })
        yield* TestClock.adjust("119 seconds")
        yield* open(token)
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* refusal(token), "SessionExpired")
      })
    )
  )

  it.effect("S5 a session that was only presented while it was known never expires early", () =>
    within("10 seconds", () =>
      Effect.gen(function* () {
        const { token } = yield* create()
        // A touch interval after the login is not over yet, so the store writes nothing.
        yield* TestClock.adjust("59 seconds")
        yield* open(token)
        yield* TestClock.adjust("9 seconds")
        yield* open(token)
        yield* TestClock.adjust("599 seconds")
        yield* open(token)
      })
    )
  )

  it.effect("S5 also when the process stops meanwhile", () =>
    Effect.gen(function* () {
      const store = yield* SessionStore.SessionStore
      const layer = Sessions.layer({ staleness: "10 seconds" }).pipe(
        Layer.provideMerge(Layer.succeed(SessionStore.SessionStore, store)),
        Layer.provideMerge(Ledger.layer)
      )
      const token = yield* Effect.gen(function* () {
        const { token } = yield* create()
        yield* TestClock.adjust("59 seconds")
        yield* open(token)
        yield* TestClock.adjust("9 seconds")
        yield* open(token)
        return token
      }).pipe(Effect.provide(layer))
      yield* TestClock.adjust("599 seconds")
      yield* store.load(SessionToken.hash(token))
    }).pipe(Effect.provide(unprunedStore))
  )

  it.effect("S6 a token that is due is told with each request", () =>
    within("10 seconds", () =>
      Effect.gen(function* () {
        const { token } = yield* create({ renewEvery: Duration.minutes(1) })
        yield* open(token)
        yield* TestClock.adjust("2 minutes")
        assert.isNotNull((yield* open(token)).renewalNonce)
        assert.isNotNull((yield* open(token)).renewalNonce)
      })
    )
  )

  it.effect("what is known is given up when more changes are heard than can be remembered", () =>
    within("10 seconds", ({ hints }) =>
      Effect.gen(function* () {
        const { record, token } = yield* create()
        yield* open(token)
        yield* Queue.offerAll(
          hints,
          Array.from({ length: 10_001 }, () => ({ _tag: "Session" as const, id: SessionId.make() }))
        )
        const store = yield* SessionStore.SessionStore
        yield* store.update({ id: record.id, version: record.version, data: { count: 7 }, dataVersion: 1 })
        yield* Effect.yieldNow
        assert.deepStrictEqual((yield* open(token)).data, { count: 7 })
      })
    )
  )
})
