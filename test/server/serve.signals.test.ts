import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { problemOf, run, submit } from "../support/browser.ts"
import * as RawHttp from "../support/rawHttp.ts"
import { backends, eventually, inTimeOf } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

const forTen = { env: { HOLDFAST_MAX_QUERIES_PER_USER: "10" } }

const tenQueries = (service: Service.Service) =>
  Effect.gen(function* () {
    const browser = yield* service.login()
    for (let index = 0; index < 10; index++) yield* submit(browser, "select pg_sleep(60)")
    yield* Service.runs(service.queries.name, "pg_sleep", 10)
  })

/** Nothing of the service is left at the server, statement or connection. */
const nothingLeft = ({ own, queries }: Service.Service) =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* Service.statements(queries.name), [])
    // A backend that was told goodbye takes a moment to go.
    for (const { name } of [own, queries]) yield* eventually(backends(name), (count) => count === 0)
  })

const endedBy = (service: Service.Service, signals: Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    const [took, ended] = yield* Effect.timed(Effect.andThen(signals, service.exited))
    assert.deepStrictEqual(ended, { code: 0, signal: null }, service.stderr())
    return Duration.toMillis(took)
  })

describe("the end of the service", { concurrent: true }, () => {
  it.live("SIGTERM with ten running queries: all are cancelled at the server, exit code 0 within 5 seconds", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService(forTen)
      yield* tenQueries(service)
      // More run than may run at once: the waiting ones must not start now.
      const browser = yield* service.login()
      for (let index = 0; index < 5; index++) yield* submit(browser, "create table started_late as select pg_sleep(1)")
      const took = yield* endedBy(service, service.signal("SIGTERM"))
      assert.isBelow(took, inTimeOf(5000))
      yield* nothingLeft(service)
      assert.strictEqual(service.stderr(), "")
    })
  )

  it.live("SIGTERM gives what runs two seconds: what is done by then is committed", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      const browser = yield* service.login()
      yield* run(browser, "create table written (n int)")
      yield* submit(browser, "insert into written select 2 from pg_sleep(60)")
      yield* Service.runs(service.queries.name, "pg_sleep")
      // There is a place for it, so it does not wait, and nobody has to see it run.
      yield* submit(browser, "insert into written select 1 from pg_sleep(0.7)")
      const took = yield* endedBy(service, service.signal("SIGTERM"))
      assert.isBelow(took, inTimeOf(5000))
      yield* nothingLeft(service)
      const connection = yield* PgConnection.make({ url: service.queries.url })
      assert.deepStrictEqual(yield* connection.queryValues("select n from written"), [[1]])
    })
  )

  it.live("SIGINT, twice, does the same", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService(forTen)
      yield* tenQueries(service)
      const took = yield* endedBy(service, Effect.andThen(service.signal("SIGINT"), service.signal("SIGINT")))
      assert.isBelow(took, inTimeOf(5000))
      yield* nothingLeft(service)
    })
  )

  it.live("idle connections and half a request do not hold it up", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      const browser = yield* service.login()
      yield* run(browser, "select 1")
      const idle = yield* RawHttp.connect(service.url)
      const answered = new Promise((resolve) => idle.once("data", resolve))
      idle.write("GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
      yield* Effect.promise(() => answered)
      const silent = yield* RawHttp.connect(service.url)
      const half = yield* RawHttp.connect(service.url)
      // What is said to it is read, or the socket would not notice its end.
      half
        .resume()
        .write("POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
      // Answered on the same event loop, so what was written before has arrived.
      yield* browser.send("GET", "/health/live")
      const took = yield* endedBy(service, service.signal("SIGTERM"))
      assert.isBelow(took, inTimeOf(5000))
      yield* nothingLeft(service)
      for (const socket of [idle, silent, half])
        yield* eventually(
          Effect.sync(() => socket.closed),
          (closed) => closed
        )
    })
  )

  it.live("with nothing to do it ends at once", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      assert.isBelow(yield* endedBy(service, service.signal("SIGTERM")), inTimeOf(1500))
      yield* nothingLeft(service)
    })
  )

  it.live("SIGKILL with a running query: the server notices within a few seconds", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService(forTen)
      yield* tenQueries(service)
      yield* service.signal("SIGKILL")
      assert.strictEqual((yield* service.exited).signal, "SIGKILL")
      yield* Service.statements(service.queries.name).pipe(
        Effect.repeat({ until: ({ length }) => length === 0 }),
        Effect.timeout("5 seconds")
      )
      yield* nothingLeft(service)
    })
  )
})

describe("the cap on sessions", { concurrent: true }, () => {
  it.live("the oldest session makes room for a new one, and what it ran is cancelled", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService({ env: { HOLDFAST_MAX_SESSIONS: "2" } })
      const [first, second] = [yield* service.login(), yield* service.login()]
      yield* submit(first, "select pg_sleep(60)")
      yield* Service.runs(service.queries.name, "pg_sleep")
      const third = yield* service.login()
      const refused = yield* first.send("GET", "/session")
      assert.deepStrictEqual([refused.status, problemOf(refused).code], [401, "SessionRevoked"])
      for (const browser of [second, third]) assert.strictEqual((yield* browser.send("GET", "/session")).status, 200)
      // The bound for an end that nobody was told of.
      yield* Service.statements(service.queries.name).pipe(
        Effect.repeat({ until: ({ length }) => length === 0 }),
        Effect.timeout("15 seconds")
      )
    })
  )
})
