/**
 * What a `ConnectionPool` counts and measures, by source. Times are in seconds; gauges are sampled once a second.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"

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

const held = Metric.gauge("holdfast_connections_held", { description: "Connections leased now" })
const idle = Metric.gauge("holdfast_connections_idle", { description: "Connections open and not leased now" })
const waiting = Metric.gauge("holdfast_connections_waiting", { description: "Borrowers waiting now" })
const open = Metric.gauge("holdfast_connections_open", { description: "Connections open now" })
const zombies = Metric.gauge("holdfast_connections_zombies", {
  description: "Backends that were given up and that the server still has"
})
const opened = Metric.counter("holdfast_connections_opened_total", {
  description: "Connections opened",
  incremental: true
})
const retired = Metric.counter("holdfast_connections_retired_total", {
  description: "Connections closed by the pool, by reason",
  incremental: true
})
const leaks = Metric.counter("holdfast_connections_leak_warnings_total", {
  description: "Leases held longer than the warning time",
  incremental: true
})
const waitTime = Metric.histogram("holdfast_connections_wait_seconds", {
  description: "Time from asking to having a connection",
  boundaries
})
const holdTime = Metric.histogram("holdfast_connections_hold_seconds", {
  description: "Time from having to giving back a connection",
  boundaries
})

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
  const of = <Input, State>(metric: Metric.Metric<Input, State>) => Metric.withAttributes(metric, { source })
  const times = { waited: of(waitTime), held: of(holdTime) }
  return {
    opened: (connection: string): Effect.Effect<void> =>
      Effect.andThen(
        Metric.update(of(opened), 1),
        LogEvent.debug({ event: "connection.opened", source, connection }, "A connection was opened")
      ),
    leaks: of(leaks),
    /** Notes how long a borrower waited for, or held, a connection: at once, because it happens for each lease. */
    note: (what: keyof typeof times, millis: number): void => times[what].updateUnsafe(millis / 1000, context),
    /** Sets the gauges to how things are now. */
    sample: (now: Gauges): Effect.Effect<void> =>
      Effect.all(
        [
          Metric.update(of(held), now.leased),
          Metric.update(of(idle), now.idle),
          Metric.update(of(waiting), now.waiting),
          Metric.update(of(open), now.open),
          Metric.update(of(zombies), now.zombies)
        ],
        { discard: true }
      ),
    retired: (reason: Retirement): Effect.Effect<void> =>
      Effect.andThen(
        Metric.update(Metric.withAttributes(retired, { source, reason }), 1),
        LogEvent.debug({ event: "connection.closed", source, reason }, "A connection was closed by its pool")
      )
  }
})

export type ConnectionPoolMetrics = Effect.Success<ReturnType<typeof make>>
