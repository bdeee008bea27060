import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"
import * as MemorySessions from "../../src/http/MemorySessions.ts"
import * as Problem from "../../src/http/Problem.ts"
import * as SessionMiddleware from "../../src/http/SessionMiddleware.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Session from "../../src/session/Session.ts"
import { Sessions } from "../../src/session/Sessions.ts"
import * as Browser from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as RawHttp from "../support/rawHttp.ts"

class AppSession extends Session.Service<AppSession>()("test/BodySession", { data: Schema.Int, initial: 0 }) {}
const Http = SessionMiddleware.make(AppSession)

class Api extends HttpApi.make("api").add(
  HttpApiGroup.make("bodies").add(
    HttpApiEndpoint.post("call", "/bodies/call", {
      payload: Schema.Struct({ a: Schema.Int }),
      success: Schema.Int
    }).middleware(Http.Required)
  )
) {}

const Coded = Schema.Struct({ code: Schema.String })

type Request = HttpServerRequest.HttpServerRequest

/** How a handler may read a body. */
const readers = {
  text: (request: Request) => request.text,
  json: (request: Request) => request.json,
  bytes: (request: Request) => request.arrayBuffer,
  form: (request: Request) => request.urlParamsBody,
  stream: (request: Request) => Stream.runDrain(request.stream)
} as const

const route = (how: keyof typeof readers) =>
  HttpRouter.route(
    "POST",
    `/bodies/${how}`,
    Effect.gen(function* () {
      yield* (yield* AppSession).data
      yield* readers[how](yield* HttpServerRequest.HttpServerRequest)
      return HttpServerResponse.text("read")
    })
  )

const login = HttpRouter.route(
  "POST",
  "/login",
  Effect.gen(function* () {
    yield* (yield* AppSession).authenticate("alice")
    return HttpServerResponse.text("in")
  })
)

const routes = HttpRouter.addAll([login, ...(Object.keys(readers) as ReadonlyArray<keyof typeof readers>).map(route)])
const api = HttpApiBuilder.layer(Api).pipe(
  Layer.provide(
    HttpApiBuilder.group(Api, "bodies", (it) => it.handle("call", ({ payload }) => Effect.succeed(payload.a)))
  )
)

const ends = HttpRouter.addAll(
  Effect.map(Sessions, ({ revokeAll }) => [
    HttpRouter.route("POST", "/end", Effect.as(revokeAll("alice"), HttpServerResponse.text("over")))
  ])
)

/** An app on a socket, with or without the problems of its API around the routes. */
const app = (withProblems: boolean) =>
  HttpRouter.serve(
    Layer.mergeAll(routes, ends, api, withProblems ? Problem.layerEverywhere(Api) : Layer.empty).pipe(
      Layer.provide(Layer.provideMerge(Http.layer, MemorySessions.layer({ origin: "http://127.0.0.1" })))
    ),
    { disableListenLog: true, disableLogger: true }
  ).pipe(Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })))

const handles = Effect.map(Ledger.Ledger, ({ holdings }) =>
  Effect.map(holdings, (all) => all.filter(({ kind }) => kind === "handle").length)
)

describe("S16 a request that still reads its body when its session ends is told so", () => {
  for (const [where, withProblems] of [
    ["in an app", false],
    ["behind the problems of an API", true]
  ] as const)
    for (const how of [...Object.keys(readers), "call"])
      it.live(`${how}, ${where}`, () =>
        Effect.gen(function* () {
          const context = yield* Layer.build(app(withProblems))
          const url = HttpServer.formatAddress(Context.get(context, HttpServer.HttpServer).address)
          const browser = Browser.make(url)
          yield* browser.send("POST", "/login")
          const [cookie = ""] = Array.from(browser.cookies, (pair) => pair.join("="))
          const half = [
            `POST /bodies/${how} HTTP/1.1`,
            `Host: ${new URL(url).host}`,
            "Connection: close",
            `Cookie: ${cookie}`,
            `Content-Type: application/${how === "form" ? "x-www-form-urlencoded" : "json"}`,
            "Content-Length: 8",
            "",
            '{"a"'
          ]
          const held = yield* handles
          const answer = yield* Effect.forkChild(RawHttp.send(url, half.join("\r\n")), { startImmediately: true })
          yield* eventually(held, (count) => count === 1)
          yield* Browser.make(url).send("POST", "/end")
          const { json, status } = yield* Fiber.join(answer)
          assert.strictEqual(status, 401)
          assert.strictEqual(Schema.decodeUnknownSync(Coded)(json).code, "SessionRevoked")
        }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
      )
})
