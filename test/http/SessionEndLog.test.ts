/** What the log of an app says of a request that ended with its session. */
import { NodeHttpServer } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import * as MemorySessions from "../../src/http/MemorySessions.ts"
import * as SessionMiddleware from "../../src/http/SessionMiddleware.ts"
import * as Session from "../../src/session/Session.ts"
import * as Browser from "../support/browser.ts"

class AppSession extends Session.Service<AppSession>()("test/LoggedSession", { data: Schema.Int, initial: 0 }) {}
const Http = SessionMiddleware.make(AppSession)

it.live("a request that ended with its session has one line, with the status that its client was told", () =>
  Effect.gen(function* () {
    const waits = yield* Deferred.make<void>()
    const session = <A, E>(use: (session: Session.Session<number>) => Effect.Effect<A, E>) =>
      Effect.as(Effect.flatMap(AppSession, use), HttpServerResponse.empty())
    const routes = HttpRouter.addAll([
      HttpRouter.route(
        "POST",
        "/login",
        session(({ authenticate }) => authenticate("alice"))
      ),
      HttpRouter.route(
        "POST",
        "/logout",
        session(({ logout }) => logout)
      ),
      HttpRouter.route(
        "GET",
        "/report",
        session(({ data }) => Effect.andThen(data, Effect.andThen(Deferred.succeed(waits, undefined), Effect.never)))
      )
    ])
    const lines: Array<Record<string, unknown>> = []
    const logger = Logger.make<unknown, void>(({ fiber, message }) => {
      const {
        event,
        "http.status": sent,
        "http.url": url,
        path,
        status
      } = fiber.getRef(References.CurrentLogAnnotations) as Record<string, unknown>
      if (event === "request.ended" || url !== undefined)
        lines.push({ path: path ?? url, status: status ?? sent, message: String(message) })
    })
    const services = yield* HttpRouter.serve(
      routes.pipe(
        Layer.provide(Http.layer),
        Layer.provide(MemorySessions.layer({ origin: "http://127.0.0.1" })),
        Layer.provide(Logger.layer([logger]))
      )
    ).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
      Layer.provide(Logger.layer([logger])),
      Layer.build
    )
    const browser = Browser.make(HttpServer.formatAddress(Context.get(services, HttpServer.HttpServer).address))
    yield* browser.send("POST", "/login")
    const report = yield* Effect.forkChild(browser.send("GET", "/report?of=alice"))
    yield* Deferred.await(waits)
    yield* browser.send("POST", "/logout")
    assert.strictEqual((yield* Fiber.join(report)).status, 401)
    const [{ message, ...line } = {}, ...more] = lines.filter(({ path }) => path === "/report")
    assert.deepStrictEqual([line, more], [{ path: "/report", status: 401 }, []])
    assert.match(String(message), /ended with its session/)
  }).pipe(Effect.scoped)
)
