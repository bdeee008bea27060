/**
 * An ordinary `SqlClient` over one PostgreSQL connection.
 *
 * The client lives as long as the connection it is made from and uses nothing else: statements of concurrent fibers take
 * turns, a transaction or a stream keeps the others waiting until it is over, nested transactions are savepoints.
 */
import type { PgConnection, Result, Row } from "@effect/sql-pg/PgConnection"
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"

type Transform = (<A extends object>(row: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined

const rowsOf = (transform: Transform) => (result: Result) =>
  transform === undefined ? result.rows : transform(result.rows)

const adapt = (connection: PgConnection): Connection => ({
  execute: (sql, params, transform) => Effect.map(connection.query(sql, params), rowsOf(transform)),
  executeRaw: (sql, params) => connection.query(sql, params),
  executeValues: (sql, params) => connection.queryValues(sql, params),
  executeValuesUnprepared: (sql, params) => connection.queryValues(sql, params, false),
  executeUnprepared: (sql, params, transform) => Effect.map(connection.query(sql, params, false), rowsOf(transform)),
  executeStream: (sql, params, transform) => {
    const rows = connection.stream(sql, params)
    return transform === undefined
      ? rows
      : Stream.mapArray(rows, (chunk) => transform(chunk) as Arr.NonEmptyReadonlyArray<Row>)
  }
})

/** PostgreSQL answers `COMMIT` of a failed transaction with `ROLLBACK`; silence would lose the work unseen. */
const commit = (connection: PgConnection) =>
  Effect.flatMap(connection.query("COMMIT"), ({ command }) =>
    command === "ROLLBACK"
      ? Effect.fail(
          new SqlError({
            reason: new UnknownError({
              cause: new Error("COMMIT rolled back"),
              message: "The transaction had failed, so COMMIT rolled it back. Handle the earlier error.",
              operation: "commit"
            })
          })
        )
      : Effect.void
  )

/** Makes the client. Reactivity is the app's, where it provides one to the pool. */
export const make = Effect.fnUntraced(function* (connection: PgConnection, attributes: Record<string, unknown> = {}) {
  const turn = yield* Semaphore.make(1)
  const adapted = adapt(connection)
  const taken = Effect.as(
    Effect.acquireRelease(turn.take(1), () => turn.release(1), { interruptible: true }),
    adapted
  )
  return yield* SqlClient.make({
    acquirer: taken,
    borrower: (use) => turn.withPermit(use(adapted)),
    transactionAcquirer: taken,
    commit: () => commit(connection),
    compiler: PgClient.makeCompiler(),
    driver: "pg",
    prepareTransactionControls: true,
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    spanAttributes: [["db.system.name", "postgresql"], ...Object.entries(attributes)]
  })
})
