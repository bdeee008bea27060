/**
 * Counts and measures what a session store is asked: by operation, and what came of it.
 *
 * An answer such as "this session is over" is an outcome like any other; `SessionsUnavailable` is the store's failure.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Cause from "effect/Cause"
import * as Tracer from "effect/Tracer"
import * as Series from "../lifetime/internal/Series.ts"
import type { SessionError } from "../session/SessionError.ts"
import { SessionStore } from "../session/SessionStore.ts"

const operations = Series.counter(
  "holdfast_store_operations_total",
  "What the session store was asked, by operation and outcome"
)
const time = Series.histogram(
  "holdfast_store_operation_seconds",
  "Time from asking the session store until it answered",
  [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
)

const outcomeOf = (exit: Exit.Exit<unknown, SessionError>): string => {
  if (Exit.isSuccess(exit)) return "Answered"
  const error = Cause.findErrorOption(exit.cause)
  if (error._tag === "Some") return error.value.reason._tag
  return Cause.hasInterruptsOnly(exit.cause) ? "Interrupted" : "Defect"
}

const span = { kind: "client", captureStackTrace: false } as const

/** Puts a store in the place of another that is asked the same. */
const measured = (store: SessionStore["Service"]) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    // Where nobody is told of spans, none is made.
    const isTraced = (yield* Tracer.Tracer) !== Tracer.nativeTracer
    const around = (operation: string) => {
      const took = time({ operation })
      const outcomes = Series.by((outcome) => operations({ operation, outcome }))
      return <A, R>(effect: Effect.Effect<A, SessionError, R>): Effect.Effect<A, SessionError, R> =>
        Effect.suspend(() => {
          const since = performance.now()
          return Effect.onExitPrimitive(
            isTraced ? Effect.withSpan(effect, `SessionStore.${operation}`, span) : effect,
            (exit) => {
              outcomes(outcomeOf(exit)).updateUnsafe(1, context)
              took.updateUnsafe((performance.now() - since) / 1000, context)
              return undefined
            }
          )
        })
    }
    const of = <Args extends ReadonlyArray<unknown>, A>(
      operation: string,
      ask: (...args: Args) => Effect.Effect<A, SessionError>
    ) => {
      const within = around(operation)
      return (...args: Args) => within(ask(...args))
    }
    return SessionStore.of({
      ...store,
      create: of("create", store.create),
      load: of("load", store.load),
      touch: of("touch", store.touch),
      update: of("update", store.update),
      renew: of("renew", store.renew),
      authenticate: of("authenticate", store.authenticate),
      rotate: of("rotate", store.rotate),
      setExpiry: of("setExpiry", store.setExpiry),
      revoke: of("revoke", store.revoke),
      revokeAll: of("revokeAll", store.revokeAll),
      epoch: of("epoch", store.epoch),
      list: of("list", store.list),
      visitors: of("visitors", store.visitors),
      endedOf: of("endedOf", store.endedOf),
      prune: of("prune", store.prune),
      pruneLag: around("pruneLag")(store.pruneLag),
      ping: around("ping")(store.ping)
    })
  })

/** The same store, measured. */
export const layer = <E, R>(store: Layer.Layer<SessionStore, E, R>): Layer.Layer<SessionStore, E, R> =>
  Layer.effect(SessionStore, Effect.flatMap(SessionStore, measured)).pipe(Layer.provide(store))
