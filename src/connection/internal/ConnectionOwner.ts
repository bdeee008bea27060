/**
 * Ties a lease to the lifetime that its work belongs to, such as a session: the end of the one waits for the end of the other.
 *
 * A tie lives as long as the scope of the lease. When the owner ends first, the borrower has {@link patience} to let go, as a
 * request that is interrupted does; then the connection is closed under its statement, and the pool watches the server until it is rid of it.
 *
 * ```
 * owner ── tie ── waits for: connection given back, or closed
 * scope ── tie, then lease: the connection is back before the tie ends
 * ```
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Lifetime from "../../lifetime/Lifetime.ts"
import { ConnectionError, OwnerEnded, Unavailable } from "../ConnectionError.ts"
import type { Lease } from "../ConnectionPool.ts"

/** How long a borrower may take to let go of a connection when the owner of its work ends. */
const patience = Duration.seconds(1)

const unknown = (cause: Lifetime.OwnerUnknown) =>
  new ConnectionError({ reason: new Unavailable({ source: "the pool", cause }) })

/** Takes a lease for the lifetime that the running fiber's work belongs to, if it belongs to one. */
export const tied = <R>(take: Effect.Effect<Lease, ConnectionError, R>) =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.mapError(Lifetime.current, unknown), (owner) =>
      owner === undefined ? restore(take) : takenFor(owner, restore(take))
    )
  )

const takenFor = Effect.fnUntraced(function* <R>(
  owner: Lifetime.Lifetime,
  take: Effect.Effect<Lease, ConnectionError, R>
) {
  const { id, kind } = owner.entry
  const back = Deferred.makeUnsafe<void>()
  let held: Lease | undefined
  const tie = yield* Lifetime.child(owner, { kind: "lease", id })
  yield* Scope.addFinalizer(
    tie.scope,
    Effect.flatMap(Effect.timeoutOption(Deferred.await(back), patience), (inTime) =>
      Option.isSome(inTime) || held === undefined ? Effect.void : held.kill
    )
  )
  yield* Effect.addFinalizer((exit) => Effect.andThen(Deferred.succeed(back, undefined), tie.end(exit)))
  held = yield* take
  // It may have ended while the borrower waited.
  if (tie.isEnding()) return yield* new ConnectionError({ reason: new OwnerEnded({ kind, id }) })
  return held
})
