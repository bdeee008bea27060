// An app whose page knows its session: who is logged in, for how long, and why no longer. The page is browser-app.html beside it.
// Run it from the package that you installed: npx node browser-app.ts

// #region app
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { Session } from "holdfast"
import * as MemorySessions from "holdfast/http/MemorySessions"
import * as SessionEvents from "holdfast/http/SessionEvents"
import * as SessionMiddleware from "holdfast/http/SessionMiddleware"
import { createServer } from "node:http"

class AppSession extends Session.Service<AppSession>()("app/AppSession", { data: Schema.Int, initial: 0 }) {}
const Http = SessionMiddleware.make(AppSession)

const Credentials = Schema.Struct({ username: Schema.String, password: Schema.String })

const login = Effect.gen(function* () {
  const { password, username } = yield* HttpServerRequest.schemaBodyJson(Credentials)
  if (password !== "wonderland") return yield* HttpServerResponse.json({ code: "WrongPassword" }, { status: 401 })
  const record = yield* (yield* AppSession).authenticate(username)
  return yield* HttpServerResponse.json(SessionEvents.encode(record))
})

const logout = Effect.gen(function* () {
  yield* (yield* AppSession).logout
  return HttpServerResponse.empty()
})

const routes = HttpRouter.addAll([
  HttpRouter.route("GET", "/", HttpServerResponse.file(`${import.meta.dirname}/browser-app.html`)),
  HttpRouter.route("GET", "/SessionState.js", HttpServerResponse.file(`${import.meta.dirname}/SessionState.js`)),
  HttpRouter.route("POST", "/login", login),
  HttpRouter.route("POST", "/logout", logout)
])

/** `GET /session` and `GET /session/events` are what the page needs besides. */
export const app = (origin: string) =>
  HttpRouter.serve(
    Layer.merge(routes, SessionEvents.layer(AppSession)).pipe(
      Layer.provide(Layer.provideMerge(Http.layer, MemorySessions.layer({ origin })))
    )
  )
// #endregion

if (import.meta.main) {
  const server = NodeHttpServer.layer(createServer, { port: 3000, host: "127.0.0.1" })
  NodeRuntime.runMain(Layer.launch(Layer.provide(app("http://127.0.0.1:3000"), server)))
}
