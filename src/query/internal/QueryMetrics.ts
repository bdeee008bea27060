/**
 * What a `QueryRegistry` counts and measures. Times are in milliseconds; gauges are sampled once a second.
 */
import type * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as RunMetrics from "../../lifetime/internal/RunMetrics.ts"
import type { QueryRecord } from "../QueryRecord.ts"

const count = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const submitted = count("holdfast_queries_submitted_total", "Queries taken in")
const rejected = count("holdfast_queries_rejected_total", "Submissions refused, by the limit that was reached")
const ended = count("holdfast_queries_ended_total", "Queries that are over, by state and reason")

const kept = Metric.gauge("holdfast_queries", { description: "Queries known now, by state" })

const waitTime = Metric.histogram("holdfast_queries_wait_milliseconds", {
  description: "Time from the submission of a query until its statement ran",
  boundaries: RunMetrics.boundaries
})
const runTime = Metric.histogram("holdfast_queries_run_milliseconds", {
  description: "Time from when a statement ran until its connection was released",
  boundaries: RunMetrics.boundaries
})

/** The metrics of one engine of a registry, in the registry of metrics of the current context. */
export const make = (engine: string) =>
  RunMetrics.make({ submitted, rejected, ended, kept, waitTime, runTime }, { engine })

/** Sets the gauges of each engine to how its queries are now. */
export const sample = (
  engines: ReadonlyMap<string, { readonly metrics: Effect.Success<ReturnType<typeof make>> }>,
  queries: ReadonlyArray<{ readonly record: Pick<QueryRecord, "engine" | "state"> }>
): void => {
  for (const [name, { metrics }] of engines) {
    metrics.sample(queries.flatMap(({ record }) => (record.engine === name ? [record.state] : [])))
  }
}
