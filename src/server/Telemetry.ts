/**
 * Traces, metrics and log lines for a collector of OpenTelemetry, where the environment names one.
 *
 * The variables are those of the OpenTelemetry specification: `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and
 * their kin. Without them nothing is made, and nothing is done for a request: Effect would make spans that nobody sees. What is left to send is sent when the layer closes,
 * within the time that these variables say.
 *
 * **Details**
 *
 * A span of a request has its method, route, status, path and client, and no header and no query, which may hold what is
 * nobody's business. Calls of health and metrics have none. A `traceparent` that comes with a request is its parent (W3C Trace Context).
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as UrlParams from "effect/http/UrlParams"
import * as Layer from "effect/Layer"
import * as Otlp from "effect/observability/Otlp"
import * as OtlpSerialization from "effect/observability/OtlpSerialization"
import { manifest } from "./Manifest.ts"

const endpoints = ["", "TRACES_", "METRICS_", "LOGS_"].map((signal) => `OTEL_EXPORTER_OTLP_${signal}ENDPOINT`)

/** Whether somebody collects. */
export const isWanted = (environment: Readonly<Record<string, string | undefined>>): boolean =>
  environment["OTEL_SDK_DISABLED"] !== "true" && endpoints.some((name) => (environment[name] ?? "") !== "")

/** What the specification says where nothing is said: all three are sent. */
const usual = { OTEL_TRACES_EXPORTER: "otlp", OTEL_METRICS_EXPORTER: "otlp", OTEL_LOGS_EXPORTER: "otlp" }

const provider = () => {
  const given = Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]))
  return ConfigProvider.fromEnv({ env: { ...usual, ...(Object.fromEntries(given) as Record<string, string>) } })
}

const quiet = new Set(["/health/live", "/health/ready", "/metrics"])

/** Sends to the collector that the environment names, in the encoding that it names: protobuf, or JSON. */
export const layer: Layer.Layer<never> = Layer.unwrap(
  Effect.gen(function* () {
    if (!isWanted(process.env)) return Layer.succeed(HttpMiddleware.TracerDisabledWhen, () => true)
    const protocol = yield* Config.withDefault(Config.String("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
    const serialization = protocol === "http/json" ? OtlpSerialization.layerJson : OtlpSerialization.layerProtobuf
    const exporter = Otlp.layerFromConfig({
      resource: {
        serviceName: process.env["OTEL_SERVICE_NAME"] ?? "holdfast",
        serviceVersion: manifest.version,
        attributes: { "service.instance.id": `${process.pid}` }
      },
      loggerMergeWithExisting: true
    }).pipe(Layer.provide([serialization, FetchHttpClient.layer, ConfigProvider.layer(provider())]))
    return Layer.mergeAll(
      exporter,
      Layer.succeed(HttpMiddleware.TracerDisabledWhen, ({ url }) => quiet.has(url)),
      Layer.succeed(HttpMiddleware.TracerHeaderFilter, () => false),
      Layer.succeed(UrlParams.CurrentRedactedNames, [/./])
    )
  }).pipe(Effect.orDie)
)
