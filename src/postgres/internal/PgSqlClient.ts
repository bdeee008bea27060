/**
 * An ordinary `SqlClient` over one PostgreSQL connection.
 *
 * The client lives as long as the connection it is made from and uses nothing else: statements of concurrent fibers take
 * turns, a transaction or a stream keeps the others waiting until it is over, nested transactions are savepoints. A
 * statement whose cancel the server does not confirm within a second, or that gets no answer at all in time, has its connection killed.
 */
import type { PgConnection, Result, Row } from "@effect/sql-pg/PgConnection"
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { hasProperty } from "effect/Predicate"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"
import * as Stream from "effect/Stream"
import type { State } from "../../connection/ConnectionSource.ts"
import * as PgDriver from "./PgDriver.ts"

type Transform = (<A extends object>(row: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined

const rowsOf = (transform: Transform) => (result: Result) =>
  transform === undefined ? result.rows : transform(result.rows)

/** What runs the statements of a client. */
export interface Runner {
  readonly statement: <A>(statement: Effect.Effect<A, SqlError>) => Effect.Effect<A, SqlError>
  readonly stream: <A>(rows: Stream.Stream<A, SqlError>) => Stream.Stream<A, SqlError>
}

/**
 * A statement that comes after the end of its connection fails at once, instead of queueing behind what hangs there. Where the
 * pool took the connection back, statements say why.
 */
const runnerOf = (guard: PgDriver.Guard, state: () => State): Runner => {
  const recalled = () => guard.reason() ?? new Error(silent)
  const orClosed = Effect.suspend(() =>
    guard.reason() !== undefined || state() === "dead" ? Effect.fail(closed(recalled())) : Effect.void
  )
  const why = (error: SqlError) => {
    const reason = guard.reason()
    return reason === undefined ? error : closed(reason)
  }
  return {
    statement: (statement) => Effect.andThen(orClosed, Effect.mapError(PgDriver.orKill(guard)(statement), why)),
    stream: (rows) => Stream.unwrap(Effect.as(orClosed, Stream.mapError(PgDriver.streamOrKill(guard)(rows), why)))
  }
}

const silent = "The connection was closed because the server did not answer. Take another one."

const closed = (cause: Error) =>
  new SqlError({ reason: new ConnectionError({ cause, message: cause.message, operation: "query" }) })

/** A connection as `SqlClient` knows it. */
export const adapt = (connection: PgConnection, { statement, stream }: Runner): Connection => ({
  execute: (sql, params, transform) => Effect.map(statement(connection.query(sql, params)), rowsOf(transform)),
  executeRaw: (sql, params) => statement(connection.query(sql, params)),
  executeValues: (sql, params) => statement(connection.queryValues(sql, params)),
  executeValuesUnprepared: (sql, params) => statement(connection.queryValues(sql, params, false)),
  executeUnprepared: (sql, params, transform) =>
    Effect.map(statement(connection.query(sql, params, false)), rowsOf(transform)),
  executeStream: (sql, params, transform) => {
    const rows = stream(connection.stream(sql, params))
    return transform === undefined
      ? rows
      : Stream.mapArray(rows, (chunk) => transform(chunk) as Arr.NonEmptyReadonlyArray<Row>)
  }
})

/** PostgreSQL answers `COMMIT` of a failed transaction with `ROLLBACK`; silence would lose the work unseen. */
const commit = (connection: Connection) =>
  Effect.flatMap(connection.executeRaw("COMMIT", []), (result) =>
    hasProperty(result, "command") && result.command === "ROLLBACK"
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

/** What `SqlClient.make` is told about PostgreSQL. */
export const dialect = {
  commit,
  compiler: PgClient.makeCompiler(),
  driver: "pg",
  prepareTransactionControls: true,
  releaseSavepoint: (name: string) => `RELEASE SAVEPOINT ${name}`,
  spanAttributes: [["db.system.name", "postgresql"]] as const
}

/** Makes the client. Reactivity is the app's, where it provides one to the pool. */
export const make = Effect.fnUntraced(function* (connection: PgConnection, guard: PgDriver.Guard, state: () => State) {
  const turn = yield* Semaphore.make(1)
  const adapted = adapt(connection, runnerOf(guard, state))
  const taken = Effect.as(
    Effect.acquireRelease(turn.take(1), () => turn.release(1), { interruptible: true }),
    adapted
  )
  return yield* SqlClient.make({
    acquirer: taken,
    borrower: (use) => turn.withPermit(use(adapted)),
    transactionAcquirer: taken,
    ...dialect
  })
})
