import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import * as MemorySessions from "../../src/http/MemorySessions.ts"
import type { SessionCookieInvalid } from "../../src/http/SessionCookie.ts"
import * as SessionMiddleware from "../../src/http/SessionMiddleware.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as PgSessions from "../../src/postgres/PgSessions.ts"
import * as RedisSessions from "../../src/redis/RedisSessions.ts"
import * as Session from "../../src/session/Session.ts"
import type { Sessions } from "../../src/session/Sessions.ts"
import type { SessionStore } from "../../src/session/SessionStore.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as Browser from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase, urlOf } from "../support/postgres.ts"
import { redisUrl } from "../support/redis.ts"

class AppSession extends Session.Service<AppSession>()("test/OneLayer", { data: Schema.Int, initial: 0 }) {}
const Http = SessionMiddleware.make(AppSession)

type InOneLayer<E> = Layer.Layer<Sessions | SessionStore, E | SessionCookieInvalid, HttpRouter.HttpRouter>

const routes = HttpRouter.addAll([
  HttpRouter.route(
    "POST",
    "/visit",
    Effect.map(
      AppSession.use(({ modify }) => modify((visits) => visits + 1)),
      (visits) => HttpServerResponse.text(String(visits))
    )
  ),
  HttpRouter.route(
    "POST",
    "/logout",
    Effect.as(
      AppSession.use(({ logout }) => logout),
      HttpServerResponse.empty()
    )
  )
])

/** The app over sessions, on a real server. */
const withApp = <E, A, E2>(sessions: InOneLayer<E>, test: (url: string) => Effect.Effect<A, E2>) =>
  Effect.gen(function* () {
    const app = HttpRouter.serve(routes.pipe(Layer.provide(Layer.provideMerge(Http.layer, sessions))), {
      disableListenLog: true,
      disableLogger: true
    }).pipe(Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })))
    yield* Effect.scoped(
      Effect.flatMap(Layer.build(app), (context) =>
        test(HttpServer.formatAddress(Context.get(context, HttpServer.HttpServer).address))
      )
    )
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.scoped, Effect.provide(Ledger.layer), Effect.provideService(References.MinimumLogLevel, "None"))

const visit = (browser: Browser.Browser, headers: Readonly<Record<string, string>> = {}) =>
  Effect.map(browser.send("POST", "/visit", { headers }), ({ status, text }) => [status, text])

const walk = (origin: string) => (url: string) =>
  Effect.gen(function* () {
    const browser = Browser.make(url)
    assert.deepStrictEqual(yield* visit(browser), [200, "1"])
    assert.deepStrictEqual(yield* visit(browser, { origin }), [200, "2"])
    const [status, text] = yield* visit(browser, { origin: "https://evil.example" })
    assert.strictEqual(status, 403)
    assert.include(text, "OriginRefused")
    assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
    assert.strictEqual(browser.cookies.size, 0)
  })

describe("sessions in one layer", () => {
  const origin = "http://127.0.0.1:3000"

  it.live("in memory", () => withApp(MemorySessions.layer({ origin }), walk(origin)))

  it.live("in PostgreSQL, tables included", () =>
    Effect.scoped(
      Effect.flatMap(freshDatabase, ({ url }) =>
        withApp(PgSessions.layer({ url, origin: new URL(origin) }), walk(origin))
      )
    )
  )

  it.live("in Redis", () =>
    Effect.flatMap(redisUrl, (url) => withApp(RedisSessions.layer({ url, origin, prefix: "one-layer" }), walk(origin)))
  )

  it.live("with options from the configuration", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        const config = { DATABASE_URL: Redacted.value(url), REDIS_URL: Redacted.value(yield* redisUrl), ORIGIN: origin }
        const provided = ConfigProvider.layer(ConfigProvider.fromUnknown(config))
        const common = { origin: Config.String("ORIGIN") }
        const layers: ReadonlyArray<InOneLayer<Config.ConfigError>> = [
          MemorySessions.layerConfig(common),
          PgSessions.layerConfig({ ...common, url: Config.Redacted("DATABASE_URL") }),
          RedisSessions.layerConfig({
            ...common,
            url: Config.Redacted("REDIS_URL"),
            prefix: Config.succeed("from-config")
          })
        ]
        for (const layer of layers) yield* withApp(Layer.provide(layer, provided), walk(origin))
      })
    )
  )

  for (const [wrong, problem] of [
    ["http://example.org", "must be https"],
    ["https://example.org/app", "without a path"],
    ["example.org", "without a path"],
    ["ftp://example.org", "without a path"]
  ] as const) {
    it.live(`the origin ${wrong} is refused when the layer is built`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(
          Effect.scoped(Layer.build(MemorySessions.layer({ origin: wrong }).pipe(Layer.provide(HttpRouter.layer))))
        )
        assert.strictEqual(error.field, "origin")
        assert.include(error.message, problem)
      })
    )
  }

  it.live("an app that starts before its database answers 503, and works when the tables can be made", () =>
    Effect.scoped(
      Effect.gen(function* () {
        const { name, url } = yield* freshDatabase
        const administer = (statement: string) =>
          Effect.scoped(Effect.flatMap(PgConnection.make({ url: urlOf("postgres") }), ({ query }) => query(statement)))
        yield* administer(`alter database ${name} with allow_connections false`)
        yield* withApp(PgSessions.layer({ url, origin, operationTimeout: "1 second" }), (app) =>
          Effect.gen(function* () {
            const browser = Browser.make(app)
            const [status, text] = yield* visit(browser)
            assert.strictEqual(status, 503)
            assert.include(text, "SessionsUnavailable")
            yield* administer(`alter database ${name} with allow_connections true`)
            yield* eventually(visit(browser), ([status]) => status === 200, "10 seconds")
          })
        )
      })
    )
  )
})
