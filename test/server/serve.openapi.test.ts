import { readFileSync } from "node:fs"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { cookieName, login, submit } from "../support/browser.ts"
import * as OpenApi from "../support/openApi.ts"
import { at } from "../support/openApi.ts"
import * as RawHttp from "../support/rawHttp.ts"
import { devices } from "../support/sessionCalls.ts"
import * as Service from "../support/service.ts"

const seed = Number(process.env.HOLDFAST_TEST_SEED ?? Date.now() % 1_000_000)
const requests = Math.ceil(400 * Number(process.env.HOLDFAST_TEST_SCALE ?? 1))
const { version } = JSON.parse(readFileSync("package.json", "utf8")) as { readonly version: string }

layer(Service.layerShared({ HOLDFAST_TRUSTED_PROXIES: "127.0.0.0/8" }), {
  excludeTestServices: true,
  timeout: "600 seconds"
})("the description of the API", (it) => {
  it.effect("says where the service is, which version and which cookie it has, and what every call is for", () =>
    Effect.gen(function* () {
      const { browser, url } = yield* Service.Shared
      const document = yield* OpenApi.documentOf(browser().send("GET", "/openapi.json"))
      assert.deepInclude(at(document, "info"), { title: "Holdfast", version })
      assert.deepStrictEqual(document["servers"], [{ url }])
      assert.strictEqual(at(document, "components", "securitySchemes", "cookie")["name"], cookieName(url))
      const calls = OpenApi.callsOf(document)
      assert.isAbove(calls.length, 15)
      for (const { bodies, method, operation, parameters, path, responses } of calls) {
        const what = `${method} ${path}`
        assert.isNotEmpty(operation["summary"], what)
        assert.isNotEmpty(operation["description"], what)
        const statuses = Object.keys(responses)
        assert.includeMembers(statuses, ["400", "408", "412", "417", "431", "500", "503"], what)
        if (method !== "GET") assert.include(statuses, "403", what)
        if (Object.keys(bodies).length > 0) assert.includeMembers(statuses, ["413", "415"], what)
        if (path.includes("{")) assert.include(statuses, "404", what)
        if (statuses.includes("401")) assert.isTrue(at(responses, "401", "headers", "www-authenticate")["required"])
        if (statuses.includes("429")) assert.isTrue(at(responses, "429", "headers", "retry-after")["required"])
        for (const { name, schema } of parameters) {
          if (name === "limit") assert.deepInclude(schema, { type: "integer", minimum: 1 }, what)
          if (name === "idempotency-key") assert.isString(at(schema)["pattern"])
        }
      }
      const paths = at(document, "paths")
      assert.isTrue(at(paths, "/login", "post", "responses", "200", "headers", "set-cookie")["required"])
      assert.property(at(paths, "/session/data", "get", "responses"), "304")
      const session = at(paths, "/session", "get", "responses", "200", "content", "application/json", "schema")
      assert.deepInclude(at(session, "properties", "expiresAt"), { type: "string", format: "date-time" })
      assert.isString(at(session, "properties", "id")["pattern"])
    })
  )

  it.effect(
    "what it says is true of every answer to what somebody might send",
    () =>
      Effect.gen(function* () {
        const { browser: newBrowser, url } = yield* Service.Shared
        const document = yield* OpenApi.documentOf(newBrowser().send("GET", "/openapi.json"))
        // What goes on for as long as the session does is no answer to wait for.
        const endless = new Set(["/session/events", "/queries/events"])
        const calls = OpenApi.callsOf(document).filter(({ path }) => !endless.has(path))
        const wrongOf = OpenApi.validatorOf(document)
        const random = OpenApi.randomOf(seed)
        const demo = { username: "demo", password: Service.demoPassword }
        let browser = yield* login(newBrowser(), demo)
        let isOver = false
        let ids = { queries: ["x"], sessions: ["x"] }
        const begin = Effect.gen(function* () {
          if ((yield* browser.send("GET", "/session")).status !== 200) browser = yield* login(newBrowser(), demo)
          const queries = yield* Effect.forEach(["select 1", "select generate_series(1, 3000)", "nonsense"], (sql) =>
            submit(browser, sql)
          )
          ids = { queries, sessions: (yield* devices(browser)).map(({ id }) => id) }
        })
        const told: Array<string> = []
        const statuses = new Map<number, number>()
        for (let n = 0; n < requests; n++) {
          if (n % 50 === 0 || isOver) yield* begin
          const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
          const isStranger = random.chance(0.08)
          const request = OpenApi.requestOf(
            random,
            calls,
            (path) => (path.startsWith("/queries") ? ids.queries : ids.sessions),
            // Each from somewhere else: failed logins are counted by address.
            [
              `X-Forwarded-For: 10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`,
              ...(isStranger ? [] : [`Cookie: ${cookie}`])
            ]
          )
          const answer = yield* Effect.timeout(RawHttp.send(url, request.bytes), "20 seconds")
          statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
          isOver = !isStranger && (answer.status === 401 || request.call?.path === "/logout")
          const wrong = wrongOf(request, answer)
          if (wrong.length === 0) continue
          told.push(
            `${request.bytes.toString().slice(0, 900)}\n→ ${answer.status} ${wrong.join("; ")}\n${answer.text.slice(0, 300)}`
          )
        }
        const figures = Array.from(statuses)
          .toSorted()
          .map((it) => it.join(": "))
          .join(", ")
        yield* Effect.logInfo(`${requests} requests of seed ${seed}, ${told.length} wrong. ${figures}`)
        assert.deepStrictEqual(told.slice(0, 5), [], `HOLDFAST_TEST_SEED=${seed}`)
        assert.isAbove(statuses.size, 8)
      }),
    60_000 + 500 * requests
  )

  it.effect("the cookie that an https origin has is the one that is described", () =>
    Effect.gen(function* () {
      const { env } = yield* Service.Shared
      const service = yield* Service.launch({
        args: ["serve"],
        env: { ...env, HOLDFAST_ORIGIN: "https://example.org" }
      })
      const answer = yield* RawHttp.get(yield* Service.listening(service), "/openapi.json", "Accept: */*")
      const document = at(answer.json)
      assert.strictEqual(at(document, "components", "securitySchemes", "cookie")["name"], "__Host-holdfast")
      assert.deepStrictEqual(document["servers"], [{ url: "https://example.org" }])
      assert.notInclude(answer.text, Redacted.value((yield* Service.Shared).own.url))
    })
  )
})
