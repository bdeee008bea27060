// The app of http-app.ts without a database: sessions in memory, and a report that takes eight seconds.
// Run it: npx node --conditions=holdfast-source docs/examples/memory-app.ts

// #region app
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { Session } from "holdfast"
import * as MemorySessions from "holdfast/http/MemorySessions"
import * as SessionMiddleware from "holdfast/http/SessionMiddleware"
import { createServer } from "node:http"

class AppSession extends Session.Service<AppSession>()("app/AppSession", { data: Schema.Int, initial: 0 }) {}
const Http = SessionMiddleware.make(AppSession)

const Credentials = Schema.Struct({ username: Schema.String, password: Schema.String })
const areRight = ({ password, username }: typeof Credentials.Type) => username === "alice" && password === "wonderland"

const login = Effect.gen(function* () {
  const credentials = yield* HttpServerRequest.schemaBodyJson(Credentials)
  if (!areRight(credentials)) return HttpServerResponse.text("Wrong name or password\n", { status: 401 })
  yield* (yield* AppSession).authenticate(credentials.username)
  return HttpServerResponse.text(`Hello ${credentials.username}\n`)
})

const home = Effect.gen(function* () {
  const visits = yield* (yield* AppSession).modify((visits) => visits + 1)
  return HttpServerResponse.text(`Visit ${visits}\n`)
})

const logout = Effect.gen(function* () {
  yield* (yield* AppSession).logout
  return HttpServerResponse.text("Bye\n")
})

const report = Effect.sleep("8 seconds").pipe(
  Effect.as(HttpServerResponse.text("All is well\n")),
  Effect.onInterrupt(() => Effect.log("The report was interrupted"))
)

const open = HttpRouter.addAll([
  HttpRouter.route("GET", "/", home),
  HttpRouter.route("POST", "/login", login),
  HttpRouter.route("POST", "/logout", logout)
])

const membersOnly = HttpRouter.addAll([HttpRouter.route("GET", "/report", report)])

const routes = Layer.merge(open, membersOnly.pipe(Layer.provide(Http.loggedIn))).pipe(
  Layer.provide(Layer.provideMerge(Http.layer, MemorySessions.layer({ origin: "http://localhost:3000" })))
)

export const app = HttpRouter.serve(routes)

const server = NodeHttpServer.layerConfig(createServer, { port: Config.Port("PORT").pipe(Config.withDefault(3000)) })

if (import.meta.main) NodeRuntime.runMain(Layer.launch(app.pipe(Layer.provide(server))))
// #endregion
