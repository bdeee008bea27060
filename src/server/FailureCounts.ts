/**
 * Failures in the memory of one process, counted exactly over a window that moves with the time.
 *
 * A failure is kept until the window is over and no longer, and a counter as long as it has one or somebody is trying: the
 * keys here are chosen by whoever sends requests. How many there can be is bounded by how many attempts can be checked
 * within the window.
 *
 * **Details**
 *
 * An attempt counts from its beginning, so that parallel ones are no way around the limit, and its failure counts from the
 * moment that it was told. So there are never more failures than the limit in any time as long as the window, wherever that
 * begins. (The `RateLimiter` of Effect 4.1 refills its windows bit by bit, and lets almost twice as many through.)
 */
import * as Duration from "effect/Duration"

/** How many failures a key may have within the window. */
export interface Limit {
  readonly key: string
  readonly most: number
}

/** An attempt that was counted. It ends in one of the two, once. */
export interface Attempt {
  /** It failed, and counts until the window is over. */
  readonly failed: () => void
  /** It did not, and never counted. */
  readonly takeOff: () => void
}

export interface FailureCounts {
  /** How long until one more may be tried; undefined when that is now. Counts nothing. */
  readonly wait: (limits: ReadonlyArray<Limit>) => Duration.Duration | undefined
  /** Counts an attempt in all limits or in none: then it answers how long that will be so. */
  readonly begin: (limits: ReadonlyArray<Limit>) => Attempt | Duration.Duration
  /** How many counters there are. */
  readonly size: () => number
}

interface Counter {
  trying: number
  /** The oldest first. */
  readonly failedAt: Array<number>
}

/** Counters that are not many are not worth looking through. */
const few = 1024

/** Makes counters over a window; `now` is in milliseconds. */
export const make = (window: Duration.Duration, now: () => number): FailureCounts => {
  const millis = Duration.toMillis(window)
  const counters = new Map<string, Counter>()
  let lookAt = few

  /** Forgets what is over, and the counter with the last of it. */
  const tidied = (key: string, counter: Counter) => {
    const { failedAt } = counter
    const over = failedAt.findIndex((at) => at > now() - millis)
    failedAt.splice(0, over === -1 ? failedAt.length : over)
    if (counter.trying === 0 && failedAt.length === 0) counters.delete(key)
    return counter
  }

  const known = (key: string): Counter | undefined => {
    const counter = counters.get(key)
    return counter === undefined ? undefined : tidied(key, counter)
  }

  /** Looks through all of them whenever they have doubled since the last time. */
  const add = (key: string): Counter => {
    const counter: Counter = { trying: 0, failedAt: [] }
    counters.set(key, counter)
    if (counters.size >= lookAt) {
      for (const [other, each] of counters) if (each !== counter) tidied(other, each)
      lookAt = Math.max(few, counters.size * 2)
    }
    return counter
  }

  const wait = (limits: ReadonlyArray<Limit>) => {
    let longest: number | undefined
    for (const { key, most } of limits) {
      const counter = known(key)
      if (counter === undefined || counter.trying + counter.failedAt.length < most) continue
      // While all of them are being tried, nobody knows: none will count for longer than the window.
      const oldest = counter.failedAt[0] ?? now()
      longest = Math.max(longest ?? 0, oldest + millis - now())
    }
    return longest === undefined ? undefined : Duration.millis(longest)
  }

  return {
    wait,
    begin: (limits) => {
      const refusal = wait(limits)
      if (refusal !== undefined) return refusal
      const counted = limits.map(({ key }) => ({ key, counter: counters.get(key) ?? add(key) }))
      for (const { counter } of counted) counter.trying++
      return {
        failed: () => {
          for (const { counter } of counted) {
            counter.trying--
            counter.failedAt.push(now())
          }
        },
        takeOff: () => {
          for (const { counter, key } of counted) {
            counter.trying--
            tidied(key, counter)
          }
        }
      }
    },
    size: () => counters.size
  }
}
