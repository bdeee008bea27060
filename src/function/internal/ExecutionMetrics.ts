/**
 * What `Functions` counts and measures. Times are in seconds; gauges are sampled once a second.
 */
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as RunMetrics from "../../lifetime/internal/RunMetrics.ts"
import * as Series from "../../lifetime/internal/Series.ts"

const submitted = Series.counter("holdfast_executions_submitted_total", "Executions taken in")
const rejected = Series.counter(
  "holdfast_executions_rejected_total",
  "Executions refused, by the limit that was reached"
)
const ended = Series.counter("holdfast_executions_ended_total", "Executions that are over, by state and reason")

const kept = Series.gauge("holdfast_executions", "Executions known now, by state")

const waitTime = Series.histogram(
  "holdfast_executions_wait_seconds",
  "Time from the submission of an execution until its script ran",
  RunMetrics.boundaries
)
const runTime = Series.histogram(
  "holdfast_executions_run_seconds",
  "Time from when a script ran until its sandbox was released",
  RunMetrics.boundaries
)

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
