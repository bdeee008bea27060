// A whole app with sessions: log in, count visits, a page for members, a report that ends with the session, log out.
// Run it: DATABASE_URL=postgres://… npx node --conditions=holdfast-source docs/examples/http-app.ts

// #region app
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer, Schema, Stream } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { Query, Session } from "holdfast" // 1
import * as SessionMiddleware from "holdfast/http/SessionMiddleware" // 2
import * as PgConnectionPool from "holdfast/postgres/PgConnectionPool"
import * as PgQueryDriver from "holdfast/postgres/PgQueryDriver"
import * as PgSessions from "holdfast/postgres/PgSessions" // 3
import { createServer } from "node:http"

class AppSession extends Session.Service<AppSession>()("app/AppSession", { data: Schema.Int, initial: 0 }) {} // 4
const Http = SessionMiddleware.make(AppSession) // 5

const Credentials = Schema.Struct({ username: Schema.String, password: Schema.String })
const areRight = ({ password, username }: typeof Credentials.Type) => username === "alice" && password === "wonderland"

const login = Effect.gen(function* () {
  const credentials = yield* HttpServerRequest.schemaBodyJson(Credentials)
  if (!areRight(credentials)) return HttpServerResponse.text("Wrong name or password\n", { status: 401 })
  yield* (yield* AppSession).authenticate(credentials.username) // 6
  return HttpServerResponse.text(`Hello ${credentials.username}\n`)
})

const home = Effect.gen(function* () {
  const visits = yield* (yield* AppSession).modify((visits) => visits + 1) // 7
  return HttpServerResponse.text(`Visit ${visits}\n`)
})

const logout = Effect.gen(function* () {
  yield* (yield* AppSession).logout // 8
  return HttpServerResponse.text("Bye\n")
})

const report = Effect.gen(function* () {
  const { rows } = yield* Query.Query
  return yield* HttpServerResponse.json(yield* Stream.runCollect(rows))
}).pipe(Effect.provide(Query.layer("select count(*), pg_sleep(8) from pg_class")))

const open = HttpRouter.addAll([
  HttpRouter.route("GET", "/", home),
  HttpRouter.route("POST", "/login", login),
  HttpRouter.route("POST", "/logout", logout)
])

const membersOnly = HttpRouter.addAll([HttpRouter.route("GET", "/report", report)])

const url = Config.Redacted("DATABASE_URL")
const origin = Config.String("ORIGIN").pipe(Config.withDefault("http://localhost:3000"))

const routes = Layer.merge(
  open,
  membersOnly.pipe(Layer.provide(Http.loggedIn)) // 9
).pipe(
  Layer.provide(Layer.provideMerge(Http.layer, PgSessions.layerConfig({ url, origin }))) // 10
)

export const app = HttpRouter.serve(routes).pipe(
  Layer.provide(PgQueryDriver.layer),
  Layer.provide(PgConnectionPool.layerConfig({ url }))
)

const server = NodeHttpServer.layerConfig(createServer, { port: Config.Port("PORT").pipe(Config.withDefault(3000)) })

if (import.meta.main) NodeRuntime.runMain(Layer.launch(app.pipe(Layer.provide(server))))
// #endregion
