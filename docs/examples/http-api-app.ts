// The app of http-app.ts as an HttpApi: typed calls, a derived client and OpenAPI.
// Run it: DATABASE_URL=postgres://… npx node --conditions=holdfast-source docs/examples/http-api-app.ts
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer, Schema, Stream } from "effect"
import { HttpRouter } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import { Query, Session } from "holdfast" // 1
import * as SessionMiddleware from "holdfast/http/SessionMiddleware" // 2
import * as PgConnectionPool from "holdfast/postgres/PgConnectionPool"
import * as PgQueryDriver from "holdfast/postgres/PgQueryDriver"
import * as PgSessions from "holdfast/postgres/PgSessions" // 3
import { createServer } from "node:http"

// #region api
class AppSession extends Session.Service<AppSession>()("app/AppSession", { data: Schema.Int, initial: 0 }) {} // 4
const Http = SessionMiddleware.make(AppSession) // 5

const Credentials = Schema.Struct({ username: Schema.String, password: Schema.String })
const areRight = ({ password, username }: typeof Credentials.Type) => username === "alice" && password === "wonderland"

class WrongPassword extends Schema.TaggedError<WrongPassword>("app/WrongPassword")(
  "WrongPassword",
  {},
  { httpApiStatus: 401 }
) {}

export class Api extends HttpApi.make("app").add(
  HttpApiGroup.make("app").add(
    HttpApiEndpoint.get("home", "/", { success: Schema.Struct({ visits: Schema.Int }) }),
    HttpApiEndpoint.post("login", "/login", { payload: Credentials, success: Schema.String, error: WrongPassword }),
    HttpApiEndpoint.post("logout", "/logout", { success: Schema.String }),
    HttpApiEndpoint.get("report", "/report", { success: Schema.Array(Schema.Unknown) }).middleware(Http.LoggedIn) // 6
  )
) {}
// #endregion

// #region handlers
const report = Effect.flatMap(Query.Query, ({ rows }) => Stream.runCollect(rows)).pipe(
  Effect.provide(Query.layer("select count(*), pg_sleep(8) from pg_class"))
)

const handlers = HttpApiBuilder.group(Api, "app", (handlers) =>
  handlers.handleAll({
    home: () =>
      Effect.gen(function* () {
        return { visits: yield* (yield* AppSession).modify((visits) => visits + 1) } // 7
      }).pipe(Effect.orDie),
    login: ({ payload }) =>
      Effect.gen(function* () {
        if (!areRight(payload)) return yield* new WrongPassword()
        yield* Effect.orDie((yield* AppSession).authenticate(payload.username)) // 8
        return `Hello ${payload.username}`
      }),
    logout: () => Effect.as(Effect.orDie(Effect.flatMap(AppSession, ({ logout }) => logout)), "Bye"), // 9
    report: () => Effect.orDie(report)
  })
)

const url = Config.Redacted("DATABASE_URL")
const origin = Config.String("ORIGIN").pipe(Config.withDefault("http://localhost:3000"))

const routes = HttpApiBuilder.layer(Api, { openapiPath: "/openapi.json" }).pipe(
  Layer.provide(handlers),
  Layer.provide(Layer.provideMerge(Http.layer, PgSessions.layerConfig({ url, origin }))) // 10
)
// #endregion

export const app = HttpRouter.serve(routes).pipe(
  Layer.provide(PgQueryDriver.layer),
  Layer.provide(PgConnectionPool.layerConfig({ url }))
)

const server = NodeHttpServer.layerConfig(createServer, { port: Config.Port("PORT").pipe(Config.withDefault(3000)) })

if (import.meta.main) NodeRuntime.runMain(Layer.launch(app.pipe(Layer.provide(server))))
