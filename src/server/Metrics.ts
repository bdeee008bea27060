/**
 * The metrics of the process as Prometheus reads them: those that its parts keep, and the totals of the ledger and readiness, which
 * are brought up to date when somebody asks.
 */
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Ledger from "../lifetime/Ledger.ts"

const ready = Metric.gauge("holdfast_ready", { description: "Whether a part of the service can be used: 1 or 0" })
const engineReady = Metric.gauge("holdfast_engine_ready", {
  description: "Whether queries can run on an engine: 1 or 0"
})

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

/** What the text tells besides. */
export interface Parts {
  readonly waitingFor: Effect.Effect<ReadonlyArray<string>>
  /** All that may be waited for. */
  readonly parts: ReadonlyArray<string>
  readonly engines: ReadonlyMap<string, { readonly isReady: Effect.Effect<boolean> }>
}

/** What answers the text. */
export const make = Effect.fnUntraced(function* ({ engines, parts, waitingFor }: Parts) {
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
  const set = (gauge: Metric.Gauge<number>, attributes: Readonly<Record<string, string>>, is: boolean) =>
    Metric.update(Metric.withAttributes(gauge, attributes), is ? 1 : 0)
  const readiness = Effect.all(
    [
      Effect.flatMap(waitingFor, (missing) =>
        Effect.forEach(parts, (part) => set(ready, { part }, !missing.includes(part)), { discard: true })
      ),
      Effect.forEach(
        engines,
        ([engine, { isReady }]) => Effect.flatMap(isReady, (is) => set(engineReady, { engine }, is)),
        { concurrency: "unbounded", discard: true }
      )
    ],
    { concurrency: "unbounded", discard: true }
  )
  return Effect.andThen(readiness, Effect.map(ledger.totals, account))
})
