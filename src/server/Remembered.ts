/**
 * Answers that are asked for more often than they change: one is remembered for a while, and lives as long as the effect that asks.
 */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"

/**
 * The effect, asked again when its answer is as old as that. `cachedWithTTL` would measure its age by the time of day (effect 4.1),
 * which somebody may set.
 */
export const remembered = Effect.fnUntraced(function* <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  howLong: (exit: Exit.Exit<A, E>) => Duration.Input
) {
  const steady = SteadyClock.from(yield* Clock.Clock)
  return Effect.provideService(yield* Effect.cachedWithTTL(effect, howLong), Clock.Clock, steady)
})
