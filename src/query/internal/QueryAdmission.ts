/**
 * Who of those that want to run a query may, and who waits.
 *
 * A place is taken when a query is submitted, and left when its connection is back or it was given up. Until then its statement
 * takes up memory, which is bounded, too.
 */
import * as Effect from "effect/Effect"
import * as FairSemaphore from "../../lifetime/FairSemaphore.ts"
import { QueryError, QueryRejected } from "../QueryError.ts"
import { Shares } from "./QueryShares.ts"

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

/** No hint is longer: what is said to one caller is said to all who are rejected, and some of them give up. */
const maxRetrySeconds = 60

/** How many principals each find room for their share of the memory: 2 MiB by default, what a body of 1 MiB takes up. */
const byteShares = 16

/** How much the last query counts in the mean time that one takes. */
const weight = 0.2

/** Makes the places. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const maxRunning = options.maxRunning ?? 10
  const maxRunningPerPrincipal = Math.min(options.maxRunningPerPrincipal ?? maxRunning, maxRunning)
  // What the operator lets one principal have, is there for them.
  const spare = options.maxRunningPerPrincipal === undefined ? maxRunning : maxRunning - maxRunningPerPrincipal + 1
  const reserved = Math.min(
    options.reservedRunning ?? Math.min(Math.max(2, Math.ceil(maxRunning / 2)), spare),
    maxRunning
  )
  const maxWaiting = options.maxWaiting ?? 1000
  const maxWaitingPerPrincipal = Math.min(options.maxWaitingPerPrincipal ?? 100, maxWaiting)
  const places = yield* FairSemaphore.make<QueryError>(maxRunning, {
    maxWaiting,
    perKey: {
      permits: maxRunningPerPrincipal,
      reserved,
      maxWaiting: maxWaitingPerPrincipal,
      reservedWaiting: Math.floor(maxWaiting / 10)
    },
    refuse: () => Effect.interrupt
  })
  const mebibyte = 1024 * 1024
  const maxBytes = options.maxWaitingBytes ?? 128 * mebibyte
  const maxBytesOf = Math.min(options.maxWaitingBytesPerPrincipal ?? 16 * mebibyte, maxBytes)
  const held = new Shares({ all: maxBytes, ofPrincipal: maxBytesOf, shares: byteShares })
  let meanMillis = 1000

  /** The place, with the memory of its statement, which is given back with it. */
  const withBytes = (principal: string, bytes: number, { leave, told }: Place): Place => {
    let isHeld = true
    held.add(principal, bytes)
    return {
      told,
      leave: () => {
        if (isHeld) held.add(principal, -bytes)
        isHeld = false
        leave()
      }
    }
  }

  /** One place is free again when one of those that run is done. */
  const rejected = (principal: string, isTheirs: boolean, what: "" | "Bytes") => {
    const seconds = Math.ceil(meanMillis / (isTheirs ? maxRunningPerPrincipal : maxRunning) / 1000)
    return new QueryError({
      reason: new QueryRejected({
        limit: isTheirs ? `waiting${what}OfPrincipal` : `waiting${what}`,
        count: isTheirs ? places.waiting(principal) : places.waiting(),
        retryAfterSeconds: Math.min(Math.max(seconds, 1), maxRetrySeconds)
      })
    })
  }

  return {
    /** A place, which is to be left, or why there is none. */
    enter: (principal: string, bytes: number): Place | QueryError => {
      if (held.of(principal) > 0 && held.exceedsOwn(principal, bytes)) return rejected(principal, true, "Bytes")
      if (held.total > 0 && held.exceedsAll(principal, bytes)) return rejected(principal, false, "Bytes")
      const place = places.enterUnsafe(principal)
      return typeof place === "string"
        ? rejected(principal, places.waiting(principal) >= maxWaitingPerPrincipal, "")
        : withBytes(principal, bytes, { told: (listener) => place.told(listener), leave: () => place.leave() })
    },
    /** Learns how long a query that is over had its place. */
    took: (millis: number): void => {
      meanMillis += weight * (millis - meanMillis)
    }
  }
})
