import { it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as TestClock from "effect/testing/TestClock"
import * as MemorySessionStore from "../../src/session/MemorySessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import { pgWorld } from "../support/sessions.ts"
import { instanceOver, sessionHandleLaws } from "./sessionHandleLaws.ts"

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
      const store = Context.get(yield* Layer.build(Layer.fresh(MemorySessionStore.layer)), SessionStore)
      const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(store)])
      yield* passing(quiet(body({ here, there, advance: TestClock.adjust })))
    })
  )
)

sessionHandleLaws("handles over PostgreSQL", (name, body) =>
  it.live(name, () =>
    Effect.gen(function* () {
      const { advance, another, store } = yield* pgWorld
      const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(another)])
      yield* quiet(body({ here, there, advance }))
    })
  )
)
