import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import {
  cookieName,
  type Browser,
  inTime,
  login,
  make as makeBrowser,
  problemOf,
  queriesOf,
  rowsOf,
  submit
} from "../support/browser.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

const credentials = { username: "demo", password: Service.demoPassword }

const becomes = (browser: Browser, code: string) =>
  eventually(browser.send("GET", "/health/ready"), (answer) =>
    code === "ready" ? answer.status === 200 : answer.status === 503 && problemOf(answer).code === code
  )

const startFreezable = Effect.gen(function* () {
  const databases = yield* Service.freshDatabases
  const { own, queries } = databases
  const [ownNetwork, queriesNetwork] = [yield* FaultProxy.to(own.url), yield* FaultProxy.to(queries.url)]
  const service = yield* Service.startService({
    databases,
    env: {
      DATABASE_URL: Redacted.value(ownNetwork.url),
      HOLDFAST_QUERY_URL: Redacted.value(queriesNetwork.url)
    }
  })
  return { service, queries, ownNetwork, queriesNetwork }
})

describe("a database that is away", { concurrent: true, timeout: 60_000 }, () => {
  it.live("the service starts without it, says so, and is ready by itself when it comes; it goes and comes again", () =>
    Effect.gen(function* () {
      const server = yield* TestPostgres.make()
      yield* Effect.scoped(
        Effect.flatMap(PgConnection.make({ url: server.superuserUrl }), (it) => it.query("create database own"))
      )
      yield* server.stop
      const service = yield* Service.launch({
        args: ["serve"],
        env: {
          PORT: "0",
          DATABASE_URL: Redacted.value(server.url("own")),
          HOLDFAST_QUERY_URL: Redacted.value(server.url()),
          HOLDFAST_QUERY_SUPERUSER: "allow",
          HOLDFAST_DEMO_PASSWORD: Service.demoPassword
        }
      })
      const browser = makeBrowser(yield* Service.listening(service))
      const cookie = `${cookieName(browser.url)}=${"a".repeat(43)}`
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/health/live")), [200, ""])
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/health/ready")), [503, "NotReady"])
      const unavailable = [503, "SessionsUnavailable"] as const
      assert.deepStrictEqual(yield* inTime(browser.send("POST", "/login", { json: credentials })), unavailable)
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session", { headers: { cookie } })), unavailable)
      assert.deepStrictEqual(yield* inTime(browser.send("POST", "/logout", { headers: { cookie } })), unavailable)
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), [401, "SessionMissing"])

      yield* server.start
      yield* becomes(browser, "ready")
      yield* login(browser, credentials)
      assert.deepStrictEqual(yield* rowsOf(browser, "select 1"), [[1]])

      yield* server.stop
      yield* becomes(browser, "NotReady")
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), unavailable)
      assert.deepStrictEqual(
        yield* inTime(browser.send("POST", "/queries", { json: { sql: "select 1" } })),
        unavailable
      )
      yield* server.start
      yield* becomes(browser, "ready")
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), [200, ""])
      assert.deepStrictEqual(yield* rowsOf(browser, "select 2"), [[2]])
    })
  )

  /** A service whose two databases are behind networks that can be frozen. */
  it.live("a database that swallows everything is as good as away: what needs it answers 503 within five seconds", () =>
    Effect.gen(function* () {
      const { ownNetwork, queriesNetwork, service } = yield* startFreezable
      const browser = yield* service.login()
      yield* ownNetwork.silence
      const unavailable = [503, "SessionsUnavailable"] as const
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), unavailable)
      yield* Effect.forEach(
        [
          ["GET", "/queries"],
          ["GET", "/session/data"],
          ["PATCH", "/session/data"],
          ["GET", "/sessions"],
          ["DELETE", "/sessions"],
          ["DELETE", "/sessions/00000000-0000-4000-8000-000000000000"]
        ] as const,
        ([method, path]) =>
          Effect.map(inTime(browser.send(method, path, method === "PATCH" ? { json: { a: 1 } } : {})), (answer) =>
            assert.deepStrictEqual(answer, unavailable, `${method} ${path}`)
          ),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/health/ready")), [503, "NotReady"])
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/health/live")), [200, ""])
      yield* ownNetwork.speak
      yield* becomes(browser, "ready")
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), [200, ""])

      yield* queriesNetwork.silence
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), [200, ""])
      yield* becomes(browser, "NotReady")
      const select = { json: { sql: "select 1" }, headers: { "idempotency-key": "frozen" } }
      const answers = Effect.all(
        Array.from({ length: 5 }, () => inTime(browser.send("POST", "/queries", select))),
        { concurrency: "unbounded" }
      )
      const noQueries = [503, "QueriesUnavailable"] as const
      assert.deepStrictEqual(yield* answers, [noQueries, noQueries, noQueries, noQueries, noQueries])
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), [200, ""])
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/queries")), [200, ""])
      yield* queriesNetwork.speak
      yield* becomes(browser, "ready")
      assert.deepStrictEqual(yield* rowsOf(browser, "select 1"), [[1]])
    })
  )

  it.live("a login while the database swallows everything is 503 within five seconds, and works afterwards", () =>
    Effect.gen(function* () {
      const { ownNetwork, service } = yield* startFreezable
      yield* service.login()
      yield* ownNetwork.silence
      const attempt = service.browser().send("POST", "/login", { json: credentials })
      const attempts = Effect.all(
        Array.from({ length: 8 }, () => inTime(attempt)),
        { concurrency: "unbounded" }
      )
      for (let round = 0; round < 2; round++) {
        for (const answer of yield* attempts) assert.deepStrictEqual(answer, [503, "SessionsUnavailable"])
      }
      yield* ownNetwork.speak
      yield* becomes(service.browser(), "ready")
      yield* service.login()
    })
  )

  it.live(
    "without the queries' database sessions work, and a submission is 503 QueriesUnavailable, the first one too",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.startService({ env: { HOLDFAST_QUERY_URL: undefined } })
        const beside = yield* Service.launch({
          args: ["serve"],
          env: { ...service.env, HOLDFAST_QUERY_URL: "postgres://user:secret@127.0.0.1:1/queries" }
        })
        const browser = makeBrowser(yield* Service.listening(beside))
        yield* login(browser, credentials)
        assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), [200, ""])
        assert.deepStrictEqual(yield* inTime(browser.send("GET", "/health/ready")), [503, "NotReady"])
        const answer = yield* browser.send("POST", "/queries", { json: { sql: "select 1" } })
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [503, "QueriesUnavailable"])
        assert.notInclude(answer.text, "secret")
        assert.notInclude(answer.text, "127.0.0.1")
        const [took] = yield* Effect.timed(browser.send("POST", "/queries", { json: { sql: "select 1" } }))
        assert.isBelow(Duration.toMillis(took), 5000)
        assert.deepStrictEqual(queriesOf(yield* browser.send("GET", "/queries")), [])
        assert.deepStrictEqual(yield* inTime(browser.send("POST", "/logout")), [204, ""])
      })
  )
})

describe("a service that ends while its queries' database is away", () => {
  it.live("SIGTERM ends the service within 5 seconds also when the queries' database swallows the cancels", () =>
    Effect.gen(function* () {
      const { queries, queriesNetwork, service } = yield* startFreezable
      const browser = yield* service.login()
      for (let index = 0; index < 3; index++) yield* submit(browser, "select pg_sleep(60)")
      yield* Service.runs(queries.name, "pg_sleep", 3)
      yield* queriesNetwork.silence
      const [took, ended] = yield* Effect.timed(Effect.andThen(service.signal("SIGTERM"), service.exited))
      assert.deepStrictEqual(ended, { code: 0, signal: null })
      assert.isBelow(Duration.toMillis(took), inTimeOf(5000))
    })
  )
})
