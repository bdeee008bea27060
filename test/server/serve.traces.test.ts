/**
 * What a collector of OpenTelemetry receives from the service.
 */
import { assert, describe, it } from "@effect/vitest"
import { createServer } from "node:http"
import { once } from "node:events"
import { text } from "node:stream/consumers"
import * as Effect from "effect/Effect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Schema from "effect/Schema"
import * as Telemetry from "../../src/server/Telemetry.ts"
import { rowsOf } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

const Attribute = Schema.Struct({ key: Schema.String, value: Schema.Record(Schema.String, Schema.Unknown) })
const Span = Schema.Struct({
  traceId: Schema.String,
  spanId: Schema.String,
  parentSpanId: Schema.optional(Schema.String),
  name: Schema.String,
  attributes: Schema.Array(Attribute)
})
type Span = typeof Span.Type
const decode = Schema.decodeUnknownSync(
  Schema.fromJsonString(
    Schema.Struct({
      resourceSpans: Schema.Array(
        Schema.Struct({
          resource: Schema.Struct({ attributes: Schema.Array(Attribute) }),
          scopeSpans: Schema.Array(Schema.Struct({ spans: Schema.Array(Span) }))
        })
      )
    })
  )
)

/** Keeps what it is sent. */
const collector = Effect.acquireRelease(
  Effect.promise(async () => {
    const bodies: Array<readonly [path: string, body: string]> = []
    const server = createServer((request, response) => {
      const keep = async () => {
        bodies.push([request.url ?? "", await text(request)])
        response.writeHead(200, { "content-type": "application/json" }).end("{}")
      }
      void keep()
    })
    await once(server.listen(0, "127.0.0.1"), "listening")
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    const received = () => bodies.filter(([path]) => path === "/v1/traces").map(([, body]) => decode(body))
    const spans = () =>
      received().flatMap(({ resourceSpans }) =>
        resourceSpans.flatMap((it) => it.scopeSpans.flatMap((own) => own.spans))
      )
    return { server, bodies, spans, received, url: `http://127.0.0.1:${port}` }
  }),
  ({ server }) =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
)

const valueOf = ({ attributes }: Pick<Span, "attributes">, name: string) =>
  Object.values(attributes.find(({ key }) => key === name)?.value ?? {})[0]

const treeOf = (spans: ReadonlyArray<Span>, parent: string): ReadonlyArray<unknown> =>
  spans
    .filter(({ parentSpanId }) => parentSpanId === parent)
    .map(({ name, spanId }) => {
      const below = treeOf(spans, spanId)
      return below.length === 0 ? name : [name, below]
    })

describe("a trace", () => {
  // Effect makes one as soon as the service looks at requests on their way, as it does behind a proxy that it trusts.
  it.effect("is made for no request where nobody collects, behind a proxy either", () =>
    Effect.gen(function* () {
      const request = HttpServerRequest.fromWeb(new Request("http://localhost/session"))
      const isTraced = Effect.map(Effect.option(Effect.currentParentSpan), (span) =>
        HttpServerResponse.text(span._tag === "Some" ? "traced" : "not traced")
      )
      const response = yield* Effect.provideService(
        HttpMiddleware.tracer(isTraced),
        HttpServerRequest.HttpServerRequest,
        request
      )
      assert.strictEqual(yield* Effect.promise(() => HttpServerResponse.toWeb(response).text()), "not traced")
    }).pipe(Effect.provide(Telemetry.layer))
  )

  it.live(
    "runs from the request through session, lease and statement to the server of the statement, under the caller's; S10 with no secret in it",
    () =>
      Effect.gen(function* () {
        const { bodies, received, spans, url } = yield* collector
        const service = yield* Service.startService({
          env: {
            OTEL_EXPORTER_OTLP_ENDPOINT: url,
            OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
            OTEL_BSP_SCHEDULE_DELAY: "200",
            OTEL_SERVICE_NAME: "tested",
            HOLDFAST_QUERY_TRACE: "comment"
          }
        })
        const browser = yield* service.login()
        const traceId = "0af7651916cd43dd8448eb211c80319c"
        const traceparent = `00-${traceId}-b7ad6b7169203331-01`
        const json = { sql: "select $1::text, 'a whispered literal'", params: ["a whispered parameter"] }
        const submitted = yield* browser.send("POST", "/queries?x=whispered", { headers: { traceparent }, json })
        assert.strictEqual(submitted.status, 202, submitted.text)
        const [[seen] = []] = yield* rowsOf(browser, "select query from pg_stat_activity where pid = pg_backend_pid()")
        assert.match(String(seen), /^\/\*traceparent='00-[0-9a-f]{32}-[0-9a-f]{16}-01'\*\/ select query from/)
        const mine = () => spans().filter((span) => span.traceId === traceId)
        yield* eventually(
          Effect.sync(mine),
          (all) => all.some(({ name }) => name === "ConnectionPool.release") && all.some(({ name }) => name === "POST"),
          "20 seconds"
        )
        const root = mine().find(({ parentSpanId }) => parentSpanId === "b7ad6b7169203331") ?? assert.fail()
        assert.deepStrictEqual(
          [root.name, valueOf(root, "http.request.method"), valueOf(root, "http.route")],
          ["POST", "POST", "/queries"]
        )
        assert.sameDeepMembers(
          [...treeOf(mine(), root.spanId)],
          ["SessionStore.load", ["query", ["ConnectionPool.acquire", "statement", "ConnectionPool.release"]]]
        )
        const statement = mine().find(({ name }) => name === "statement") ?? assert.fail()
        assert.strictEqual(valueOf(statement, "db.operation.name"), "SELECT")
        const resource = received()[0]?.resourceSpans[0]?.resource ?? assert.fail()
        assert.strictEqual(valueOf(resource, "service.name"), "tested")
        // Nobody's load balancer fills a collector.
        assert.notInclude(JSON.stringify(spans()), "/health/")

        const cookies = Array.from(browser.cookies.values())
        yield* service.signal("SIGTERM")
        assert.strictEqual((yield* service.exited).code, 0)
        const all = JSON.stringify(bodies)
        assert.include(all, "service.stopped")
        for (const secret of [...cookies, Service.demoPassword, "whispered"]) assert.notInclude(all, secret)
      }).pipe(Effect.scoped)
  )
})
