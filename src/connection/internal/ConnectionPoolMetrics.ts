/**
 * What a `ConnectionPool` counts and measures, by source. Times are in seconds; gauges are sampled once a second.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Series from "../../lifetime/internal/Series.ts"

/** Why a connection was closed before its pool was. */
export type Retirement =
  | "broken"
  | "reset failed"
  | "too old"
  | "used up"
  | "idle"
  | "did not answer"
  | "held too long"
  | "evicted"
  | "for another role"
  | "retired by its borrower"

/** In seconds. */
const boundaries = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60]

const held = Series.gauge("holdfast_connections_held", "Connections leased now")
const idle = Series.gauge("holdfast_connections_idle", "Connections open and not leased now")
const waiting = Series.gauge("holdfast_connections_waiting", "Borrowers waiting now")
const open = Series.gauge("holdfast_connections_open", "Connections open now")
const zombies = Series.gauge(
  "holdfast_connections_zombies",
  "Backends that were given up and that the server still has"
)
const opened = Series.counter("holdfast_connections_opened_total", "Connections opened")
const retired = Series.counter("holdfast_connections_retired_total", "Connections closed by the pool, by reason")
const leaks = Series.counter("holdfast_connections_leak_warnings_total", "Leases held longer than the warning time")
const waitTime = Series.histogram(
  "holdfast_connections_wait_seconds",
  "Time from asking to having a connection",
  boundaries
)
const holdTime = Series.histogram(
  "holdfast_connections_hold_seconds",
  "Time from having to giving back a connection",
  boundaries
)

/** What is counted at a moment. */
export interface Gauges {
  readonly leased: number
  readonly idle: number
  readonly waiting: number
  readonly open: number
  readonly zombies: number
}

/** The metrics of one source, or of what the pool is called, in the registry of the current context. */
export const make = Effect.fnUntraced(function* (source: string) {
  const context = yield* Effect.context<never>()
  const of = <M>(series: Series.Series<M>) => series({ source })
  const times = { waited: of(waitTime), held: of(holdTime) }
  const gauges = { held: of(held), idle: of(idle), waiting: of(waiting), open: of(open), zombies: of(zombies) }
  const openedOfIt = of(opened)
  const retirements = Series.by((reason) => retired({ source, reason }))
  return {
    opened: (connection: string): Effect.Effect<void> =>
      Effect.andThen(
        Metric.update(openedOfIt, 1),
        LogEvent.debug({ event: "connection.opened", source, connection }, "A connection was opened")
      ),
    leaks: of(leaks),
    /** Notes how long a borrower waited for, or held, a connection: at once, because it happens for each lease. */
    note: (what: keyof typeof times, millis: number): void => times[what].updateUnsafe(millis / 1000, context),
    /** Sets the gauges to how things are now. */
    sample: (now: Gauges): Effect.Effect<void> =>
      Effect.all(
        [
          Metric.update(gauges.held, now.leased),
          Metric.update(gauges.idle, now.idle),
          Metric.update(gauges.waiting, now.waiting),
          Metric.update(gauges.open, now.open),
          Metric.update(gauges.zombies, now.zombies)
        ],
        { discard: true }
      ),
    retired: (reason: Retirement): Effect.Effect<void> =>
      Effect.andThen(
        Metric.update(retirements(reason), 1),
        LogEvent.debug({ event: "connection.closed", source, reason }, "A connection was closed by its pool")
      )
  }
})

export type ConnectionPoolMetrics = Effect.Success<ReturnType<typeof make>>
