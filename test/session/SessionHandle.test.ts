import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as TestClock from "effect/testing/TestClock"
import { SessionStore } from "../../src/session/SessionStore.ts"
import type * as SessionToken from "../../src/session/SessionToken.ts"
import { steps, sweep } from "../../src/testing/InterruptSweep.ts"
import { redisWorld } from "../support/redisSessions.ts"
import { pgWorld, unprunedStore } from "../support/sessions.ts"
import { add, client, instanceOver, sessionHandleLaws } from "./sessionHandleLaws.ts"

/** Without the audit's log lines, which have a test of their own. */
const quiet = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.provideService(Effect.scoped(work), References.MinimumLogLevel, "Error")

/** Runs work under a clock that goes on as long as the work waits for it. */
const passing = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(work, { startImmediately: true })
    while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("1 millis")
    return yield* Fiber.join(fiber)
  })

sessionHandleLaws("handles over memory", (name, body) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      const store = Context.get(yield* Layer.build(Layer.fresh(unprunedStore)), SessionStore)
      const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(store)])
      yield* passing(quiet(body({ here, there, advance: TestClock.adjust })))
    })
  )
)

for (const { name, world } of [
  { name: "PostgreSQL", world: pgWorld },
  { name: "Redis", world: redisWorld }
]) {
  sessionHandleLaws(`handles over ${name}`, (name, body) =>
    it.live(name, () =>
      Effect.gen(function* () {
        const { advance, another, store } = yield* world
        const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(another)])
        yield* quiet(body({ here, there, advance }))
      })
    )
  )
}

it.effect("S2 changes at the same moment all take effect, where reading takes a while and writing does not", () =>
  Effect.gen(function* () {
    const store = Context.get(yield* Layer.build(Layer.fresh(unprunedStore)), SessionStore)
    const here = yield* instanceOver({
      ...store,
      load: (...asked) => Effect.tap(store.load(...asked), Effect.sleep("200 millis"))
    })
    const browser = client()
    yield* (yield* browser.on(here)).authenticate("alice")
    const change = Effect.flatMap(browser.on(here), (handle) => handle.modify(add))
    yield* Effect.replicateEffect(change, 80, { concurrency: "unbounded" })
    assert.strictEqual((yield* (yield* browser.on(here)).data).count, 80)
  }).pipe(quiet, passing)
)

describe("handles that are interrupted", () => {
  it.effect("S1 a handle knows of a write that the store has taken, also where whoever wrote gave up meanwhile", () =>
    Effect.gen(function* () {
      const store = Context.get(yield* Layer.build(Layer.fresh(unprunedStore)), SessionStore)
      const [taken, answered] = yield* Effect.all([Deferred.make<void>(), Deferred.make<void>()])
      const here = yield* instanceOver({
        ...store,
        update: (update) =>
          Effect.tap(store.update(update), () =>
            Effect.andThen(Deferred.succeed(taken, undefined), Deferred.await(answered))
          )
      })
      const session = yield* client().on(here)
      yield* session.authenticate("alice")
      const writing = yield* Effect.forkChild(session.modify((data) => ({ ...data, count: 7 })))
      yield* Deferred.await(taken)
      const giving = yield* Effect.forkChild(Fiber.interrupt(writing), { startImmediately: true })
      yield* Deferred.succeed(answered, undefined)
      yield* Fiber.join(giving)
      const { version } = yield* session.record
      assert.deepStrictEqual(yield* session.versioned, { data: { count: 7, notes: [] }, version })
      assert.strictEqual((yield* session.replace({ count: 8, notes: [] }, { version })).version, version + 1)
    }).pipe(quiet)
  )

  it.effect("S6 whatever moment a change of the token is interrupted at, the client has a token that is good", () =>
    sweep(
      Effect.gen(function* () {
        const store = Context.get(yield* Layer.build(Layer.fresh(unprunedStore)), SessionStore)
        const here = yield* instanceOver(store)
        const seen = (token: Option.Option<SessionToken.SessionToken>) =>
          Effect.flatMap(client(Option.getOrThrow(token)).on(here), ({ record }) => record)
        for (let delay = 0; delay < 10; delay++) {
          const interrupted = <A, E, R>(work: Effect.Effect<A, E, R>) =>
            Effect.gen(function* () {
              const fiber = yield* Effect.forkChild(work)
              for (let yields = 0; yields < delay; yields++) yield* Effect.yieldNow
              yield* Fiber.interrupt(fiber)
            })
          const visitor = client()
          here.calls.length = 0
          yield* interrupted((yield* visitor.on(here)).modify((data) => ({ ...data, count: 1 })))
          assert.strictEqual(visitor.told.length, here.calls.filter((call) => call === "create").length)

          const browser = client()
          yield* (yield* browser.on(here)).modify((data) => ({ ...data, count: 1 }))
          const { id } = yield* seen(browser.token())
          yield* interrupted((yield* browser.on(here)).authenticate("alice", { policy: { renewEvery: 0 } }))
          assert.strictEqual((yield* seen(browser.token())).id, id, `login, ${delay}`)
          yield* (yield* browser.on(here)).authenticate("alice", { policy: { renewEvery: 0 } })
          const renewing = client(Option.getOrThrow(browser.token()))
          yield* interrupted(Effect.flatMap(renewing.on(here, { renews: true }), ({ data }) => data))
          assert.strictEqual((yield* seen(renewing.token())).id, id, `renewal, ${delay}`)
        }
      }).pipe(quiet),
      { steps: steps.filter((step) => step < 24) }
    )
  )
})
