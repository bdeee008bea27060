/**
 * What a `QueryRegistry` counts and measures. Times are in seconds; gauges are sampled once a second.
 */
import type * as Cause from "effect/Cause"
import type * as Effect from "effect/Effect"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as RunMetrics from "../../lifetime/internal/RunMetrics.ts"
import * as Series from "../../lifetime/internal/Series.ts"
import type { QueryRecord } from "../QueryRecord.ts"

const submitted = Series.counter("holdfast_queries_submitted_total", "Queries taken in")
const rejected = Series.counter("holdfast_queries_rejected_total", "Submissions refused, by the limit that was reached")
const ended = Series.counter("holdfast_queries_ended_total", "Queries that are over, by state and reason")

const kept = Series.gauge("holdfast_queries", "Queries known now, by state")

const waitTime = Series.histogram(
  "holdfast_queries_wait_seconds",
  "Time from the submission of a query until its statement ran",
  RunMetrics.boundaries
)
const runTime = Series.histogram(
  "holdfast_queries_run_seconds",
  "Time from when a statement ran until its connection was released",
  RunMetrics.boundaries
)

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

/** Sets the gauges of each engine to how its queries are now. */
export const sample = (
  engines: ReadonlyMap<string, { readonly metrics: Effect.Success<ReturnType<typeof make>> }>,
  queries: ReadonlyArray<{ readonly record: Pick<QueryRecord, "engine" | "state"> }>
): void => {
  for (const [name, { metrics }] of engines) {
    metrics.sample(queries.flatMap(({ record }) => (record.engine === name ? [record.state] : [])))
  }
}
