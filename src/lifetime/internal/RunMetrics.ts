/**
 * What a registry of work counts and measures, in the metrics that its subject has named. Times are in seconds, as Prometheus has
 * them; gauges are sampled once a second.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import type * as Metric from "effect/Metric"
import * as References from "effect/References"
import type { Described, Spans } from "./Entry.ts"
import * as RunState from "./RunState.ts"
import * as Series from "./Series.ts"

/** What the subject calls them. */
export interface Metrics {
  readonly submitted: Series.Series<Metric.Counter<number>>
  /** By the limit that was reached. */
  readonly rejected: Series.Series<Metric.Counter<number>>
  /** By state and reason. */
  readonly ended: Series.Series<Metric.Counter<number>>
  /** By state. */
  readonly kept: Series.Series<Metric.Gauge<number>>
  readonly waitTime: Series.Series<Metric.Histogram<number>>
  readonly runTime: Series.Series<Metric.Histogram<number>>
  /** Tells the log of work that is over, at debug level; times are in milliseconds. */
  readonly tell: (record: Outcome, spans: Spans) => Effect.Effect<void>
}

/** In seconds, from a millisecond to an hour. */
export const boundaries = [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1200, 3600]

/** The states that are counted: what has expired is forgotten. */
const kept = RunState.all.filter((state) => state !== "Expired")

/** A record that says why it failed. */
export interface Outcome extends Described {
  readonly error: { readonly _tag: string } | null
}

/** The metrics of a registry, each with the same attributes, in the registry of metrics of the current context. */
export const make = Effect.fnUntraced(function* (metrics: Metrics, attributes: Series.Attributes = {}) {
  const context = yield* Effect.context<never>()
  const isTold = LogLevel.isLessThanOrEqualTo(Context.get(context, References.MinimumLogLevel), "Debug")
  const run = Effect.runForkWith(context)
  const submitted = metrics.submitted(attributes)
  const waitTime = metrics.waitTime(attributes)
  const runTime = metrics.runTime(attributes)
  const rejected = Series.by((limit) => metrics.rejected({ ...attributes, limit }))
  const ended = Series.by((state) =>
    Series.by((reason) => metrics.ended({ ...attributes, state, ...(reason !== "" && { reason }) }))
  )
  const gauges = kept.map((state) => ({
    state,
    gauge: metrics.kept({ ...attributes, state })
  }))

  return {
    submitted: (): void => submitted.updateUnsafe(1, context),
    rejected: (limit: string): void => rejected(limit).updateUnsafe(1, context),
    /** Takes note of work that is over. */
    ended: (record: Outcome, spans: Spans): void => {
      const { ran, waited } = spans
      if (isTold) run(metrics.tell(record, spans))
      ended(record.state)(record.error?._tag ?? "").updateUnsafe(1, context)
      if (waited !== undefined) waitTime.updateUnsafe(waited / 1000, context)
      if (ran !== undefined) runTime.updateUnsafe(ran / 1000, context)
    },
    /** Sets the gauges to how things are now. */
    sample: (states: Iterable<RunState.RunState>): void => {
      const counts = new Map<RunState.RunState, number>()
      for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1)
      for (const { gauge, state } of gauges) gauge.updateUnsafe(counts.get(state) ?? 0, context)
    }
  }
})
