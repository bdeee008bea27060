/**
 * Work that is answered for in time, also when its own end takes longer.
 *
 * The work runs in a fiber of the scope that the limit was made in, so its caller never waits for what ending the work takes: a
 * cancel that nobody acknowledges, say. Work that is late is interrupted and ends in the background; work whose caller is
 * interrupted goes on, within the limit. The scope ends both.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/** Puts a limit on work. */
export interface TimeLimit<Late> {
  <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E | Late, R>
}

/** Makes a limit; work that exceeds it fails with what `late` makes. */
export const make = Effect.fnUntraced(function* <Late>(limit: Duration.Duration, late: (limit: string) => Late) {
  const scope = yield* Effect.scope
  const orElse = () => Effect.fail(late(Duration.format(limit)))
  const bounded: TimeLimit<Late> = (work) =>
    Effect.forkIn(Effect.timeoutOrElse(work, { duration: limit, orElse }), scope, { startImmediately: true }).pipe(
      Effect.flatMap((fiber) => Effect.timeoutOrElse(Fiber.join(fiber), { duration: limit, orElse }))
    )
  return bounded
})
