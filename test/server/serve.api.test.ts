import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import type * as Cookies from "effect/http/Cookies"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { HoldfastApi } from "../../src/server/HoldfastApi.ts"
import { problemOf, queriesOf, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

const calls = [
  "POST /login",
  "POST /logout",
  "GET /session",
  "GET /session/data",
  "PATCH /session/data",
  "PUT /session/data",
  "GET /sessions",
  "DELETE /sessions/{id}",
  "DELETE /sessions",
  "POST /queries",
  "GET /engines",
  "GET /queries",
  "GET /queries/{id}",
  "GET /queries/{id}/rows",
  "GET /queries/{id}/events",
  "GET /queries/events",
  "DELETE /holdings/{kind}/{id}",
  "GET /session/events",
  "DELETE /queries/{id}",
  "POST /functions",
  "GET /functions",
  "GET /functions/{id}",
  "DELETE /functions/{id}",
  "POST /functions/{id}/executions",
  "GET /executions/{id}",
  "DELETE /executions/{id}",
  "POST /api/v1/initialize",
  "POST /api/v1/execute/{id}",
  "GET /health/live",
  "GET /health/ready",
  "GET /metrics",
  "GET /holdings"
]

const OpenApi = Schema.Struct({
  openapi: Schema.String,
  paths: Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.Unknown))
})

/** A client derived from the definition of the API, which keeps cookies. */
const derivedClient = (baseUrl: string) =>
  Effect.gen(function* () {
    const cookies = yield* Ref.make<ReadonlyArray<Cookies.Cookie>>([])
    return yield* HttpApiClient.make(HoldfastApi, {
      // Cookies are chosen by the whole URL, so it is made whole before, not by the option `baseUrl` after.
      transformClient: (client) =>
        client.pipe(HttpClient.mapRequest(HttpClientRequest.prependUrl(baseUrl)), HttpClient.withCookiesRef(cookies))
    })
  }).pipe(Effect.provide(FetchHttpClient.layer))

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("the API of the service", (it) => {
  it.effect("/openapi.json lists all of the calls, and nothing else", () =>
    Effect.gen(function* () {
      const answer = yield* (yield* Service.Shared).browser().send("GET", "/openapi.json")
      assert.strictEqual(answer.status, 200)
      const { openapi, paths } = Schema.decodeUnknownSync(OpenApi)(answer.json)
      assert.match(openapi, /^3\.1/)
      const listed = Object.entries(paths).flatMap(([path, methods]) =>
        Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
      )
      assert.sameMembers(listed, calls)
    })
  )

  it.effect("no cache keeps any answer", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      for (const path of [
        "/session",
        "/session/data",
        "/sessions",
        "/queries",
        "/queries/q",
        "/nothing",
        "/health/ready"
      ]) {
        const { headers } = yield* browser.send("GET", path)
        assert.strictEqual(headers.get("cache-control"), "no-store", path)
      }
      const refused = yield* browser.send("POST", "/logout", { headers: { origin: "https://evil.example" } })
      assert.strictEqual(refused.headers.get("cache-control"), "no-store")
    })
  )

  it.effect("/docs is a page that loads nothing from elsewhere", () =>
    Effect.gen(function* () {
      const { status, headers, text } = yield* (yield* Service.Shared).browser().send("GET", "/docs")
      assert.strictEqual(status, 200)
      assert.match(headers.get("content-type") ?? "", /^text\/html/)
      const tags = Array.from(text.matchAll(/<(?:script|link|img|iframe)\b[^>]*>/g), ([tag]) => tag)
      assert.deepStrictEqual(
        tags.filter((tag) => /\b(?:src|href)\s*=\s*["']?(?:https?:)?\/\//i.test(tag)),
        []
      )
      assert.notMatch(text, /@import|url\(\s*["']?(?:https?:)?\/\//)
      assert.match(text, /swagger/i)
    })
  )

  it.effect("liveness and readiness are for everybody", () =>
    Effect.gen(function* () {
      const browser = (yield* Service.Shared).browser()
      assert.deepStrictEqual((yield* browser.send("GET", "/health/live")).json, { status: "live" })
      assert.deepStrictEqual((yield* browser.send("GET", "/health/ready")).json, { status: "ready" })
    })
  )

  it.effect("without a session the session and the queries are 401 SessionMissing", () =>
    Effect.gen(function* () {
      const browser = (yield* Service.Shared).browser()
      const id = "/queries/q_00000000-0000-4000-8000-000000000000"
      for (const [method, path] of [
        ["GET", "/session"],
        ["GET", "/queries"],
        ["POST", "/queries"],
        ["GET", id],
        ["GET", `${id}/rows`],
        ["GET", `${id}/events`],
        ["DELETE", id]
      ] as const) {
        const answer = yield* browser.send(method, path, method === "POST" ? { json: { sql: "select 1" } } : {})
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [401, "SessionMissing"], `${method} ${path}`)
      }
    })
  )

  it.effect("a client derived from the same definition logs in, runs SQL and reads the rows", () =>
    Effect.gen(function* () {
      const { url } = yield* Service.Shared
      const client = yield* derivedClient(url)
      const missing = yield* Effect.flip(client.sessions.current())
      assert.strictEqual(missing._tag, "SessionMissing")

      const session = yield* client.sessions.login({ payload: { username: "demo", password: Service.demoPassword } })
      assert.deepStrictEqual((yield* client.sessions.current()).id, session.id)
      const { body, headers } = yield* client.queries.submit({
        headers: { "idempotency-key": "derived" },
        payload: { sql: "select $1::int", params: [42] }
      })
      const { id } = body
      assert.strictEqual(headers.location, `/queries/${id}`)
      const { rowCount } = yield* eventually(
        client.queries.status({ params: { id } }),
        ({ state }) => state === "Succeeded"
      )
      assert.strictEqual(rowCount, 1)
      const { next, rows } = yield* client.queries.rows({ params: { id }, query: { limit: 1 } })
      assert.deepStrictEqual([rows, next], [[[42]], null])
      const listed = yield* client.queries.list({ query: { state: "Succeeded" } })
      assert.include(
        listed.body.map((query) => query.id),
        id
      )
      const events = yield* client.queries.events({ params: { id }, headers: {} })
      assert.isDefined(events)
      const seen = yield* Stream.runCollect(events ?? Stream.empty)
      assert.deepStrictEqual(
        seen.map(({ data, event, id }) => [id, event, data.state]),
        [
          ["1", "state", "Queued"],
          ["2", "state", "Starting"],
          ["3", "state", "Running"],
          ["4", "state", "Succeeded"]
        ]
      )

      const unknown = yield* Effect.flip(client.queries.status({ params: { id: "garbage" } }))
      assert.strictEqual(unknown._tag, "QueryNotFound")
      const cursor = yield* Effect.flip(client.queries.rows({ params: { id }, query: { cursor: "garbage" } }))
      assert.strictEqual(cursor._tag, "CursorInvalid")
      yield* client.sessions.logout()
      assert.strictEqual((yield* Effect.flip(client.queries.list({ query: {} })))._tag, "SessionMissing")
    })
  )

  it.effect("what another site makes a browser send is refused; our own site and no browser at all are fine", () =>
    Effect.gen(function* () {
      const { queries, url } = yield* Service.Shared
      const browser = yield* Service.Demo
      const id = yield* submit(browser, "select pg_sleep(60)")
      yield* Service.runs(queries.name, "pg_sleep")
      const before = queriesOf(yield* browser.send("GET", "/queries")).length
      for (const headers of [
        { origin: "https://evil.example" },
        { origin: "null" },
        { origin: `${url}0` },
        { origin: url.replace("http:", "https:") },
        { origin: `${url}.evil.example` },
        { "sec-fetch-site": "cross-site" },
        { "sec-fetch-site": "same-site" },
        { origin: url, "sec-fetch-site": "cross-site" }
      ]) {
        for (const [method, path] of [
          ["POST", "/queries"],
          ["POST", "/login"],
          ["POST", "/logout"],
          ["DELETE", `/queries/${id}`]
        ] as const) {
          const json = path === "/login" ? { username: "demo", password: Service.demoPassword } : { sql: "select 1" }
          const answer = yield* browser.send(method, path, method === "POST" ? { headers, json } : { headers })
          const what = `${method} ${path} ${JSON.stringify(headers)}`
          assert.deepStrictEqual([answer.status, problemOf(answer).code], [403, "OriginRefused"], what)
          assert.deepStrictEqual(answer.headers.getSetCookie(), [], what)
        }
        assert.strictEqual((yield* browser.send("GET", "/session", { headers })).status, 200)
      }
      yield* Service.runs(queries.name, "pg_sleep")
      assert.lengthOf(queriesOf(yield* browser.send("GET", "/queries")), before)

      const own = { origin: url, "sec-fetch-site": "same-origin" }
      assert.strictEqual(
        (yield* browser.send("POST", "/queries", { json: { sql: "select 1" }, headers: own })).status,
        202
      )
      assert.strictEqual((yield* browser.send("DELETE", `/queries/${id}`, { headers: own })).status, 200)
    })
  )
})
