/**
 * What a `QueryRegistry` counts and measures. Times are in milliseconds; gauges are sampled once a second.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type { QueryRecord } from "../QueryRecord.ts"
import type { Spans } from "./QueryRegistryEntry.ts"
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
export const make = Effect.fnUntraced(function* (engines: ReadonlyArray<string>) {
  const context = yield* Effect.context<never>()
  const outcomes = new Map<string, Metric.Counter<number>>()

  const outcome = ({ engine, error, state }: QueryRecord) => {
    const reason = error?._tag ?? ""
    const key = `${engine} ${state} ${reason}`
    const known = outcomes.get(key)
    if (known !== undefined) return known
    const made = Metric.withAttributes(ended, reason === "" ? { engine, state } : { engine, state, reason })
    outcomes.set(key, made)
    return made
  }
  /** Of each engine. */
  const times = new Map(
    engines.map((engine) => [
      engine,
      { waited: Metric.withAttributes(waitTime, { engine }), ran: Metric.withAttributes(runTime, { engine }) }
    ])
  )
  const submissions = new Map(engines.map((engine) => [engine, Metric.withAttributes(submitted, { engine })]))

  return {
    submitted: (engine: string): void => submissions.get(engine)?.updateUnsafe(1, context),
    rejected: (engine: string, limit: string): void =>
      Metric.withAttributes(rejected, { engine, limit }).updateUnsafe(1, context),
    /** Takes note of a query that is over. */
    ended: (record: QueryRecord, { ran, waited }: Spans): void => {
      outcome(record).updateUnsafe(1, context)
      const of = times.get(record.engine)
      if (waited !== undefined) of?.waited.updateUnsafe(waited, context)
      if (ran !== undefined) of?.ran.updateUnsafe(ran, context)
    },
    /** Sets the gauges to how things are now. */
    sample: (records: Iterable<Pick<QueryRecord, "engine" | "state">>): void => {
      const counts = new Map<string, number>()
      for (const { engine, state } of records) {
        counts.set(`${engine} ${state}`, (counts.get(`${engine} ${state}`) ?? 0) + 1)
      }
      for (const engine of engines) {
        for (const state of QueryState.all) {
          if (state === "Expired") continue
          Metric.withAttributes(kept, { engine, state }).updateUnsafe(counts.get(`${engine} ${state}`) ?? 0, context)
        }
      }
    }
  }
})
