/**
 * Work that is answered for in time, also when its own end takes longer.
 *
 * The work runs in a fiber of the scope that the limit was made in, so its caller never waits for what ending the work takes: a
 * cancel that nobody acknowledges, say. Work that is late is interrupted and ends in the background; work whose caller is
 * interrupted goes on, within the limit. The scope ends both, after what was made in it later.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Deadlines from "./Deadlines.ts"

/** Puts a limit on work. */
export interface TimeLimit<Late> {
  <A, E, R>(work: Effect.Effect<A, E, R>): Effect.Effect<A, E | Late, R>
}

/** Makes a limit; work that exceeds it fails with what `late` makes. */
export const make = Effect.fnUntraced(function* <Late>(limit: Duration.Duration, late: (limit: string) => Late) {
  // Of its own, so that what was made later can work within the limit while it closes.
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const deadlines = yield* Deadlines.make(limit)
  const bounded: TimeLimit<Late> = <A, E, R>(work: Effect.Effect<A, E, R>) =>
    Effect.flatMap(Effect.forkIn(work, scope, { startImmediately: true }), (fiber): Effect.Effect<A, E | Late> => {
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return exit
      const over = Deferred.makeUnsafe<A, E | Late>()
      const forget = deadlines.add(() => {
        Deferred.doneUnsafe(over, Effect.fail(late(Duration.format(limit))))
        fiber.interruptUnsafe()
      })
      fiber.addObserver((exit) => {
        forget()
        Deferred.doneUnsafe(over, exit)
      })
      return Deferred.await(over)
    })
  return bounded
})
