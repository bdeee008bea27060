// A small app, arranged so that a test can give it a database: notes of the user who is logged in. Its tests are in notes-app-tests.ts.

// #region app
import { Effect, Layer, type Redacted, Schema } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { SqlClient } from "effect/sql"
import { Session } from "holdfast"
import * as SessionMiddleware from "holdfast/http/SessionMiddleware"
import * as PgSessions from "holdfast/postgres/PgSessions"

export class AppSession extends Session.Service<AppSession>()("app/AppSession", { data: Schema.Int, initial: 0 }) {}
const Http = SessionMiddleware.make(AppSession)

/** A call of `sql.unsafe` takes one statement. */
export const tables = ["create table notes (id serial primary key, owner text not null, text text not null)"]

const add = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const owner = yield* SessionMiddleware.Principal
  const text = yield* (yield* HttpServerRequest.HttpServerRequest).text
  yield* sql.withTransaction(sql`insert into notes (owner, text) values (${owner}, ${text})`)
  return HttpServerResponse.empty({ status: 204 })
})

const list = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const owner = yield* SessionMiddleware.Principal
  return yield* HttpServerResponse.json(yield* sql`select text from notes where owner = ${owner} order by id`)
})

const notes = HttpRouter.addAll([HttpRouter.route("POST", "/notes", add), HttpRouter.route("GET", "/notes", list)])

export const origin = "https://notes.example"

/** The app over a database; it needs an `SqlClient` and an `HttpServer`. */
export const app = (url: Redacted.Redacted) =>
  HttpRouter.serve(
    notes.pipe(
      Layer.provide(Http.loggedIn),
      // Merged, so that a test finds the app's sessions.
      Layer.provideMerge(PgSessions.layer({ url, origin, migrate: false }))
    )
  )
// #endregion
