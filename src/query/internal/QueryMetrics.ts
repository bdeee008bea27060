/**
 * What a `QueryRegistry` counts and measures. Times are in milliseconds; gauges are sampled once a second.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { QueryRecord } from "../QueryRecord.ts"
import type { Spans } from "../../lifetime/internal/Entry.ts"
import * as QueryState from "../QueryState.ts"

const count = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const submitted = count("holdfast_queries_submitted_total", "Queries taken in")
const rejected = count("holdfast_queries_rejected_total", "Submissions refused, by the limit that was reached")
const ended = count("holdfast_queries_ended_total", "Queries that are over, by state and reason")

const kept = Metric.gauge("holdfast_queries", { description: "Queries known now, by state" })

const boundaries = Metric.exponentialBoundaries({ start: 1, factor: 4, count: 12 })
const waitTime = Metric.histogram("holdfast_queries_wait_milliseconds", {
  description: "Time from the submission of a query until its statement ran",
  boundaries
})
const runTime = Metric.histogram("holdfast_queries_run_milliseconds", {
  description: "Time from when a statement ran until its connection was released",
  boundaries
})

/** The metrics of a registry, in the registry of metrics of the current context. */
export const make = Effect.gen(function* () {
  const context = yield* Effect.context<never>()
  const outcomes = new Map<string, Metric.Counter<number>>()

  const outcome = ({ error, state }: QueryRecord) => {
    const reason = error?._tag ?? ""
    const key = `${state} ${reason}`
    const known = outcomes.get(key)
    if (known !== undefined) return known
    const made = Metric.withAttributes(ended, reason === "" ? { state } : { state, reason })
    outcomes.set(key, made)
    return made
  }

  return {
    submitted: (): void => submitted.updateUnsafe(1, context),
    rejected: (limit: string): void => Metric.withAttributes(rejected, { limit }).updateUnsafe(1, context),
    /** Takes note of a query that is over. */
    ended: (record: QueryRecord, { ran, waited }: Spans): void => {
      outcome(record).updateUnsafe(1, context)
      if (waited !== undefined) waitTime.updateUnsafe(waited, context)
      if (ran !== undefined) runTime.updateUnsafe(ran, context)
    },
    /** Sets the gauges to how things are now. */
    sample: (states: Iterable<QueryState.QueryState>): void => {
      const counts = new Map<QueryState.QueryState, number>()
      for (const state of states) counts.set(state, (counts.get(state) ?? 0) + 1)
      for (const state of QueryState.all) {
        if (state === "Expired") continue
        Metric.withAttributes(kept, { state }).updateUnsafe(counts.get(state) ?? 0, context)
      }
    }
  }
})
