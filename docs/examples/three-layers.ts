/**
 * The three layers: a session, a connection from the pool, a running query. If one of them closes, everything below it is
 * interrupted, awaited and released.
 *
 * Run it against a database of yours: `DATABASE_URL=postgres://… node --conditions=holdfast-source docs/examples/three-layers.ts`
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import type * as Redacted from "effect/Redacted"
import * as PgSessionStore from "holdfast/postgres/PgSessionStore"
// #region three-layers
import { Effect, Layer, Schema, Stream } from "effect"
import { ConnectionPool, Query, Session, Sessions, type SessionToken } from "holdfast"
import * as PgConnectionSource from "holdfast/postgres/PgConnectionSource"
import * as PgRecycle from "holdfast/postgres/PgRecycle"
import * as PgQueryDriver from "holdfast/postgres/PgQueryDriver"

export class AppSession extends Session.Service<AppSession>()("app/AppSession", {
  data: Schema.Struct({ cart: Schema.Array(Schema.String) }),
  initial: { cart: [] }
}) {}

// One request. The query needs the session, so the query closes first. If the request is interrupted or the session ends,
// three things happen in this order: the server cancels the statement and confirms it, the connection is reset and goes
// back to the pool, the handle on the session is released.
export const report = (token: SessionToken.SessionToken, sql: string) =>
  Effect.gen(function* () {
    const session = yield* AppSession
    const query = yield* Query.Query
    return { principal: yield* session.principal, rows: yield* Stream.runCollect(query.rows) }
  }).pipe(
    Effect.provide(
      Query.layer(sql).pipe(Layer.provide(PgQueryDriver.layer), Layer.provideMerge(AppSession.layer(token)))
    )
  )
// #endregion

// #region app
/** The app opens this once and closes it last: first the sessions, then the connections. */
export const layerApp = (url: Redacted.Redacted<string>) =>
  Sessions.layer().pipe(
    Layer.provideMerge(PgSessionStore.layer({ url })),
    Layer.provideMerge(
      ConnectionPool.layer({ max: 10 }).pipe(
        Layer.provide(PgConnectionSource.layer({ url, recycle: PgRecycle.foreign }))
      )
    )
  )
// #endregion

const program = Effect.gen(function* () {
  const url = yield* Config.Redacted("DATABASE_URL")
  yield* PgSessionStore.migrate({ url })
  yield* Effect.gen(function* () {
    const { token } = yield* AppSession.create({ principal: "alice" })
    yield* Console.log(yield* report(token, "select 6 * 7 as answer, now() as at"))
  }).pipe(Effect.provide(layerApp(url)))
})

if (import.meta.main) NodeRuntime.runMain(program)
