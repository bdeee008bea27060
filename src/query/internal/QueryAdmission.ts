/**
 * Who of those that want to run a query may, and who waits.
 *
 * A place is taken when a query is submitted, and left when its connection is back or it was given up.
 */
import * as Effect from "effect/Effect"
import * as FairSemaphore from "../../lifetime/FairSemaphore.ts"
import { QueryError, QueryRejected } from "../QueryError.ts"

/** How many queries run and wait. */
export interface Options {
  /** Default: 10. Give the pool as many connections. */
  readonly maxRunning?: number | undefined
  /** Of one principal. Default: `maxRunning`. */
  readonly maxRunningPerPrincipal?: number | undefined
  /** Default: 1,000. */
  readonly maxWaiting?: number | undefined
  /** Of one principal. Default: 100. */
  readonly maxWaitingPerPrincipal?: number | undefined
}

export type Place = FairSemaphore.Place<QueryError>

/** No hint is longer: what is said to one caller is said to all who are rejected, and some of them give up. */
const maxRetrySeconds = 60

/** How much the last query counts in the mean time that one takes. */
const weight = 0.2

/** Makes the places. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const maxRunning = options.maxRunning ?? 10
  const maxRunningPerPrincipal = Math.min(options.maxRunningPerPrincipal ?? maxRunning, maxRunning)
  const maxWaiting = options.maxWaiting ?? 1000
  const maxWaitingPerPrincipal = Math.min(options.maxWaitingPerPrincipal ?? 100, maxWaiting)
  const places = yield* FairSemaphore.make<QueryError>(maxRunning, {
    maxWaiting,
    perKey: { permits: maxRunningPerPrincipal, maxWaiting: maxWaitingPerPrincipal },
    refuse: () => Effect.interrupt
  })
  let meanMillis = 1000

  /** One place is free again when one of those that run is done. */
  const rejected = (principal: string) => {
    const ofPrincipal = places.waiting(principal)
    const isTheirs = ofPrincipal >= maxWaitingPerPrincipal
    const seconds = Math.ceil(meanMillis / (isTheirs ? maxRunningPerPrincipal : maxRunning) / 1000)
    return new QueryError({
      reason: new QueryRejected({
        limit: isTheirs ? "waitingOfPrincipal" : "waiting",
        count: isTheirs ? ofPrincipal : places.waiting(),
        retryAfterSeconds: Math.min(Math.max(seconds, 1), maxRetrySeconds)
      })
    })
  }

  return {
    /** A place, which is to be left, or why there is none. */
    enter: (principal: string): Place | QueryError => {
      const place = places.enterUnsafe(principal)
      return typeof place === "string" ? rejected(principal) : place
    },
    /** Learns how long a query that is over had its place. */
    took: (millis: number): void => {
      meanMillis += weight * (millis - meanMillis)
    }
  }
})
