/**
 * The signal that the service is about to end, for what would otherwise go on for as long as a client listens.
 *
 * It is given before the listener closes: an open stream ends by itself, instead of being cut when the time for running
 * requests is up.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

export class Draining extends Context.Service<
  Draining,
  {
    /** Waits for the signal. */
    readonly begun: Effect.Effect<void>
    readonly begin: Effect.Effect<void>
    /** Whether it is said that the service will end: who asks for its readiness is to send nobody any more. */
    readonly isAnnounced: () => boolean
    readonly announce: Effect.Effect<void>
  }
>()("holdfast/server/Draining") {}

export const layer: Layer.Layer<Draining> = Layer.effect(
  Draining,
  Effect.map(Deferred.make<void>(), (begun) => {
    let isAnnounced = false
    return Draining.of({
      begun: Deferred.await(begun),
      begin: Effect.asVoid(Deferred.succeed(begun, undefined)),
      isAnnounced: () => isAnnounced,
      announce: Effect.sync(() => {
        isAnnounced = true
      })
    })
  })
)

/**
 * Gives the signal when it closes. Put what serves below it with `Layer.provide`, so that it closes first. For the delay before it the
 * service is not ready and serves all the same, so that a load balancer has time to send its clients elsewhere.
 */
export const layerSignal = (delay: Duration.Duration): Layer.Layer<never, never, Draining> =>
  Layer.effectDiscard(
    Effect.flatMap(Draining, ({ announce, begin }) =>
      Effect.addFinalizer(() => announce.pipe(Effect.andThen(Effect.sleep(delay)), Effect.andThen(begin)))
    )
  )
