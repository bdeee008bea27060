import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { run, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import { auditOf, eventsOf } from "../support/logEvents.ts"
import * as Service from "../support/service.ts"

const decode = Schema.decodeUnknownSync(Schema.fromJsonString(Schema.Record(Schema.String, Schema.Json)))

const attempt = (service: Service.Service, username: string, password: string) =>
  service.browser().send("POST", "/login", { json: { username, password } })

/** The entries with an event. */
const entriesOf = (service: Service.Program, event: string) =>
  service
    .lines()
    .map((line) => decode(line))
    .filter((entry) => entry["event"] === event)

describe("the log of the service", { concurrent: true }, () => {
  it.live(
    "in JSON every line parses and has the fields of the docs; S10 no password, token or parameter is in it",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.startService({
          env: { HOLDFAST_LOG_FORMAT: "json", HOLDFAST_LOG_LEVEL: "debug", HOLDFAST_ACCESS_LOG: "on" }
        })
        const browser = yield* service.login()
        const { id } = yield* run(browser, "select $1::text", { params: ["a whispered parameter"] })
        const tokens = Array.from(browser.cookies.values())
        const other = yield* service.login()
        yield* browser.send("GET", `/queries/${id}?secret=whispered-in-a-query`)
        yield* attempt(service, "demo", "a wrong password, whispered")
        yield* attempt(service, "a password in the wrong box", "another wrong one")
        const foreign = { headers: { origin: "https://evil.example" }, json: {} }
        for (let index = 0; index < 3; index++) yield* service.browser().send("POST", "/login", foreign)
        const again = Array.from({ length: 10 }, () => attempt(service, "demo", "wrong again"))
        yield* Effect.all(again, { concurrency: "unbounded" })
        yield* browser.send("POST", "/logout")
        yield* submit(other, "select pg_sleep(60)")
        yield* Service.runs(service.queries.name, "pg_sleep")
        yield* service.signal("SIGTERM")
        assert.strictEqual((yield* service.exited).code, 0)

        const listed = new Map([...eventsOf(), ...auditOf()].map(({ event, fields }) => [event, fields]))
        const always = ["timestamp", "level", "message", "event", "cause"]
        for (const entry of service.lines().map((line) => decode(line))) {
          assert.match(String(entry["timestamp"]), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
          assert.include(["debug", "info", "warn", "error"], entry["level"])
          // Not ours: what a library says at debug level.
          if (entry["event"] === undefined) assert.strictEqual(entry["level"], "debug", JSON.stringify(entry))
          else {
            const fields = listed.get(String(entry["event"])) ?? assert.fail(`not listed: ${JSON.stringify(entry)}`)
            assert.includeMembers([...always, ...fields], Object.keys(entry), JSON.stringify(entry))
          }
        }
        const one = (event: string) => {
          const entries = entriesOf(service, event)
          assert.lengthOf(entries, 1, event)
          return entries[0]
        }
        assert.deepInclude(one("service.started"), { url: service.url })
        assert.deepInclude(one("service.draining"), { queries: 1, executions: 0 })
        one("service.stopped")
        assert.deepInclude(one("http.origin_refused"), { count: 1, origin: "https://evil.example" })
        assert.deepInclude(one("login.refused"), { because: "failures", ip: "127.0.0.1" })
        const failed = entriesOf(service, "login.failed")
        assert.deepInclude(failed[0], { user: "demo", because: "password", ip: "127.0.0.1" })
        assert.deepInclude(failed[1], { because: "user" })
        assert.deepInclude(entriesOf(service, "session.revoked")[0], { by: "logout", principal: "demo" })
        assert.deepInclude(entriesOf(service, "query.ended")[0], { query: id, principal: "demo", state: "Succeeded" })
        assert.deepInclude(
          entriesOf(service, "http.request").find(({ path }) => path === `/queries/${id}`),
          { method: "GET", route: "/queries/:id", status: 200, ip: "127.0.0.1" }
        )
        const all = service.stdout() + service.stderr()
        assert.lengthOf(tokens, 1)
        for (const secret of [
          ...tokens,
          ...other.cookies.values(),
          Service.demoPassword,
          "whispered",
          "wrong box",
          "wrong one"
        ]) {
          assert.notInclude(all, secret)
        }
      })
  )

  it.live("elsewhere than on a terminal it is logfmt, and a level leaves out what is below it", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService({ env: { HOLDFAST_LOG_LEVEL: "warn" } })
      const first = service.lines()[0]
      assert.strictEqual(first, `Holdfast listening on ${service.url}`)
      const warnings = () => service.lines().filter((line) => !line.startsWith("Holdfast listening"))
      yield* eventually(Effect.sync(warnings), (lines) => lines.length === 1)
      assert.match(
        warnings().join(),
        /^timestamp=\S+Z level=warn message="Development over http: [^"]+" event=config\.insecure$/
      )
      for (const format of ["xml", "JSON"]) {
        const refused = yield* Service.run({ args: ["serve"], env: { ...service.env, HOLDFAST_LOG_FORMAT: format } })
        assert.deepStrictEqual(
          [refused.code, refused.stderr],
          [1, "holdfast: HOLDFAST_LOG_FORMAT must be pretty or logfmt or json\n"]
        )
      }
    })
  )
})
