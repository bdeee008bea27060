/**
 * One pool, two ways to use it.
 */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as Connection from "holdfast/connection/Connection"
import * as PgConnectionPool from "holdfast/postgres/PgConnectionPool"

// #region pool
export const layerPool = (url: Redacted.Redacted<string>) =>
  PgConnectionPool.layer({
    url,
    max: 10,
    acquireTimeout: "2 seconds",
    statementTimeout: "30 seconds",
    applicationName: "shop"
  })
// #endregion

// #region use
/** A short statement. It shares a connection with other fibers and needs no lease. */
export const countOrders = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql`select count(*)::int as count from orders`
  return row?.["count"]
})

/** Several statements that belong together. They have a connection of their own, until the effect is over. */
export const placeOrder = (item: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`set lock_timeout = '1s'`
    return yield* sql.withTransaction(
      Effect.andThen(
        sql`update stock set amount = amount - 1 where item = ${item}`,
        sql`insert into orders (item) values (${item}) returning id`
      )
    )
  }).pipe(Effect.provide(Connection.layer))
// #endregion
