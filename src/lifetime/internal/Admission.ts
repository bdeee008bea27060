/**
 * Who of those that want to run something may, and who waits.
 *
 * A place is taken when the work is submitted, and left when what it ran on is back or it was given up. Until then what was
 * submitted takes up memory, which is bounded, too.
 */
import * as Effect from "effect/Effect"
import * as FairSemaphore from "../FairSemaphore.ts"
import { Shares } from "./Shares.ts"

/** How much runs and waits. What each member means is said where the subject has its options. */
export interface Options {
  readonly maxRunning?: number | undefined
  readonly maxRunningPerPrincipal?: number | undefined
  readonly reservedRunning?: number | undefined
  readonly maxWaiting?: number | undefined
  readonly maxWaitingPerPrincipal?: number | undefined
  readonly maxWaitingBytes?: number | undefined
  readonly maxWaitingBytesPerPrincipal?: number | undefined
}

/** Which limit leaves no room for one more. */
export const limits = ["waiting", "waitingOfPrincipal", "waitingBytes", "waitingBytesOfPrincipal"] as const

/** Why there is no place. */
export interface Rejection {
  readonly limit: (typeof limits)[number]
  /** How many wait already. */
  readonly count: number
  /** When there may be room again. */
  readonly retryAfterSeconds: number
}

/** No hint is longer: what is said to one caller is said to all who are rejected, and some of them give up. */
const maxRetrySeconds = 60

/** How many principals each find room for their share of the memory: 2 MiB by default, what a body of 1 MiB takes up. */
const byteShares = 16

/** How much the last one counts in the mean time that one takes. */
const weight = 0.2

/** Makes the places; `reject` makes the error of one that gets none. */
export const make = Effect.fnUntraced(function* <E>(options: Options, reject: (rejection: Rejection) => E) {
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
  const places = yield* FairSemaphore.make<E>(maxRunning, {
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

  /** The place, with the memory of what was submitted, which is given back with it. */
  const withBytes = (
    principal: string,
    bytes: number,
    { leave, told }: FairSemaphore.Place<E>
  ): FairSemaphore.Place<E> => {
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
    return {
      rejection: reject({
        limit: isTheirs ? `waiting${what}OfPrincipal` : `waiting${what}`,
        count: isTheirs ? places.waiting(principal) : places.waiting(),
        retryAfterSeconds: Math.min(Math.max(seconds, 1), maxRetrySeconds)
      })
    }
  }

  return {
    /** A place, which is to be left, or why there is none. */
    enter: (principal: string, bytes: number): FairSemaphore.Place<E> | { readonly rejection: E } => {
      if (held.of(principal) > 0 && held.exceedsOwn(principal, bytes)) return rejected(principal, true, "Bytes")
      if (held.total > 0 && held.exceedsAll(principal, bytes)) return rejected(principal, false, "Bytes")
      const place = places.enterUnsafe(principal)
      return typeof place === "string"
        ? rejected(principal, places.waiting(principal) >= maxWaitingPerPrincipal, "")
        : withBytes(principal, bytes, { told: (listener) => place.told(listener), leave: () => place.leave() })
    },
    /** Learns how long something that is over had its place. */
    took: (millis: number): void => {
      meanMillis += weight * (millis - meanMillis)
    }
  }
})
