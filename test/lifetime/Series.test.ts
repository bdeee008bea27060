/** Series of metrics that are found once. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Series from "../../src/lifetime/internal/Series.ts"

const asked = Series.counter("asked_total", "What was asked")

describe("series of a metric", () => {
  it.effect("are those that attributes of the metric lead to, and look the same to Prometheus", () =>
    Effect.gen(function* () {
      const usual = Metric.counter("asked_total", { description: "What was asked", incremental: true })
      const kinds = Series.by((kind) => asked({ kind }))
      yield* Metric.update(kinds("a"), 1)
      yield* Metric.update(kinds("b"), 1)
      yield* Metric.update(kinds("a"), 1)
      yield* Metric.update(Metric.withAttributes(usual, { kind: "a" }), 1)
      yield* Metric.update(asked({}), 1)
      assert.strictEqual(
        yield* PrometheusMetrics.format(),
        [
          "# HELP asked_total What was asked",
          "# TYPE asked_total counter",
          'asked_total{kind="a"} 3',
          'asked_total{kind="b"} 1',
          "asked_total 1",
          ""
        ].join("\n")
      )
    }).pipe(Effect.provideService(Metric.MetricRegistry, new Map()))
  )

  it.effect("have the attributes of the program as well", () =>
    Effect.gen(function* () {
      yield* Metric.update(asked({ kind: "a" }), 1)
      assert.include(yield* PrometheusMetrics.format(), 'asked_total{kind="a",instance="one"} 1')
    }).pipe(
      Effect.provideService(Metric.CurrentMetricAttributes, { instance: "one" }),
      Effect.provideService(Metric.MetricRegistry, new Map())
    )
  )
})
