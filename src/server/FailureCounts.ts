/**
 * Failures, counted exactly over a window that moves with the time: what counting promises, and counts in the memory of
 * one process.
 *
 * A failure is kept until the window is over and no longer, and a counter as long as it has one or somebody is trying: the
 * keys here are chosen by the clients. How many there can be is bounded by how many attempts can be checked
 * within the window.
 *
 * **Details**
 *
 * An attempt counts from its beginning, so that parallel ones are no way around the limit, and its failure counts from the
 * moment that it was told. So there are never more failures than the limit in any time as long as the window, wherever that
 * begins. (The `RateLimiter` of Effect 4.1 refills its windows bit by bit, and lets almost twice as many through.)
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"

/** How long a failure counts. */
export const window = Duration.minutes(5)

/** How many failures a key may have within the window. */
export interface Limit {
  readonly key: string
  readonly most: number
}

/** The counts cannot be had: it is not known whether somebody may try. */
export class FailuresUnavailable extends Schema.TaggedError<FailuresUnavailable>("holdfast/server/FailuresUnavailable")(
  "FailuresUnavailable",
  { cause: Schema.Defect() }
) {
  override get message(): string {
    return "Failed logins cannot be counted at the moment, so nobody can log in. Try again later."
  }
}

/** An attempt that was counted. It ends in one of the two, once. */
export interface Attempt {
  /** It failed, and counts until the window is over. */
  readonly failed: Effect.Effect<void>
  /** It did not, and never counted. */
  readonly takeOff: Effect.Effect<void>
}

export class FailureCounts extends Context.Service<
  FailureCounts,
  {
    /** How long until one more may be tried; undefined when that is now. Counts nothing. */
    readonly wait: (limits: ReadonlyArray<Limit>) => Effect.Effect<Duration.Duration | undefined, FailuresUnavailable>
    /** Counts an attempt in all limits or in none: then it answers how long that will be so. */
    readonly begin: (limits: ReadonlyArray<Limit>) => Effect.Effect<Attempt | Duration.Duration, FailuresUnavailable>
  }
>()("holdfast/server/FailureCounts") {}

/** Counts of one process. */
export interface Counters {
  readonly wait: (limits: ReadonlyArray<Limit>) => Duration.Duration | undefined
  readonly begin: (limits: ReadonlyArray<Limit>) => CountersAttempt | Duration.Duration
  /** How many counters there are. */
  readonly size: () => number
}

/** As {@link Attempt}, at once. */
export interface CountersAttempt {
  readonly failed: () => void
  readonly takeOff: () => void
}

interface Counter {
  trying: number
  /** The oldest first. */
  readonly failedAt: Array<number>
}

/** Counters that are not many are not worth looking through. */
const few = 1024

/** Makes counters over a window; `now` is in milliseconds. */
export const make = (window: Duration.Duration, now: () => number): Counters => {
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

/** Makes the service over the memory of this process. */
export const makeMemory = (over = window) =>
  Effect.map(Clock.Clock, (clock) => {
    // Not the time of day: nobody sets this one back.
    const counters = make(over, () => SteadyClock.millis(clock))
    return FailureCounts.of({
      wait: (limits) => Effect.sync(() => counters.wait(limits)),
      begin: (limits) =>
        Effect.sync(() => {
          const begun = counters.begin(limits)
          return Duration.isDuration(begun)
            ? begun
            : { failed: Effect.sync(begun.failed), takeOff: Effect.sync(begun.takeOff) }
        })
    })
  })

/** Counts of this process alone, gone with it. */
export const layerMemory: Layer.Layer<FailureCounts> = Layer.effect(FailureCounts, makeMemory())
