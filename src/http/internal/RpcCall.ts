/**
 * A call of an rpc as work of its session.
 *
 * It lives as long as the handler or the stream runs, and no longer than the session: when the session ends elsewhere, the
 * call is interrupted, and the end waits until it has released what it held.
 */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Lifetime from "../../lifetime/Lifetime.ts"
import type { Tie } from "./RequestSession.ts"

/** A call of that name; `isOwn` tells whether a context is that of its work, which may end its session and go on. */
export const make = (rpc: string, isOwn: (context: Context.Context<never>) => boolean) => {
  /** Done when the call ends its session itself. */
  const apart = Deferred.makeUnsafe<void>()
  const tie: Tie = {
    onEnd: () => undefined,
    letGo: Effect.asVoid(Deferred.succeed(apart, undefined)),
    answered: Effect.succeed
  }

  /**
   * Runs the work of the call as long as the session lasts. What failed because of the end, and be it a query of the
   * handler's that ended first, fails with why the session is over.
   */
  const during =
    <E2>(session: Lifetime.Lifetime, why: Effect.Effect<void, E2>) =>
    <A, E, R>(work: Effect.Effect<A, E, R>) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          const call = yield* Lifetime.child(session, { kind: "call", id: session.entry.id, attributes: { rpc } })
          const whole = Effect.flatMap(work, later).pipe(
            Effect.scoped,
            // What the handler starts may outlive the call.
            Effect.provideService(Lifetime.Current, Effect.succeed(session)),
            restore
          )
          // A fiber that may be interrupted before it begins would end without a word.
          const running = yield* Effect.forkDetach(Lifetime.within(call)(whole), { uninterruptible: true })
          yield* Scope.addFinalizer(
            call.scope,
            Effect.withFiber((ender) =>
              Deferred.isDoneUnsafe(apart) || isOwn(ender.context) ? Effect.void : Fiber.interrupt(running)
            )
          )
          const exit = yield* restore(Fiber.await(running)).pipe(
            Effect.onInterrupt(() => Fiber.interrupt(running)),
            Effect.ensuring(call.end())
          )
          if (Exit.isFailure(exit) && session.isEnding()) yield* restore(why)
          return yield* exit
        })
      )
  return { tie, during }
}

/** A handler may answer with a promise of its answer, which is the session's as well. */
const later = <A>(answer: A): Effect.Effect<A> =>
  Deferred.isDeferred<A, never>(answer) ? Deferred.await(answer) : Effect.succeed(answer)
