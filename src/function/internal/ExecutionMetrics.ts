/**
 * What `Functions` counts and measures. Times are in seconds; gauges are sampled once a second.
 */
import * as Metric from "effect/Metric"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as RunMetrics from "../../lifetime/internal/RunMetrics.ts"

const count = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const submitted = count("holdfast_executions_submitted_total", "Executions taken in")
const rejected = count("holdfast_executions_rejected_total", "Executions refused, by the limit that was reached")
const ended = count("holdfast_executions_ended_total", "Executions that are over, by state and reason")

const kept = Metric.gauge("holdfast_executions", { description: "Executions known now, by state" })

const waitTime = Metric.histogram("holdfast_executions_wait_seconds", {
  description: "Time from the submission of an execution until its script ran",
  boundaries: RunMetrics.boundaries
})
const runTime = Metric.histogram("holdfast_executions_run_seconds", {
  description: "Time from when a script ran until its sandbox was released",
  boundaries: RunMetrics.boundaries
})

const round = (millis: number | undefined) => (millis === undefined ? undefined : Math.round(millis * 1000) / 1000)

const tell: RunMetrics.Metrics["tell"] = ({ error, id, principal, state }, { ran, waited }) =>
  LogEvent.debug(
    {
      event: "execution.ended",
      execution: id,
      principal,
      state,
      reason: error?._tag,
      waitedMillis: round(waited),
      ranMillis: round(ran)
    },
    "An execution ended"
  )

/** The metrics of an engine, in the registry of metrics of the current context. */
export const make = RunMetrics.make({ submitted, rejected, ended, kept, waitTime, runTime, tell })
