import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { type Answer, type Browser, problemOf, run, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Programs from "../support/distributionPrograms.ts"
import * as Service from "../support/service.ts"

interface Holding {
  readonly kind: string
  readonly id: string
  readonly state: string
  readonly since: string
  readonly site: string | null
  readonly attributes: Readonly<Record<string, unknown>>
  readonly holdings: ReadonlyArray<Holding>
}
const Holding = Schema.Struct({
  kind: Schema.NonEmptyString,
  id: Schema.String,
  state: Schema.Literals(["held", "ending", "stalled"]),
  since: Schema.String.check(Schema.isPattern(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/)),
  site: Schema.NullOr(Schema.String),
  attributes: Schema.Record(Schema.String, Schema.Unknown),
  holdings: Schema.Array(Schema.suspend((): Schema.Codec<Holding> => Holding))
})
const Holdings = Schema.Struct({ total: Schema.Int, omitted: Schema.Int, holdings: Schema.Array(Holding) })

const holdingsOf = (answer: Answer) => {
  assert.strictEqual(answer.status, 200, answer.text)
  return Schema.decodeUnknownSync(Holdings)(answer.json)
}

const flat = (some: ReadonlyArray<Holding>): ReadonlyArray<Holding> =>
  some.flatMap((holding) => [holding, ...flat(holding.holdings)])

const find = (some: ReadonlyArray<Holding>, kind: string, id?: string) =>
  flat(some).find((holding) => holding.kind === kind && (id === undefined || holding.id === id))

/** Every secret that the service was told or has made for these browsers. */
const secretsOf = (service: Service.Service, browsers: ReadonlyArray<Browser>) => [
  Service.demoPassword,
  ...[service.own.url, service.queries.url].map((url) => new URL(Redacted.value(url)).password),
  ...browsers.flatMap(({ cookies }) => Array.from(cookies.values()))
]

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("calls for operators", (it) => {
  it.effect(
    "GET /holdings shows a session, its query, whose it is and how far, the connection under it, and no secret",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        const operator = yield* Service.Demo
        const browser = yield* service.login()
        const id = yield* submit(browser, "select pg_sleep(60), 'whisper'")
        yield* Service.runs(service.queries.name, "whisper")
        const answer = yield* operator.send("GET", "/holdings")
        const { holdings, omitted, total } = holdingsOf(answer)
        assert.deepStrictEqual([flat(holdings).length, omitted], [total, 0])
        const session = holdings.find((holding) => holding.kind === "session" && find([holding], "query", id))
        assert.deepInclude(session, { state: "held" })
        const query = find(session?.holdings ?? [], "query", id)
        assert.isDefined(find(query?.holdings ?? [], "connection"), answer.text)
        assert.deepStrictEqual(query?.attributes, { principal: "demo", state: "Running" })
        assert.isAtMost(Date.parse(query?.since ?? ""), Date.now())
        for (const secret of [...secretsOf(service, [operator, browser]), "whisper"]) {
          assert.notInclude(answer.text, secret)
        }

        assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
        const after = holdingsOf(yield* operator.send("GET", "/holdings")).holdings
        assert.isUndefined(find(after, "query", id))
        assert.isUndefined(find(after, "session", session?.id))
      })
  )

  it.effect("GET /holdings is as large as one asks, and says what it leaves out", () =>
    Effect.gen(function* () {
      const operator = yield* Service.Demo
      const { holdings, omitted, total } = holdingsOf(yield* operator.send("GET", "/holdings?limit=2"))
      assert.strictEqual(flat(holdings).length, 2)
      assert.isAbove(total, 2)
      assert.strictEqual(omitted, total - 2)
      for (const limit of ["0", "10001", "x", ""]) {
        const refused = yield* operator.send("GET", `/holdings?limit=${limit}`)
        assert.deepStrictEqual([refused.status, problemOf(refused).code], [400, "RequestInvalid"], limit)
      }
    })
  )

  it.effect("GET /holdings is for operators only, as of now", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const visitor = yield* service.browser().send("GET", "/holdings")
      assert.deepStrictEqual([visitor.status, problemOf(visitor).code], [401, "SessionMissing"])
      yield* Service.addUser(service, "alice")
      const alice = yield* service.login("alice")
      const refused = yield* alice.send("GET", "/holdings")
      assert.deepStrictEqual([refused.status, problemOf(refused).code], [403, "OperatorsOnly"])
      yield* Service.setOperator(service, "alice", true)
      assert.strictEqual((yield* alice.send("GET", "/holdings")).status, 200)
      yield* Service.setOperator(service, "alice", false)
      assert.strictEqual((yield* alice.send("GET", "/holdings")).status, 403)
    })
  )

  it.effect("GET /metrics is Prometheus text about pool, queries, sessions and ledger, without a secret", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const browser = yield* service.login()
      yield* run(browser, "select 'whisper'")
      const visitor = service.browser()
      const valueOf = (text: string, series: RegExp) =>
        Number(
          text
            .split("\n")
            .find((line) => series.test(line))
            ?.split(" ")
            .at(-1)
        )
      const queries = /^holdfast_acquired_total\{kind="query"\} /
      const { headers, status, text } = yield* eventually(visitor.send("GET", "/metrics"), ({ text }) =>
        /^holdfast_connections_opened_total\{.*\} [1-9]/m.test(text)
      )
      assert.strictEqual(status, 200)
      assert.strictEqual(headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8")
      for (const line of text.trimEnd().split("\n")) {
        assert.match(
          line,
          /^(?:# (?:HELP|TYPE) [a-z_\d]+ .+|[a-z_\d]+(?:\{[a-z_]+="[^"]*"(?:,[a-z_]+="[^"]*")*\})? [-+.\deInf]+)$/
        )
      }
      assert.isAtLeast(valueOf(text, /^holdfast_sessions_events_total\{event="session.authenticated"\} /), 1)
      assert.isAtLeast(valueOf(text, /^holdfast_connections_wait_seconds_count\{/), 1)
      assert.isAtLeast(valueOf(text, /^holdfast_held\{kind="session store"\} /), 1)
      assert.isAtLeast(valueOf(text, /^holdfast_queries_ended_total\{engine="default",state="Succeeded"\} /), 1)
      assert.isAtLeast(valueOf(text, /^holdfast_queries_run_seconds_count\{engine="default"\} /), 1)
      for (const secret of [...secretsOf(service, [browser]), "whisper"]) assert.notInclude(text, secret)
      for (const part of ["tables", "sessions", "results", "queries"]) {
        assert.strictEqual(valueOf(text, new RegExp(`^holdfast_ready\\{part="${part}"\\} `)), 1, part)
      }

      const before = valueOf(text, queries)
      yield* run(browser, "select 1")
      assert.strictEqual(valueOf((yield* visitor.send("GET", "/metrics")).text, queries), before + 1)
      const id = yield* submit(browser, "select pg_sleep(60)")
      yield* eventually(visitor.send("GET", "/metrics"), ({ text }) =>
        /^holdfast_queries\{engine="default",state="Running"\} 1$/m.test(text)
      )
      yield* browser.send("DELETE", `/queries/${id}`)
      yield* eventually(visitor.send("GET", "/metrics"), ({ text }) =>
        /^holdfast_queries\{engine="default",state="Running"\} 0$/m.test(text)
      )
      // Asking counts nothing.
      assert.strictEqual(valueOf((yield* visitor.send("GET", "/metrics")).text, queries), before + 2)
      assert.strictEqual(valueOf((yield* visitor.send("GET", "/metrics")).text, /^holdfast_held\{kind="query"\} /), 0)
    })
  )

  it.effect(
    "GET /metrics passes promtool, names routes and outcomes, and has no label that a client or a free port chooses",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        const visitor = service.browser()
        const { id } = yield* run(yield* service.login(), "select 1")
        yield* visitor.send("POST", "/login", { json: { username: "demo", password: "not the password" } })
        yield* visitor.send("GET", "/no/such/path")
        yield* visitor.send("GET", `/queries/${id}`)
        const series = [
          'holdfast_http_requests_total{method="POST",route="/login",status="200"}',
          'holdfast_http_requests_total{method="POST",route="/login",status="401"}',
          'holdfast_http_requests_total{method="GET",route="/queries/:id",status="401"}',
          'holdfast_http_requests_total{method="GET",route="other",status="404"}',
          'holdfast_http_request_seconds_count{method="POST",route="/queries"}',
          'holdfast_logins_total{outcome="Succeeded"}',
          'holdfast_logins_total{outcome="InvalidCredentials"}',
          'holdfast_store_operations_total{operation="load",outcome="Answered"}',
          'holdfast_store_operation_seconds_count{operation="load"}',
          'holdfast_connections_open{source="default"}',
          "holdfast_sessions_live",
          'holdfast_engine_ready{engine="default"}',
          "process_cpu_seconds_total",
          "nodejs_eventloop_lag_p99_seconds"
        ]
        const { text } = yield* eventually(visitor.send("GET", "/metrics"), ({ text }) =>
          series.every((name) => text.includes(`\n${name} `))
        )
        assert.match(text, /^holdfast_build_info\{version="[\d.]+",node="[\d.]+"\} 1$/m)
        for (const word of [id, "no/such", "127.0.0.1", "localhost"]) assert.notInclude(text, word)
        assert.deepStrictEqual(yield* Programs.run(yield* Programs.promtool, ["check", "metrics"], { input: text }), {
          code: 0,
          output: ""
        })
      })
  )
})
