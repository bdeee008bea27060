/**
 * Prunes a store of what is over for more than a day.
 *
 * The work begins and ends with the layer, and goes on through every failure of the store. Any number of instances may
 * run it on one store: they take turns by chance and skip what another is at. Nothing depends on it but space.
 *
 * **Details**
 *
 * Every `interval`, give or take a fifth, batches are pruned until there is no more. A batch is as large as the store removes
 * within 2 milliseconds or so by its own clock, judging by the one before, and between two of them it rests 59 times as long
 * as the last one took: a backlog of millions disturbs nobody, also on a server that is busy. What requests notice is how
 * often a batch takes a processor from them, hardly how long it has it.
 *
 * The layers of the stores bring it along, so an app has it without a line; `pruning: false` among their options turns it off.
 *
 * Metrics: `holdfast_sessions_pruned_total`, `holdfast_sessions_prune_failures_total`, and
 * `holdfast_sessions_prune_lag_seconds`, by how much the oldest leftover is overdue after a round.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import { SessionStore } from "./SessionStore.ts"

/** How often and how much. */
export interface Options {
  /** Default: 1 minute. */
  readonly interval?: Duration.Input | undefined
  /** Sessions per statement at most, from 1. Default: 1,000. */
  readonly batch?: number | undefined
}

const defaultBatch = 1000
/** Small, because nothing is known yet of how busy the server is. */
const firstBatch = 50

/** How long a statement may take, and how fast the size of the batches follows, in either direction. */
const goal = Duration.millis(2)
const fastest = 2

/** The part of the time that a backlog is worked at: with more than a hundredth it begins to show among the slowest loads. */
const share = 60

const pruned = Metric.counter("holdfast_sessions_pruned_total", {
  description: "Sessions removed after their tombstone's time",
  incremental: true
})
const failures = Metric.counter("holdfast_sessions_prune_failures_total", {
  description: "Rounds of pruning that the store failed",
  incremental: true
})
const lag = Metric.gauge("holdfast_sessions_prune_lag_seconds", {
  description: "How long the oldest leftover is overdue after a round of pruning"
})

/** One round: batches until one is not full, then how far behind it left the store. */
export const round = Effect.fnUntraced(function* (most: number = defaultBatch) {
  const store = yield* SessionStore
  const clock = yield* Clock.Clock
  let sum = 0
  let size = Math.min(most, firstBatch)
  for (;;) {
    const began = SteadyClock.millis(clock)
    const { more, sessions, took: told } = yield* store.prune(size)
    // The clock of the store may have been set meanwhile. It was not at it for longer than this was waited for.
    const took = Duration.millis(Math.min(Math.max(Duration.toMillis(told), 0), SteadyClock.millis(clock) - began))
    sum += sessions
    yield* Metric.update(pruned, sessions)
    if (sessions < size && more !== true) break
    const pace = Duration.toMillis(goal) / Math.max(Duration.toMillis(took), 0.1)
    size = Math.max(1, Math.min(most, Math.round(size * Math.min(Math.max(pace, 1 / fastest), fastest))))
    yield* Effect.sleep(Duration.times(took, share - 1))
  }
  const behind = yield* store.pruneLag
  yield* Metric.update(lag, Duration.toSeconds(behind))
  return { pruned: sum, lag: behind }
})

/** A store with its pruning, which closes first; without it where the options are `false`. */
export const withStore = <E, R>(
  store: Layer.Layer<SessionStore, E, R>,
  options: Options | false = {}
): Layer.Layer<SessionStore, E, R> => (options === false ? store : Layer.provideMerge(layer(options), store))

/** Prunes the store in context for as long as the layer lives. */
export const layer = (options: Options = {}): Layer.Layer<never, never, SessionStore> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const interval = Duration.fromInputUnsafe(options.interval ?? "1 minute")
      const batch = Math.max(Math.trunc(options.batch ?? defaultBatch), 1)
      yield* Ledger.hold(
        { kind: "session pruning", id: Duration.format(interval), releaseLimit: "none" },
        Effect.void,
        () => Effect.void
      )
      const one = round(batch).pipe(
        Effect.tap(({ lag, pruned }) =>
          pruned === 0
            ? Effect.void
            : LogEvent.debug({ event: "session.pruned", count: pruned }, "Sessions were pruned", {
                pruned,
                lag: Duration.format(lag)
              })
        ),
        Effect.catchCause((cause) =>
          Effect.andThen(
            Metric.update(failures, 1),
            LogEvent.warning(
              { event: "session.pruning_failed" },
              "Sessions could not be pruned; it is tried again",
              Cause.squash(cause)
            )
          )
        )
      )
      const rest = Effect.flatMap(Random.nextBetween(0.8, 1.2), (factor) =>
        Effect.sleep(Duration.times(interval, factor))
      )
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(rest, one)))
    })
  )
