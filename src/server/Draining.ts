/**
 * The signal that the service is about to end, for what would otherwise go on for as long as a client listens.
 *
 * It is given before the listener closes: an open stream ends by itself, instead of being cut when the time for running
 * requests is up.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export class Draining extends Context.Service<
  Draining,
  {
    /** Waits for the signal. */
    readonly begun: Effect.Effect<void>
    readonly begin: Effect.Effect<void>
  }
>()("holdfast/server/Draining") {}

export const layer: Layer.Layer<Draining> = Layer.effect(
  Draining,
  Effect.map(Deferred.make<void>(), (begun) =>
    Draining.of({ begun: Deferred.await(begun), begin: Effect.asVoid(Deferred.succeed(begun, undefined)) })
  )
)

/** Gives the signal when it closes. Put what serves below it with `Layer.provide`, so that it closes first. */
export const layerSignal: Layer.Layer<never, never, Draining> = Layer.effectDiscard(
  Effect.flatMap(Draining, ({ begin }) => Effect.addFinalizer(() => begin))
)
