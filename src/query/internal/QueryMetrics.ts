/**
 * What a `QueryRegistry` counts and measures. Times are in seconds; gauges are sampled once a second.
 */
import type * as Cause from "effect/Cause"
import * as Metric from "effect/Metric"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as RunMetrics from "../../lifetime/internal/RunMetrics.ts"

const count = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const submitted = count("holdfast_queries_submitted_total", "Queries taken in")
const rejected = count("holdfast_queries_rejected_total", "Submissions refused, by the limit that was reached")
const ended = count("holdfast_queries_ended_total", "Queries that are over, by state and reason")

const kept = Metric.gauge("holdfast_queries", { description: "Queries known now, by state" })

const waitTime = Metric.histogram("holdfast_queries_wait_seconds", {
  description: "Time from the submission of a query until its statement ran",
  boundaries: RunMetrics.boundaries
})
const runTime = Metric.histogram("holdfast_queries_run_seconds", {
  description: "Time from when a statement ran until its connection was released",
  boundaries: RunMetrics.boundaries
})

const round = (millis: number | undefined) => (millis === undefined ? undefined : Math.round(millis * 1000) / 1000)

const tell: RunMetrics.Metrics["tell"] = ({ error, id, principal, state }, { ran, waited }) =>
  LogEvent.debug(
    {
      event: "query.ended",
      query: id,
      principal,
      state,
      reason: error?._tag,
      waitedMillis: round(waited),
      ranMillis: round(ran)
    },
    "A query ended"
  )

/** Tells of a fault in a driver. */
export const failed = (query: string, cause: Cause.Cause<unknown>) =>
  LogEvent.error({ event: "query.failed", query }, `Query ${query} failed`, cause)

/** The metrics of one engine of a registry, in the registry of metrics of the current context. */
export const make = (engine: string) =>
  RunMetrics.make({ submitted, rejected, ended, kept, waitTime, runTime, tell }, { engine })
