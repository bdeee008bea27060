/**
 * Moments by which things are to be over, each equally far from when it was added, on one clock.
 *
 * A deadline is kept until it is taken back or reached, also when the scope that they were made in has closed. None costs a timer
 * or a fiber of its own: one fiber sleeps until the oldest is due. Until the scope closes it may sleep on with none left; after
 * that it ends with the last of them.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as SteadyClock from "./internal/SteadyClock.ts"

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

  const due = () => {
    const now = nowMillis()
    for (const deadline of deadlines) {
      if (deadline.at > now) return
      deadlines.delete(deadline)
      deadline.late()
    }
  }
  const watch: Effect.Effect<void> = Effect.suspend(() => {
    const [oldest] = deadlines
    return oldest === undefined
      ? Effect.void
      : Effect.sleep(Math.max(oldest.at - nowMillis(), 0)).pipe(Effect.andThen(Effect.sync(due)), Effect.andThen(watch))
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
