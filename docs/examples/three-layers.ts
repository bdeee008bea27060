/**
 * The three layers: a session, a connection from the pool, a running query. Close any of them, and everything below it is
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

// One request: the query needs the session, so it closes before it. Interrupt the request, log the session out or let it
// expire, and the statement is cancelled at the server, which says so; then its connection goes back, as good as new;
// then the handle on the session is let go.
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
/** What the app opens once and closes last: sessions before the connections they use. */
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
