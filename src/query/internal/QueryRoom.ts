/**
 * How much room the rows of queries may take: those of one query, of one principal, and all.
 *
 * A room lives as long as the store of rows that it bounds. What is taken is to be given back when the rows are freed.
 */
import { QueryError, ResultsFull, ResultTooLarge } from "../QueryError.ts"

/** In bytes. */
export interface Limits {
  readonly limitBytes: number
  /** Default: half of all. */
  readonly principalBytes?: number | undefined
  readonly totalBytes: number
}

export class Room {
  private readonly limits: { readonly [Name in keyof Limits]-?: number }
  private readonly taken = new Map<string, number>()
  private total = 0

  constructor(limits: Limits) {
    this.limits = { ...limits, principalBytes: limits.principalBytes ?? Math.floor(limits.totalBytes / 2) }
  }

  /** Takes room for a query that has some already, or says why there is not enough. */
  take(principal: string, has: number, bytes: number): QueryError | undefined {
    const { limitBytes, principalBytes, totalBytes } = this.limits
    const taken = (this.taken.get(principal) ?? 0) + bytes
    if (has + bytes > limitBytes) return new QueryError({ reason: new ResultTooLarge({ limitBytes }) })
    if (taken > principalBytes) {
      return new QueryError({ reason: new ResultsFull({ limitBytes: principalBytes, ofPrincipal: true }) })
    }
    if (this.total + bytes > totalBytes) return new QueryError({ reason: new ResultsFull({ limitBytes: totalBytes }) })
    this.taken.set(principal, taken)
    this.total += bytes
    return undefined
  }

  /** Gives back what a query has taken. */
  leave(principal: string, bytes: number): void {
    this.total -= bytes
    const left = (this.taken.get(principal) ?? 0) - bytes
    if (left > 0) this.taken.set(principal, left)
    else this.taken.delete(principal)
  }
}
