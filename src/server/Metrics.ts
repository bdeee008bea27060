/**
 * The metrics of the process as Prometheus reads them: those that its parts keep, and the totals of the ledger, which are
 * brought up to date when somebody asks.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Ledger from "../lifetime/Ledger.ts"

const held = Metric.gauge("holdfast_held", { description: "What is held now, by kind" })

const count = (name: string, description: string) => Metric.counter(name, { description, incremental: true })
const counters = {
  acquired: count("holdfast_acquired_total", "What was acquired, by kind"),
  released: count("holdfast_released_total", "What was released, by kind"),
  failed: count("holdfast_releases_failed_total", "Releases that failed, by kind"),
  stalled: count("holdfast_releases_stalled_total", "Releases that took too long, by kind")
}
const names = ["acquired", "released", "failed", "stalled"] as const

/** The media type of the text. */
export const contentType = "text/plain; version=0.0.4; charset=utf-8"

/** What answers the text. */
export const make = Effect.gen(function* () {
  const ledger = yield* Ledger.Ledger
  const context = yield* Effect.context<never>()
  const told = new Map<string, Ledger.Totals>()

  // In one step: two who ask at the same moment must not count the same twice.
  const account = (all: ReadonlyMap<string, Ledger.Totals>) => {
    for (const [kind, totals] of all) {
      const before = told.get(kind)
      told.set(kind, totals)
      Metric.withAttributes(held, { kind }).updateUnsafe(totals.acquired - totals.released, context)
      for (const name of names) {
        Metric.withAttributes(counters[name], { kind }).updateUnsafe(totals[name] - (before?.[name] ?? 0), context)
      }
    }
    return PrometheusMetrics.formatUnsafe(context)
  }
  return Effect.map(ledger.totals, account)
})
