/**
 * A server on Effect for `npm run bench -- http`: the same work as routes of an `HttpRouter` and as calls of an `HttpApi`.
 *
 * `BENCH_STORE` says where its sessions are: `none` (routes without sessions alone), `postgres` or `redis`; `BENCH_STALENESS` how many
 * milliseconds old an answer may be.
 */
import { createServer } from "node:http"
import { setFlagsFromString } from "node:v8"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Effect from "effect/Effect"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SessionMiddleware from "../../../src/http/SessionMiddleware.ts"
import * as PgSessions from "../../../src/postgres/PgSessions.ts"
import * as RedisSessions from "../../../src/redis/RedisSessions.ts"
import * as Session from "../../../src/session/Session.ts"
import { idleMillis, initial, port, slowMillis, storeUrl } from "./work.ts"

// As docs/benchmarks.md recommends, and as the service does.
setFlagsFromString("--no-allocation-site-pretenuring")

class AppSession extends Session.Service<AppSession>()("bench/AppSession", {
  data: Schema.Struct({
    count: Schema.Int,
    locale: Schema.String,
    cart: Schema.Array(Schema.Struct({ sku: Schema.String, quantity: Schema.Int, price: Schema.Int }))
  }),
  initial,
  idleTimeout: `${idleMillis} millis`
}) {}
const Http = SessionMiddleware.make(AppSession)

const Named = Schema.Struct({ principal: Schema.NullOr(Schema.String) })
const Counted = Schema.Struct({ count: Schema.Int })
const Login = Schema.Struct({ username: Schema.String })

const read = Effect.map(
  Effect.flatMap(AppSession, ({ principal }) => principal),
  (principal) => ({ principal })
)
const write = Effect.map(
  Effect.flatMap(AppSession, ({ modify }) => modify((data) => ({ ...data, count: data.count + 1 }))),
  ({ count }) => ({ count })
)
const login = ({ username }: typeof Login.Type) =>
  Effect.as(
    Effect.flatMap(AppSession, ({ authenticate }) => authenticate(username)),
    { principal: username }
  )
/** Asks for the data, takes its time, and writes. */
const slow = Effect.flatMap(AppSession, ({ data }) => data).pipe(
  Effect.andThen(Effect.sleep(slowMillis)),
  Effect.andThen(write)
)

const nobody = { principal: null }
const unused = Effect.succeed(nobody)

class Plain extends HttpApi.make("plain").add(
  HttpApiGroup.make("plain").add(HttpApiEndpoint.get("plain", "/api/plain", { success: Named }))
) {}

class Api extends HttpApi.make("sessions").add(
  HttpApiGroup.make("sessions").add(
    HttpApiEndpoint.get("unused", "/api/unused", { success: Named }),
    HttpApiEndpoint.get("read", "/api/read", { success: Named }),
    HttpApiEndpoint.post("write", "/api/write", { success: Counted }),
    HttpApiEndpoint.post("login", "/api/login", { payload: Login, success: Named })
  )
) {}

const json = <E, R>(path: `/${string}`, method: "GET" | "POST", answer: Effect.Effect<unknown, E, R>) =>
  HttpRouter.route(method, path, Effect.flatMap(answer, HttpServerResponse.json))

const plainRoutes = Layer.merge(
  HttpRouter.addAll([json("/router/plain", "GET", unused)]),
  HttpApiBuilder.layer(Plain).pipe(
    Layer.provide(HttpApiBuilder.group(Plain, "plain", (handlers) => handlers.handleAll({ plain: () => unused })))
  )
)

const handlers = HttpApiBuilder.group(Api, "sessions", (handlers) =>
  handlers.handleAll({
    unused: () => unused,
    read: () => Effect.orDie(read),
    write: () => Effect.orDie(write),
    login: ({ payload }) => Effect.orDie(login(payload))
  })
)

const sessionRoutes = Layer.merge(
  HttpRouter.addAll([
    json("/router/unused", "GET", unused),
    json("/router/read", "GET", read),
    json("/router/write", "POST", write),
    json("/router/login", "POST", Effect.flatMap(HttpServerRequest.schemaBodyJson(Login), login)),
    json("/router/slow", "POST", slow),
    json(
      "/router/logout",
      "POST",
      Effect.as(
        Effect.flatMap(AppSession, ({ logout }) => logout),
        nobody
      )
    ),
    json(
      "/router/revoke",
      "POST",
      Effect.as(
        Effect.flatMap(AppSession, ({ revokeOthers }) => revokeOthers),
        nobody
      )
    )
  ]),
  HttpApiBuilder.layer(Api).pipe(Layer.provide(handlers))
)

const origin = `http://127.0.0.1:${port}`
const withSessions = <E>(
  sessions: Layer.Layer<Layer.Success<ReturnType<typeof PgSessions.layer>>, E, HttpRouter.HttpRouter>
) => sessionRoutes.pipe(Layer.provide(Layer.provideMerge(Http.layer, sessions)))

const staleness = process.env.BENCH_STALENESS
const routes = {
  none: () => plainRoutes,
  postgres: () =>
    withSessions(
      PgSessions.layer({
        url: Redacted.make(storeUrl),
        origin,
        ...(staleness !== undefined && { staleness: `${Number(staleness)} millis` })
      })
    ),
  redis: () => withSessions(RedisSessions.layer({ url: Redacted.make(storeUrl), origin }))
}[process.env.BENCH_STORE as "none" | "postgres" | "redis"]()

const app = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.tap(() => Effect.sync(() => process.stdout.write(`listening on ${origin}\n`))),
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port }))
)

NodeRuntime.runMain(Layer.launch(app))
