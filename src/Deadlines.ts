/**
 * Moments by which things are to be over, each equally far from when it was added, on one clock.
 *
 * A deadline is kept until it is taken back or reached. It costs no timer and no fiber of its own: one fiber of the scope that
 * they were made in sleeps until the oldest is due, as long as there is any.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

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
  const scope = yield* Effect.scope
  const clock = yield* Clock.Clock
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const millis = Duration.toMillis(limit)
  // Not the time of day: nobody sets this one back.
  const nowMillis = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const deadlines = new Set<Deadline>()
  let isWatched = false

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
    isWatched = oldest !== undefined
    return oldest === undefined
      ? Effect.void
      : Effect.sleep(Math.max(oldest.at - nowMillis(), 0)).pipe(Effect.andThen(Effect.sync(due)), Effect.andThen(watch))
  })

  return {
    add: (late) => {
      const deadline = { at: nowMillis() + millis, late }
      deadlines.add(deadline)
      if (!isWatched && millis !== Infinity) {
        isWatched = true
        runFork(Effect.forkIn(watch, scope))
      }
      return () => deadlines.delete(deadline)
    }
  } satisfies Deadlines as Deadlines
})
