/**
 * Borrowers that have a permit of the pool and wait for a connection, in the order in which they came.
 */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type { ConnectionError } from "../ConnectionError.ts"
import type { Pooled } from "./ConnectionPoolBackend.ts"

/** One that waits, or has what it waited for. */
export interface Waiter {
  readonly told: Deferred.Deferred<Pooled, ConnectionError>
  pooled: Pooled | undefined
}

export class Waiters {
  private readonly queue = new Set<Waiter>()

  get size(): number {
    return this.queue.size
  }

  enter(): Waiter {
    const waiter: Waiter = { told: Deferred.makeUnsafe(), pooled: undefined }
    this.queue.add(waiter)
    return waiter
  }

  leave(waiter: Waiter): void {
    this.queue.delete(waiter)
  }

  /** The first has the connection. */
  hand(pooled: Pooled): void {
    const waiter = this.first()
    if (waiter === undefined) return
    waiter.pooled = pooled
    Deferred.doneUnsafe(waiter.told, Effect.succeed(pooled))
  }

  /** The first gets none. */
  fail(cause: Cause.Cause<ConnectionError>): void {
    const waiter = this.first()
    if (waiter !== undefined) Deferred.doneUnsafe(waiter.told, Effect.failCause(cause))
  }

  private first(): Waiter | undefined {
    const [waiter] = this.queue
    if (waiter !== undefined) this.queue.delete(waiter)
    return waiter
  }
}
