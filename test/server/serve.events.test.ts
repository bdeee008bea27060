import { assert, describe, it, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type Browser, problemOf, run, submit } from "../support/browser.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import { states, watch, watchQuery } from "../support/events.ts"
import * as RawHttp from "../support/rawHttp.ts"
import * as Service from "../support/service.ts"

/** How many streams the service holds open for a query. */
const streams = (operator: Browser, id: string) =>
  Effect.map(
    operator.send("GET", "/holdings?limit=10000"),
    ({ text }) => text.split(`{"kind":"event stream","id":"${id}"`).length - 1
  )
const noStream = (operator: Browser, id: string) => eventually(streams(operator, id), (count) => count === 0)

const ids = { "last-event-id": "3" }

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("the events of a query", (it) => {
  it.effect("every state is told when it comes, and the stream ends after the terminal one", () =>
    Effect.gen(function* () {
      const { queries } = yield* Service.Shared
      const browser = yield* Service.Demo
      const id = yield* submit(browser, "select pg_sleep(60), 'told'")
      yield* Service.runs(queries.name, "'told'")
      const watching = yield* watchQuery(browser, id)
      assert.strictEqual(watching.status, 200)
      assert.strictEqual(watching.headers.get("content-type"), "text/event-stream")
      assert.strictEqual(watching.headers.get("cache-control"), "no-store")
      assert.deepStrictEqual(yield* states(watching, 3), ["Queued", "Starting", "Running"])
      assert.strictEqual(yield* streams(browser, id), 1)
      const { text } = yield* browser.send("DELETE", `/queries/${id}`)
      assert.isTrue(yield* watching.ended)
      const events = watching.events()
      assert.deepStrictEqual(
        events.map(({ data, event, id }) => [id, event, data.state]),
        [
          ["1", "state", "Queued"],
          ["2", "state", "Starting"],
          ["3", "state", "Running"],
          ["4", "state", "Canceling"],
          ["5", "state", "Canceled"]
        ]
      )
      // What is told last is what one who asks is told.
      assert.include(watching.text(), `data: ${text}\n\n`)
      yield* noStream(browser, id)
    })
  )

  it.effect("Last-Event-ID goes on after that event; after the last one there is nothing more to ask for", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const { id } = yield* run(browser, "select 1")
      for (const [after, expected] of [
        ["0", ["1", "2", "3", "4"]],
        ["2", ["3", "4"]],
        ["3", ["4"]]
      ] as const) {
        const watching = yield* watchQuery(browser, id, { "last-event-id": after })
        assert.isTrue(yield* watching.ended)
        assert.deepStrictEqual(
          watching.events().map(({ id }) => id),
          expected.slice()
        )
      }
      assert.strictEqual(
        (yield* browser.send("GET", `/queries/${id}/events`, { headers: { "last-event-id": "4" } })).status,
        204
      )
      for (const [after, code] of [
        ["5", "EventUnknown"],
        ["999999999", "EventUnknown"],
        ["-1", "RequestInvalid"],
        ["1.5", "RequestInvalid"],
        ["x", "RequestInvalid"],
        ["9".repeat(400), "RequestInvalid"]
      ] as const) {
        const answer = yield* browser.send("GET", `/queries/${id}/events`, { headers: { "last-event-id": after } })
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [400, code], after)
      }
    })
  )

  it.effect("one who resumes a query that runs is connected at once and told of what comes", () =>
    Effect.gen(function* () {
      const { queries } = yield* Service.Shared
      const browser = yield* Service.Demo
      const id = yield* submit(browser, "select pg_sleep(60), 'resumed'")
      yield* Service.runs(queries.name, "'resumed'")
      const watching = yield* watchQuery(browser, id, ids)
      yield* eventually(
        Effect.sync(() => watching.text()),
        (text) => text === ":\n\n"
      )
      yield* browser.send("DELETE", `/queries/${id}`)
      assert.isTrue(yield* watching.ended)
      assert.deepStrictEqual(
        watching.events().map(({ data }) => data.state),
        ["Canceling", "Canceled"]
      )
    })
  )

  it.effect("queries of others and ids that we never issued are 404; HEAD is answered at once", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const browser = yield* Service.Demo
      const id = yield* submit(browser, "select pg_sleep(60), 'hidden'")
      yield* Service.addUser(service, "mallory")
      const mallory = yield* service.login("mallory")
      for (const [who, path] of [
        [mallory, `/queries/${id}/events`],
        [browser, "/queries/q/events"],
        [browser, "/queries/q_00000000-0000-4000-8000-000000000000/events"]
      ] as const) {
        const answer = yield* who.send("GET", path)
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [404, "QueryNotFound"])
      }
      const head = yield* browser.send("HEAD", `/queries/${id}/events`)
      assert.deepStrictEqual([head.status, head.text], [200, ""])
      yield* noStream(browser, id)
      yield* browser.send("DELETE", `/queries/${id}`)
    })
  )

  it.effect("when the client goes, nothing of the stream is left", () =>
    Effect.gen(function* () {
      const { queries } = yield* Service.Shared
      const browser = yield* Service.Demo
      const id = yield* submit(browser, "select pg_sleep(60), 'left'")
      yield* Service.runs(queries.name, "'left'")
      const watchers = yield* Effect.all(
        Array.from({ length: 10 }, () => watchQuery(browser, id)),
        { concurrency: "unbounded" }
      )
      yield* eventually(streams(browser, id), (count) => count === 10)
      for (const { close } of watchers.slice(0, 9)) yield* close
      yield* eventually(streams(browser, id), (count) => count === 1)
      // The others are not told anything less.
      yield* browser.send("DELETE", `/queries/${id}`)
      const last = watchers[9]
      assert.isTrue(yield* last?.ended ?? Effect.succeed(false))
      assert.strictEqual(last?.events().at(-1)?.data.state, "Canceled")
      yield* noStream(browser, id)
    })
  )

  it.effect("S9 the end of the session tells of the query's end and ends the stream", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const operator = yield* Service.Demo
      for (const end of ["itself", "another"] as const) {
        const browser = yield* service.login()
        const id = yield* submit(browser, "select pg_sleep(60), 'ended'")
        yield* Service.runs(service.queries.name, "'ended'")
        const watching = yield* watchQuery(browser, id)
        yield* states(watching, 3)
        if (end === "itself") yield* browser.send("POST", "/logout")
        else {
          const session = yield* browser.send("GET", "/session")
          const [, sessionId = ""] = /"id":"([^"]+)"/.exec(session.text) ?? []
          assert.strictEqual((yield* operator.send("DELETE", `/sessions/${sessionId}`)).status, 204)
        }
        assert.isTrue(yield* watching.ended)
        assert.deepStrictEqual(
          watching.events().map(({ data }) => data.state),
          ["Queued", "Starting", "Running", "Canceling", "Canceled"]
        )
        yield* noStream(operator, id)
      }
    })
  )

  it.effect("one who watches from another session is told nothing more when that session ends; the query goes on", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const browser = yield* Service.Demo
      const id = yield* submit(browser, "select pg_sleep(60), 'other'")
      yield* Service.runs(service.queries.name, "'other'")
      const other = yield* service.login()
      const watching = yield* watchQuery(other, id)
      yield* states(watching, 3)
      yield* other.send("POST", "/logout")
      assert.isTrue(yield* watching.ended)
      assert.strictEqual(watching.events().at(-1)?.data.state, "Running")
      yield* Service.runs(service.queries.name, "'other'")
      yield* browser.send("DELETE", `/queries/${id}`)
    })
  )
})

describe("the end of the service with open streams", { concurrent: true, timeout: 60_000 }, () => {
  it.live("SIGTERM ends every stream at once, also on a connection that is kept, and the exit code is 0", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      const browser = yield* service.login()
      const id = yield* submit(browser, "select pg_sleep(60)")
      yield* Service.runs(service.queries.name, "pg_sleep")
      const watchers = yield* Effect.all(
        Array.from({ length: 20 }, () => watchQuery(browser, id)),
        { concurrency: "unbounded" }
      )
      for (const watching of watchers) yield* states(watching, 3)
      yield* service.signal("SIGTERM")
      const [untilEnd, ends] = yield* Effect.timed(
        Effect.all(
          watchers.map(({ ended }) => ended),
          { concurrency: "unbounded" }
        )
      )
      assert.deepStrictEqual(new Set(ends), new Set([true]))
      // Requests that run are given two seconds; a stream takes none of them.
      assert.isBelow(Duration.toMillis(untilEnd), inTimeOf(1500))
      const [untilExit, ended] = yield* Effect.timed(service.exited)
      assert.deepStrictEqual(ended, { code: 0, signal: null }, service.stderr())
      assert.isBelow(Duration.toMillis(untilEnd) + Duration.toMillis(untilExit), 5000)
      assert.strictEqual(service.stderr(), "")
    })
  )

  it.live("a client that reads nothing holds nothing up", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      const browser = yield* service.login()
      // Two megabytes of events, so that they do not fit into what the network keeps.
      const id = yield* submit(browser, `select pg_sleep(60) /* ${"x".repeat(1_000_000)} */`)
      yield* Service.runs(service.queries.name, "pg_sleep")
      const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
      const socket = yield* RawHttp.connect(service.url)
      socket.pause()
      socket.write(`GET /queries/${id}/events HTTP/1.1\r\nHost: x\r\nCookie: ${cookie}\r\n\r\n`)
      yield* eventually(streams(browser, id), (count) => count === 1)
      // Others are told all the same.
      const watching = yield* watch(browser, `/queries/${id}/events`)
      yield* states(watching, 3)
      const [took, ended] = yield* Effect.timed(Effect.andThen(service.signal("SIGTERM"), service.exited))
      assert.deepStrictEqual(ended, { code: 0, signal: null }, service.stderr())
      assert.isBelow(Duration.toMillis(took), 5000)
    })
  )
})
