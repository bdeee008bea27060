// The app of http-app.ts with effect/rpc: calls and streams end with the session, a WebSocket of it is closed.
// Run it: DATABASE_URL=postgres://… npx node --conditions=holdfast-source docs/examples/rpc-app.ts
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Config, Effect, Layer, Schema, Stream } from "effect"
import { HttpRouter } from "effect/http"
import { Rpc, RpcGroup, RpcSerialization, RpcServer } from "effect/rpc"
import { Query, Session } from "holdfast" // 1
import * as SessionRpc from "holdfast/http/SessionRpc" // 2
import * as PgConnectionPool from "holdfast/postgres/PgConnectionPool"
import * as PgQueryDriver from "holdfast/postgres/PgQueryDriver"
import * as PgSessions from "holdfast/postgres/PgSessions" // 3
import { createServer } from "node:http"

// #region rpcs
class AppSession extends Session.Service<AppSession>()("app/AppSession", { data: Schema.Int, initial: 0 }) {} // 4
const AppRpc = SessionRpc.make(AppSession) // 5

const credentials = { username: Schema.String, password: Schema.String }
const areRight = (username: string, password: string) => username === "alice" && password === "wonderland"
class WrongPassword extends Schema.TaggedError<WrongPassword>("app/WrongPassword")("WrongPassword", {}) {}

const home = Rpc.make("Home", { success: Schema.Int })
const login = Rpc.make("Login", { payload: credentials, success: Schema.String, error: WrongPassword })
const logout = Rpc.make("Logout", { success: Schema.String })
const report = Rpc.make("Report", { success: Schema.Array(Schema.Unknown), stream: true })

const open = RpcGroup.make(home, login, logout)
export class Rpcs extends open.middleware(AppRpc.Handle).add(report.middleware(AppRpc.LoggedIn)) {} // 6
// #endregion

// #region handlers
const visit = AppSession.use(({ modify }) => modify((visits) => visits + 1)).pipe(Effect.orDie) // 7
const enter = (name: string) => AppSession.use(({ authenticate }) => authenticate(name)).pipe(Effect.orDie) // 8
const leave = AppSession.use(({ logout }) => logout).pipe(Effect.orDie) // 9
const rows = Stream.unwrap(
  Effect.map(Query.make({ sql: "select count(*), pg_sleep(8) from pg_class", params: [] }), ({ rows }) => rows)
)

const handlers = Rpcs.toLayer({
  Home: () => visit,
  Login: ({ password, username }) =>
    areRight(username, password) ? Effect.as(enter(username), `Hello ${username}`) : Effect.fail(new WrongPassword()),
  Logout: () => Effect.as(leave, "Bye"),
  Report: () => rows.pipe(Stream.orDie)
})

const url = Config.Redacted("DATABASE_URL")
const origin = Config.String("ORIGIN").pipe(Config.withDefault("http://localhost:3000"))

const routes = Layer.merge(
  RpcServer.layerHttp({ group: Rpcs, path: "/rpc", protocol: "http" }),
  RpcServer.layerHttp({ group: Rpcs, path: "/rpc/socket", protocol: "websocket" })
).pipe(
  Layer.provide([handlers, RpcSerialization.layerNdjson]),
  Layer.provide(Layer.provideMerge(AppRpc.layer, PgSessions.layerConfig({ url, origin }))) // 10
)
// #endregion

export const app = HttpRouter.serve(routes).pipe(
  Layer.provide(PgQueryDriver.layer),
  Layer.provide(PgConnectionPool.layerConfig({ url }))
)

const server = NodeHttpServer.layerConfig(createServer, { port: Config.Port("PORT").pipe(Config.withDefault(3000)) })

if (import.meta.main) NodeRuntime.runMain(Layer.launch(app.pipe(Layer.provide(server))))
