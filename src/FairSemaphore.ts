/**
 * Permits that are given out in turn between keys, so that a key with a thousand waiters does not starve one with one.
 *
 * A permit is held until the scope that it was taken in closes. Waiting is interruptible at every point and leaves no trace.
 *
 * **Details**
 *
 * Of each key, one waiter at a time stands in the common queue, which is first come, first served; the others of the key
 * stand behind it in a queue of their own. Both are `effect/Semaphore`s, whose scoped take cannot lose a permit.
 * (`effect/PartitionedSemaphore` 4.1 loses one when an interruption arrives right after the take.)
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as RcMap from "effect/RcMap"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"

export interface FairSemaphore {
  /** Takes a permit for the current scope. */
  readonly take: (key: string) => Effect.Effect<void, never, Scope.Scope>
  /** Takes a permit for the current scope, if there is one and nobody waits for it; tells whether it did. Never waits. */
  readonly takeIfFree: Effect.Effect<boolean, never, Scope.Scope>
  /** Runs an effect with a permit. */
  readonly withPermit: (key: string) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Makes the permits. Nothing of a key is left when nobody of it waits. */
export const make = Effect.fnUntraced(function* (permits: number) {
  const common = yield* Semaphore.make(permits)
  const turns = yield* RcMap.make({ lookup: (_key: string) => Semaphore.make(1) })

  let waiting = 0

  const wait = (scope: Scope.Scope, key: string): Effect.Effect<void> =>
    Effect.scoped(
      Effect.gen(function* () {
        yield* Effect.acquireRelease(
          Effect.sync(() => waiting++),
          () => Effect.sync(() => waiting--)
        )
        const turn = yield* RcMap.get(turns, key)
        yield* turn.takeScoped(1)
        yield* Scope.provide(common.takeScoped(1), scope)
      })
    )

  // Where nobody waits there is nobody to be fair to.
  const takeIfFreeIn = (scope: Scope.Scope): Effect.Effect<boolean> =>
    Effect.uninterruptible(
      Effect.suspend(() =>
        waiting > 0
          ? Effect.succeed(false)
          : Effect.flatMap(common.takeIfAvailable(1), (taken) =>
              taken ? Effect.as(Scope.addFinalizer(scope, common.release(1)), true) : Effect.succeed(false)
            )
      )
    )

  const takeIn = (scope: Scope.Scope, key: string): Effect.Effect<void> =>
    Effect.flatMap(takeIfFreeIn(scope), (taken) => (taken ? Effect.void : wait(scope, key)))

  return {
    takeIfFree: Effect.flatMap(Effect.scope, takeIfFreeIn),
    take: (key) => Effect.flatMap(Effect.scope, (scope) => takeIn(scope, key)),
    withPermit: (key) => (effect) =>
      Effect.suspend(() => {
        const scope = Scope.makeUnsafe()
        return Effect.onExit(Effect.andThen(takeIn(scope, key), effect), (exit) =>
          Scope.close(scope, Exit.asVoid(exit))
        )
      })
  } satisfies FairSemaphore as FairSemaphore
})
