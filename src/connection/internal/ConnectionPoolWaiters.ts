/**
 * Borrowers that wait for a connection, in the order in which they were admitted: for most, in which they were granted a permit.
 */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Claim } from "../../lifetime/FairSemaphore.ts"
import type { ConnectionError } from "../ConnectionError.ts"
import type { Pooled } from "./ConnectionPoolBackend.ts"

/** As whom a borrower wants a connection: as a role (`undefined`: as the source's own), or as whichever there is. */
export type Want = string | undefined | typeof anyRole

export const anyRole = Symbol("any role")

/** Whether a connection of a role is what is wanted. */
export const suits = (want: Want, role: string | undefined): boolean => want === anyRole || want === role

/** Makes the claim when a borrower is admitted, and releases it when the borrower's scope closes. */
export type Admit = (claim: Claim) => Effect.Effect<void, ConnectionError, Scope.Scope>

/** Admits a borrower that needs no permit. */
export const withoutPermit: Admit = ({ make, release }) => Effect.acquireRelease(Effect.sync(make), () => release)

/** One that waits, or has what it waited for. */
export interface Waiter {
  readonly want: Want
  readonly told: Deferred.Deferred<Pooled, ConnectionError>
  pooled: Pooled | undefined
}

/** What a borrower asks for, how it is admitted, and when it gives up. */
interface Request {
  readonly want: Want
  readonly admit: Admit
  readonly late: Effect.Effect<never, ConnectionError>
}

/** Has a borrower admitted, which at that moment is served or begins to wait, and returns what it is handed. */
export const take = ({ admit, late, want }: Request, claimOf: (waiter: Waiter) => Claim) =>
  Effect.suspend(() => {
    const waiter: Waiter = { want, told: Deferred.makeUnsafe(), pooled: undefined }
    return Effect.andThen(
      admit(claimOf(waiter)),
      Effect.suspend(() => {
        const { pooled, told } = waiter
        return pooled === undefined ? Effect.raceFirst(Deferred.await(told), late) : Effect.succeed(pooled)
      })
    )
  })

/** A waiter learns what it was handed, and goes on at once. */
export const tell = ({ pooled, told }: Waiter): void => {
  if (pooled !== undefined) Deferred.doneUnsafe(told, Effect.succeed(pooled))
}

export class Waiters {
  private readonly queue = new Set<Waiter>()

  get size(): number {
    return this.queue.size
  }

  /** Those that wait now, the first one first. */
  all(): ReadonlyArray<Waiter> {
    return Array.from(this.queue)
  }

  enter(waiter: Waiter): void {
    this.queue.add(waiter)
  }

  leave(waiter: Waiter): void {
    this.queue.delete(waiter)
  }

  /** Those that something is found for have it, the first one first. They go on as soon as they are told. */
  handOut(find: (want: Want) => Pooled | undefined): ReadonlyArray<Waiter> {
    const served: Array<Waiter> = []
    for (const waiter of this.queue) {
      waiter.pooled = find(waiter.want)
      if (waiter.pooled === undefined) continue
      this.queue.delete(waiter)
      served.push(waiter)
    }
    return served
  }

  /** The first that wants this role gets none. */
  fail(cause: Cause.Cause<ConnectionError>, role: string | undefined): void {
    for (const waiter of this.queue) {
      if (waiter.want !== role && !(waiter.want === anyRole && role === undefined)) continue
      this.queue.delete(waiter)
      Deferred.doneUnsafe(waiter.told, Effect.failCause(cause))
      return
    }
  }
}
