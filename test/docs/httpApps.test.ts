import { NodeHttpClient, NodeHttpServer, NodeSocket } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as RpcClient from "effect/rpc/RpcClient"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"
import { readFileSync } from "node:fs"
import * as HttpApiApp from "../../docs/examples/http-api-app.ts"
import * as HttpApp from "../../docs/examples/http-app.ts"
import * as RpcApp from "../../docs/examples/rpc-app.ts"
import * as Browser from "../support/browser.ts"
import { busyBackends, eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"

/** An app on a real server, over a database of its own. */
const started = Effect.fnUntraced(function* <E>(
  app: Layer.Layer<never, E, Layer.Success<ReturnType<typeof NodeHttpServer.layer>>>
) {
  const { name, url } = yield* freshDatabase
  const config = ConfigProvider.layer(
    ConfigProvider.fromUnknown({ DATABASE_URL: Redacted.value(url), ORIGIN: "http://127.0.0.1" })
  )
  const server = Layer.provideMerge(app, NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
  const { address } = Context.get(yield* Layer.build(Layer.provide(server, config)), HttpServer.HttpServer)
  return { browser: Browser.make(HttpServer.formatAddress(address)), database: name }
})

const credentials = { username: "alice", password: "wonderland" }

const runs = (database: string) =>
  eventually(busyBackends(database), (busy) => busy.some(({ query }) => String(query).includes("pg_sleep")))

describe("docs/examples/http-app.ts", () => {
  it.live("counts visits, lets members in, and ends a report with the session", () =>
    Effect.gen(function* () {
      const { browser, database } = yield* started(HttpApp.app)
      const text = (method: string, path: string, json?: unknown) =>
        Effect.map(browser.send(method, path, { json }), ({ status, text }) => [status, text])
      assert.deepStrictEqual(yield* text("GET", "/"), [200, "Visit 1\n"])
      assert.deepStrictEqual(yield* text("GET", "/"), [200, "Visit 2\n"])
      const stranger = yield* browser.send("GET", "/report")
      assert.strictEqual(stranger.status, 401)
      assert.include(stranger.text, "LoginRequired")
      assert.deepStrictEqual(yield* text("POST", "/login", { ...credentials, password: "?" }), [
        401,
        "Wrong name or password\n"
      ])
      assert.deepStrictEqual(yield* text("POST", "/login", credentials), [200, "Hello alice\n"])
      assert.deepStrictEqual(yield* text("GET", "/"), [200, "Visit 3\n"])

      const report = yield* Effect.forkChild(browser.send("GET", "/report"))
      yield* runs(database)
      assert.deepStrictEqual(yield* text("POST", "/logout"), [200, "Bye\n"])
      assert.deepStrictEqual(yield* busyBackends(database), [])
      const { status, text: ended } = yield* Fiber.join(report)
      assert.strictEqual(status, 401)
      assert.include(ended, "SessionRevoked")
      assert.deepStrictEqual(yield* text("GET", "/"), [200, "Visit 1\n"])
    }).pipe(Effect.scoped)
  )
})

describe("docs/examples/http-api-app.ts", () => {
  it.live("counts visits, lets members in, and ends a report with the session", () =>
    Effect.gen(function* () {
      const { browser, database } = yield* started(HttpApiApp.app)
      const call = (method: string, path: string, json?: unknown) =>
        Effect.map(browser.send(method, path, { json }), (answer) => [answer.status, answer.json])
      assert.deepStrictEqual(yield* call("GET", "/"), [200, { visits: 1 }])
      assert.deepInclude((yield* browser.send("GET", "/report")).json, { code: "LoginRequired", status: 401 })
      const [refused] = yield* call("POST", "/login", { ...credentials, password: "?" })
      assert.strictEqual(refused, 401)
      assert.deepStrictEqual(yield* call("POST", "/login", credentials), [200, "Hello alice"])
      assert.deepStrictEqual(yield* call("GET", "/"), [200, { visits: 2 }])
      const report = yield* Effect.forkChild(browser.send("GET", "/report"))
      yield* runs(database)
      assert.deepStrictEqual(yield* call("POST", "/logout"), [200, "Bye"])
      assert.deepStrictEqual(yield* busyBackends(database), [])
      assert.deepInclude((yield* Fiber.join(report)).json, { code: "SessionRevoked", status: 401 })
      const openapi = yield* browser.send("GET", "/openapi.json")
      assert.include(openapi.text, "LoginRequired")
    }).pipe(Effect.scoped)
  )
})

describe("docs/examples/rpc-app.ts", () => {
  it.live("counts visits, lets members in, and ends a report over a WebSocket with the session", () =>
    Effect.gen(function* () {
      const { browser, database } = yield* started(RpcApp.app)
      const overHttp = RpcClient.layerProtocolHttp({
        url: `${browser.url}/rpc`,
        transformClient: (client) =>
          client.pipe(
            HttpClient.mapRequest((request) => {
              const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
              return HttpClientRequest.setHeader(request, "cookie", cookie)
            }),
            HttpClient.tap(({ cookies }) =>
              Effect.sync(() => {
                for (const [name, { value }] of Object.entries(cookies.cookies)) {
                  if (value === "") browser.cookies.delete(name)
                  else browser.cookies.set(name, value)
                }
              })
            )
          )
      }).pipe(Layer.provide([NodeHttpClient.layerUndici, RpcSerialization.layerNdjson]))
      const client = yield* RpcClient.make(RpcApp.Rpcs).pipe(Effect.provide(yield* Layer.build(overHttp)))
      assert.strictEqual(yield* client.Home(), 1)
      const stranger = yield* Effect.flip(Stream.runDrain(client.Report()))
      assert.strictEqual(stranger._tag, "LoginRequired")
      const refused = yield* Effect.flip(client.Login({ ...credentials, password: "?" }))
      assert.strictEqual(refused._tag, "WrongPassword")
      assert.strictEqual(yield* client.Login(credentials), "Hello alice")
      assert.strictEqual(yield* client.Home(), 2)

      const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
      const overSocket = RpcClient.layerProtocolSocket().pipe(
        Layer.provide([
          NodeSocket.layerWebSocket(`${browser.url.replace("http", "ws")}/rpc/socket`, { headers: { cookie } }),
          RpcSerialization.layerNdjson
        ])
      )
      const socket = yield* RpcClient.make(RpcApp.Rpcs).pipe(Effect.provide(yield* Layer.build(overSocket)))
      const report = yield* Effect.forkScoped(Effect.flip(Stream.runDrain(socket.Report())))
      yield* runs(database)
      assert.strictEqual(yield* client.Logout(), "Bye")
      assert.deepStrictEqual(yield* busyBackends(database), [])
      assert.strictEqual((yield* Fiber.join(report))._tag, "SessionRevoked")
      assert.strictEqual(yield* client.Home(), 1)
    }).pipe(Effect.scoped)
  )
})

describe("the examples of apps", () => {
  for (const file of ["http-app.ts", "http-api-app.ts", "rpc-app.ts"]) {
    it(`${file} has at most ten lines because of sessions, and says which`, () => {
      const lines = readFileSync(`docs/examples/${file}`, "utf8").split("\n")
      const marked = lines.filter((line) => / \/\/ \d+$/.test(line))
      assert.isAtMost(marked.length, 10)
      const aboutSessions = lines.filter((line) => /Session|\b(?:Http|AppRpc)\./.test(line) && !line.startsWith("//"))
      assert.deepStrictEqual(
        aboutSessions.filter((line) => !marked.includes(line)),
        []
      )
    })
  }
})
