/**
 * How much room the rows of queries may take: those of one query, of one principal, and all.
 *
 * A room lives as long as the store of rows that it bounds. What is taken is to be given back when the rows are freed.
 */
import { QueryError, ResultsFull, ResultTooLarge } from "../QueryError.ts"
import { Shares } from "../../lifetime/internal/Shares.ts"

/** In bytes. */
export interface Limits {
  readonly limitBytes: number
  /** Default: half of all. */
  readonly principalBytes?: number | undefined
  readonly totalBytes: number
  /** How many principals each find room for their share of what one may not take. Default: 16. */
  readonly shares?: number | undefined
}

export class Room {
  private readonly limits: { readonly [Name in keyof Limits]-?: number }
  private readonly taken: Shares

  constructor(limits: Limits) {
    const { limitBytes, principalBytes = Math.floor(limits.totalBytes / 2), shares = 16, totalBytes } = limits
    this.limits = { limitBytes, principalBytes, totalBytes, shares }
    this.taken = new Shares({ all: totalBytes, ofPrincipal: principalBytes, shares })
  }

  /** What all queries have taken. */
  get bytes(): number {
    return this.taken.total
  }

  /** Takes room for a query that has some already, or says why there is not enough. */
  take(principal: string, has: number, bytes: number): QueryError | undefined {
    const { limitBytes, principalBytes, totalBytes } = this.limits
    if (has + bytes > limitBytes) return new QueryError({ reason: new ResultTooLarge({ limitBytes }) })
    if (this.taken.exceedsOwn(principal, bytes)) {
      return new QueryError({ reason: new ResultsFull({ limitBytes: principalBytes, ofPrincipal: true }) })
    }
    if (this.taken.exceedsAll(principal, bytes)) {
      const { share } = this.taken
      return new QueryError({
        reason: new ResultsFull({ limitBytes: totalBytes, ...(share > 0 && { shareBytes: share }) })
      })
    }
    this.taken.add(principal, bytes)
    return undefined
  }

  /** Gives back what a query has taken. */
  leave(principal: string, bytes: number): void {
    this.taken.add(principal, -bytes)
  }
}
