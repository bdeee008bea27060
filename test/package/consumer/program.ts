/** A program of somebody who installed Holdfast: a session, a query and a request to another server, without a database. */
import { createServer, type Server } from "node:http"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Query, Session, Sessions, type SessionToken } from "holdfast"
import * as ClientSession from "holdfast/client/ClientSession"
import * as Ledger from "holdfast/lifetime/Ledger"
import * as MemorySessionStore from "holdfast/session/MemorySessionStore"
import * as ScriptedQueryDriver from "holdfast/testing/ScriptedQueryDriver"

class AppSession extends Session.Service<AppSession>()("app/AppSession", {
  data: Schema.Struct({ cart: Schema.Array(Schema.String) }),
  initial: { cart: [] }
}) {}

const { driver } = ScriptedQueryDriver.make({
  execute: (statement, sink, execution) => ScriptedQueryDriver.answer({ rows: [[statement.sql]] }, sink, execution)
})

const report = (token: SessionToken.SessionToken) =>
  Effect.gen(function* () {
    const session = yield* AppSession
    yield* session.modify(({ cart }) => ({ cart: [...cart, "apple"] }))
    const query = yield* Query.Query
    const rows = yield* Stream.runCollect(query.rows)
    return { principal: yield* session.principal, data: yield* session.data, rows }
  }).pipe(
    Effect.provide(
      Query.layer("select 1").pipe(
        Layer.provide(ScriptedQueryDriver.layer(driver)),
        Layer.provideMerge(AppSession.layer(token))
      )
    )
  )

const server = Effect.acquireRelease(
  Effect.callback<Server>((resume) => {
    const server = createServer((_, response) => response.end("hello"))
    server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close())
)

const greeting = Effect.gen(function* () {
  const address = (yield* server).address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const response = yield* HttpClient.get(`http://127.0.0.1:${port}/`)
  return yield* response.text
}).pipe(Effect.provide(ClientSession.layer({ timeout: "5 seconds" })), Effect.scoped)

const program = Effect.gen(function* () {
  const { token } = yield* AppSession.create({ principal: "alice" })
  const told = { ...(yield* report(token)), greeting: yield* greeting }
  yield* Console.log(JSON.stringify(told))
}).pipe(Effect.provide(Sessions.layer().pipe(Layer.provideMerge(MemorySessionStore.layer))))

await Effect.runPromise(program)
console.log(JSON.stringify(await Effect.runPromise(Effect.flatMap(Ledger.Ledger, ({ holdings }) => holdings))))
