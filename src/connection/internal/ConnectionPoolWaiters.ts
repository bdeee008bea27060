/**
 * Borrowers that have a permit of the pool and wait for a connection, in the order in which they came.
 */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { ConnectionError } from "../ConnectionError.ts"
import type { Pooled } from "./ConnectionPoolBackend.ts"

/** As whom a borrower wants a connection: as a role (`undefined`: as the source's own), or as whichever there is. */
export type Want = string | undefined | typeof anyRole

export const anyRole = Symbol("any role")

/** Whether a connection of a role is what is wanted. */
export const suits = (want: Want, role: string | undefined): boolean => want === anyRole || want === role

/** One that waits, or has what it waited for. */
export interface Waiter {
  readonly want: Want
  readonly told: Deferred.Deferred<Pooled, ConnectionError>
  pooled: Pooled | undefined
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

  enter(want: Want): Waiter {
    const waiter: Waiter = { want, told: Deferred.makeUnsafe(), pooled: undefined }
    this.queue.add(waiter)
    return waiter
  }

  leave(waiter: Waiter): void {
    this.queue.delete(waiter)
  }

  /** A waiter has the connection. */
  hand(waiter: Waiter, pooled: Pooled): void {
    this.queue.delete(waiter)
    waiter.pooled = pooled
    Deferred.doneUnsafe(waiter.told, Effect.succeed(pooled))
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
