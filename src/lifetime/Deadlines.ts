/**
 * Moments by which things are to be over, each equally far from when it was added, on one clock.
 *
 * A deadline is kept until it is taken back or reached, also when the scope that they were made in has closed. None costs a timer
 * or a fiber of its own: one fiber sleeps until the oldest is due. Until the scope closes it may sleep on with none left; after
 * that it ends with the last of them.
 *
 * A process that stood still, for garbage or for want of a processor, hears of the time that has passed before it reads what has
 * arrived. So it reads for a moment before it calls anything late: the other side may have answered in time. All deadlines of a clock
 * wait for that moment, so that they are called in their order.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as SteadyClock from "./internal/SteadyClock.ts"

/** A process stood still when it wakes up so much later than it was to. */
const stillMillis = 10

/** So long it reads then. */
const readingMillis = 50

/** Until when a process that stood still reads, by the steady time of each clock. */
const reading = new WeakMap<Clock.Clock, number>()

export interface Deadlines {
  /** Adds one; `late` is called when it is reached. Returns how to take it back. */
  readonly add: (late: () => void) => () => void
}

interface Deadline {
  readonly at: number
  readonly late: () => void
}

/** Makes deadlines that are `limit` away. With an infinite one they are never reached. */
export const make = Effect.fnUntraced(function* (limit: Duration.Duration) {
  const clock = yield* Clock.Clock
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const millis = Duration.toMillis(limit)
  const nowMillis = () => SteadyClock.millis(clock)
  const deadlines = new Set<Deadline>()
  let watching: Fiber.Fiber<void> | undefined
  let isClosed = false

  /** Goes on to watch when those are called that were due at a moment. */
  const callAt = (moment: number) =>
    Effect.suspend(() => {
      for (const deadline of deadlines) {
        if (deadline.at > moment) break
        deadlines.delete(deadline)
        deadline.late()
      }
      return watch
    })
  const watch: Effect.Effect<void> = Effect.suspend(() => {
    const [oldest] = deadlines
    if (oldest === undefined) return Effect.void
    // It may be taken back while this sleeps: nothing of it is kept but its time.
    const { at } = oldest
    const wake = Effect.suspend(() => {
      const now = nowMillis()
      if (now - at > stillMillis) reading.set(clock, now + readingMillis)
      const left = Math.ceil((reading.get(clock) ?? now) - now)
      return left > 0 ? Effect.andThen(Effect.sleep(left), callAt(now)) : callAt(now)
    })
    return Effect.andThen(Effect.sleep(Math.max(at - nowMillis(), 0)), wake)
  })
  const begin = () => {
    watching = runFork(watch)
    watching.addObserver(() => {
      watching = undefined
      // Added in the very moment in which it ended.
      if (deadlines.size > 0) begin()
    })
  }
  const leave = () => {
    if (isClosed && deadlines.size === 0) watching?.interruptUnsafe()
  }
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isClosed = true
      leave()
    })
  )

  return {
    add: (late) => {
      const deadline = { at: nowMillis() + millis, late }
      deadlines.add(deadline)
      if (watching === undefined && millis !== Infinity) begin()
      return () => {
        deadlines.delete(deadline)
        leave()
      }
    }
  } satisfies Deadlines as Deadlines
})
