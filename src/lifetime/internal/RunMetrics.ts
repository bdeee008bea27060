/**
 * What a registry of work counts and measures, in the metrics that its subject has named. Times are in seconds, as Prometheus has
 * them; gauges are sampled once a second.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as References from "effect/References"
import type { Described, Spans } from "./Entry.ts"
import * as RunState from "./RunState.ts"

/** What the subject calls them. */
export interface Metrics {
  readonly submitted: Metric.Counter<number>
  /** By the limit that was reached. */
  readonly rejected: Metric.Counter<number>
  /** By state and reason. */
  readonly ended: Metric.Counter<number>
  /** By state. */
  readonly kept: Metric.Gauge<number>
  readonly waitTime: Metric.Histogram<number>
  readonly runTime: Metric.Histogram<number>
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
export const make = Effect.fnUntraced(function* (metrics: Metrics, attributes: Readonly<Record<string, string>> = {}) {
  const context = yield* Effect.context<never>()
  const isTold = LogLevel.isLessThanOrEqualTo(Context.get(context, References.MinimumLogLevel), "Debug")
  const run = Effect.runForkWith(context)
  const submitted = Metric.withAttributes(metrics.submitted, attributes)
  const waitTime = Metric.withAttributes(metrics.waitTime, attributes)
  const runTime = Metric.withAttributes(metrics.runTime, attributes)
  const outcomes = new Map<string, Metric.Counter<number>>()
  const gauges = kept.map((state) => ({
    state,
    gauge: Metric.withAttributes(metrics.kept, { ...attributes, state })
  }))

  const outcome = ({ error, state }: Outcome) => {
    const reason = error?._tag ?? ""
    const key = `${state} ${reason}`
    const known = outcomes.get(key)
    if (known !== undefined) return known
    const made = Metric.withAttributes(metrics.ended, {
      ...attributes,
      state,
      ...(reason !== "" && { reason })
    })
    outcomes.set(key, made)
    return made
  }

  return {
    submitted: (): void => submitted.updateUnsafe(1, context),
    rejected: (limit: string): void =>
      Metric.withAttributes(metrics.rejected, { ...attributes, limit }).updateUnsafe(1, context),
    /** Takes note of work that is over. */
    ended: (record: Outcome, spans: Spans): void => {
      const { ran, waited } = spans
      if (isTold) run(metrics.tell(record, spans))
      outcome(record).updateUnsafe(1, context)
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
