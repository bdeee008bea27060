import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { problemOf, run, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import { watch, type Watching } from "../support/events.ts"
import * as Service from "../support/service.ts"
import { copyOf, session as sessionOf } from "../support/sessionCalls.ts"

const Told = Schema.Struct({
  id: Schema.String,
  event: Schema.String,
  data: Schema.fromJsonString(
    Schema.Struct({
      id: Schema.optionalKey(Schema.String),
      state: Schema.optionalKey(Schema.String),
      sql: Schema.optionalKey(Schema.String),
      principal: Schema.optionalKey(Schema.String),
      idleExpiresAt: Schema.optionalKey(Schema.String),
      reason: Schema.optionalKey(Schema.String)
    })
  )
})

/** Everything that a stream told so far. */
const told = ({ text }: Watching) =>
  text()
    .split("\n\n")
    .slice(0, -1)
    .filter((block) => !block.startsWith(":"))
    .map((block) =>
      Schema.decodeUnknownSync(Told)(
        Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)))
      )
    )

/** Waits until a stream has told something. */
const until = (watching: Watching, isThere: (all: ReturnType<typeof told>) => boolean) =>
  eventually(
    Effect.sync(() => told(watching)),
    isThere
  )

const ends = (watching: Watching, reason: string) =>
  Effect.gen(function* () {
    assert.isTrue(yield* watching.ended)
    assert.deepStrictEqual(
      told(watching)
        .filter(({ event }) => event === "ended")
        .map(({ data }) => data.reason),
      [reason]
    )
  })

layer(Service.layerShared(), { excludeTestServices: true, timeout: "60 seconds" })("the events of a session", (it) => {
  it.effect("begin with the session as it is, and end with the reason when it is ended from elsewhere", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      const operator = yield* Service.Demo
      const browser = yield* service.login()
      const watching = yield* watch(browser, "/session/events")
      assert.deepStrictEqual(
        [watching.status, watching.headers.get("content-type"), watching.headers.get("cache-control")],
        [200, "text/event-stream", "no-store"]
      )
      const [first] = yield* until(watching, ({ length }) => length >= 1)
      const { id } = yield* sessionOf(browser)
      assert.deepStrictEqual([first?.event, first?.data.id, first?.data.principal], ["session", id, "demo"])
      yield* operator.send("DELETE", `/sessions/${id}`)
      yield* ends(watching, "SessionRevoked")
    })
  )

  it.effect("are ended by a logout in the same browser, for all its tabs", () =>
    Effect.gen(function* () {
      const { login } = yield* Service.Shared
      const browser = yield* login()
      const tabs = yield* Effect.forEach([1, 2, 3], () => watch(copyOf(browser), "/session/events"))
      for (const tab of tabs) yield* until(tab, ({ length }) => length >= 1)
      assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
      for (const tab of tabs) yield* ends(tab, "SessionRevoked")
    })
  )

  it.effect("need a session, and take no other's", () =>
    Effect.gen(function* () {
      const { browser } = yield* Service.Shared
      for (const path of ["/session/events", "/queries/events"]) {
        const answer = yield* browser().send("GET", path)
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [401, "SessionMissing"])
      }
    })
  )

  it.effect("every state of all my queries comes on one stream, those of before as they are", () =>
    Effect.gen(function* () {
      const service = yield* Service.Shared
      yield* Service.addUser(service, "feeder")
      const browser = yield* service.login("feeder")
      const other = yield* Service.Demo
      const before = yield* run(browser, "select 'before'")
      const running = yield* submit(browser, "select pg_sleep(60), 'feed'")
      yield* eventually(browser.send("GET", `/queries/${running}`), ({ text }) => text.includes('"state":"Running"'))
      const watching = yield* watch(browser, "/queries/events")
      yield* until(watching, ({ length }) => length >= 2)
      yield* run(other, "select 'hidden'")
      const later = yield* submit(browser, "select 'later'")
      yield* browser.send("DELETE", `/queries/${running}`)
      yield* until(watching, (all) => all.filter(({ data }) => data.state === "Succeeded").length === 2)
      const all = yield* until(watching, (all) => all.some(({ data }) => data.state === "Canceled"))
      const statesOf = (id: string) => all.filter(({ data }) => data.id === id).map(({ data }) => data.state)
      assert.deepStrictEqual(statesOf(before.id), ["Succeeded"])
      // The list of all instances may be a moment behind.
      assert.deepStrictEqual(
        statesOf(running).filter((state) => state !== "Starting"),
        ["Running", "Canceling", "Canceled"]
      )
      assert.deepStrictEqual(statesOf(later), ["Queued", "Starting", "Running", "Succeeded"])
      assert.notInclude(watching.text(), "hidden")
      yield* watching.close
      // Who comes back is told what goes on, and may be told again what has just ended.
      const again = yield* watch(browser, "/queries/events", { "last-event-id": all.at(-1)?.id ?? "" })
      yield* until(again, ({ length }) => length >= 3)
      const long = yield* watch(browser, "/queries/events", { "last-event-id": "9999999999999" })
      const next = yield* run(browser, "select 'next'")
      yield* until(long, (all) => all.some(({ data }) => data.state === "Succeeded"))
      assert.deepStrictEqual(Array.from(new Set(told(long).map(({ data }) => data.id))), [next.id])
      // The stream ends with the session.
      yield* browser.send("POST", "/logout")
      assert.isTrue(yield* long.ended)
    })
  )
})

describe("streams and the time of a session", { timeout: 120_000 }, () => {
  it.live(
    "S5 listening is no activity: the session ends on time and says so; SIGTERM ends a stream without a word",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.startService({ env: { HOLDFAST_IDLE_TIMEOUT: "3 seconds" } })
        const browser = yield* service.login()
        const session = yield* watch(browser, "/session/events")
        yield* watch(browser, "/queries/events")
        yield* until(session, ({ length }) => length >= 1)
        const times = () => told(session).flatMap(({ data }) => data.idleExpiresAt ?? [])
        // A request moves the times on.
        yield* eventually(
          Effect.andThen(browser.send("GET", "/session"), Effect.sync(times)),
          (all) => Date.parse(all.at(-1) ?? "") > Date.parse(all[0] ?? "")
        )
        yield* ends(session, "SessionExpired")

        const next = yield* service.login()
        const streams = [yield* watch(next, "/session/events"), yield* watch(next, "/queries/events")] as const
        yield* until(streams[0], ({ length }) => length >= 1)
        yield* service.signal("SIGTERM")
        for (const stream of streams) assert.isTrue(yield* stream.ended)
        assert.notInclude(streams[0].text(), "event: ended")
        assert.deepStrictEqual(yield* service.exited, { code: 0, signal: null }, service.stderr())
      })
  )
})
