/**
 * Queries addressed by id, which outlive the call that submitted them.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { ConnectionPool, type QueryId, QueryRegistry } from "holdfast"
import * as PgConnectionSource from "holdfast/postgres/PgConnectionSource"
import * as PgRecycle from "holdfast/postgres/PgRecycle"
import * as FileQueryResults from "holdfast/node/FileQueryResults"
import * as PgQueryDriver from "holdfast/postgres/PgQueryDriver"

// #region registry
/** The pool has as many connections as queries may run. The layers are nested, so the registry closes before the pool. */
export const layerRegistry = (url: Redacted.Redacted<string>) =>
  QueryRegistry.layer({ maxRunning: 10, maxRunningPerPrincipal: 3, retention: "15 minutes" }).pipe(
    Layer.provide([FileQueryResults.layer(), PgQueryDriver.layer]),
    Layer.provide(ConnectionPool.layer({ max: 10 })),
    Layer.provide(PgConnectionSource.layer({ url, recycle: PgRecycle.foreign, applicationName: "reports" }))
  )
// #endregion

// #region roles
/** Each principal's statements run as a role of the server that is named after it. Who may have one is the app's to decide. */
export const layerPerTenant = (
  url: Redacted.Redacted<string>,
  passwordOf: (tenant: string) => Redacted.Redacted<string>
) =>
  QueryRegistry.layer({ maxRunning: 10, maxRunningPerPrincipal: 3 }).pipe(
    Layer.provide([FileQueryResults.layer(), PgQueryDriver.layerPerPrincipal]),
    Layer.provide(ConnectionPool.layer({ max: 10 })),
    Layer.provide(
      PgConnectionSource.layer({
        url,
        recycle: PgRecycle.foreign,
        login: (tenant) => ({ username: `tenant_${tenant}`, password: passwordOf(tenant) })
      })
    )
  )
// #endregion

// #region submit
/** Submits a report. A second submission with the same key returns the same query. */
export const orderReport = (principal: string, month: string) =>
  Effect.gen(function* () {
    const queries = yield* QueryRegistry.QueryRegistry
    return yield* queries.submit({
      principal,
      statement: {
        sql: "select id, total from orders where month = $1 order by id",
        params: [month],
        settings: { default_transaction_read_only: "on" }
      },
      deadline: "1 minute",
      idempotencyKey: `report ${month}`
    })
  })

/** Waits for the outcome, then reads all rows. */
export const readReport = (principal: string, id: QueryId.QueryId) =>
  Effect.gen(function* () {
    const queries = yield* QueryRegistry.QueryRegistry
    const { error, state } = yield* queries.await(principal, id)
    return state === "Succeeded" ? yield* Stream.runCollect(queries.rows(principal, id)) : (error?.message ?? state)
  })
// #endregion

// #region watch
/** Every state, from the first to the last. The stream ends after the last one. */
export const watch = (principal: string, id: QueryId.QueryId) =>
  Stream.unwrap(
    Effect.map(QueryRegistry.QueryRegistry, (queries) =>
      Stream.map(queries.events(principal, id), ({ record, seq }) => `${seq} ${record.state}`)
    )
  )
// #endregion
