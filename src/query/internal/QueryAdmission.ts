/**
 * Who of those that want to run a query may, and who waits.
 *
 * A place is taken when a query is submitted, and left when its connection is back or it was given up. Until then its statement
 * takes up memory, which is bounded, too.
 */
import type * as FairSemaphore from "../../lifetime/FairSemaphore.ts"
import * as Admission from "../../lifetime/internal/Admission.ts"
import { QueryError, QueryRejected } from "../QueryError.ts"

/** How many queries run and wait. */
export interface Options {
  /** Default: 10. Give the pool as many connections. */
  readonly maxRunning?: number | undefined
  /** Of one principal. Default: `maxRunning`, less what `reservedRunning` keeps for others. */
  readonly maxRunningPerPrincipal?: number | undefined
  /**
   * Of `maxRunning`, kept for principals who have nothing running: so many principals find a place at once, whatever others run.
   * What principals run beyond their first query is at most the rest, all together. A place that gets free is for the one with
   * the fewest. Default: half of `maxRunning`, rounded up, and at least 2 where there are as many; fewer where
   * `maxRunningPerPrincipal` is given and leaves fewer. 0 is for an app with one principal.
   */
  readonly reservedRunning?: number | undefined
  /** Default: 1,000, a tenth of them for principals who have nothing waiting. */
  readonly maxWaiting?: number | undefined
  /** Of one principal. Default: 100. */
  readonly maxWaitingPerPrincipal?: number | undefined
  /**
   * What the statements and parameters of queries that wait or run may take up in memory together, in bytes, roughly; a quarter of it
   * is cut into shares, so that 16 principals each find room for theirs. Default: 128 MiB.
   */
  readonly maxWaitingBytes?: number | undefined
  /** Those of one principal. The first is always taken in. Default: 16 MiB. */
  readonly maxWaitingBytesPerPrincipal?: number | undefined
}

export type Place = FairSemaphore.Place<QueryError>

/** Makes the places. */
export const make = (options: Options) =>
  Admission.make(options, (rejection) => new QueryError({ reason: new QueryRejected(rejection) }))
