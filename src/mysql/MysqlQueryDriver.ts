/**
 * Runs queries on connections leased from a `ConnectionPool` over MySQL or MariaDB, see `SqlQueryDriver`.
 *
 * The lease lives as long as the scope it was opened in. A statement is cancelled with `KILL QUERY` from another
 * connection, until the server has said what became of it.
 *
 * **Details**
 *
 * Statements are prepared by the server and their rows are read in its binary form, so that numbers are exact. A statement that
 * commits on the way, such as `ALTER TABLE` or `CALL`, and one that changed tables without transactions may have written
 * something although it has no outcome; the query says so (`written`). `BEGIN`, `COMMIT` and the like are refused: each query is a
 * transaction of its own.
 *
 * Install `mysql2` beside Holdfast.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type { ConnectionPool } from "../connection/ConnectionPool.ts"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import type { QueryDriver, Statement } from "../query/QueryDriver.ts"
import * as SqlErrors from "../sql/internal/SqlErrors.ts"
import * as SqlPlain from "../sql/internal/SqlPlain.ts"
import * as SqlQueryDriver from "../sql/SqlQueryDriver.ts"
import * as MysqlSqlClient from "./internal/MysqlSqlClient.ts"
import * as MysqlStatement from "./internal/MysqlStatement.ts"
import * as MysqlValues from "./internal/MysqlValues.ts"

export const capabilities: QueryCapabilities = {
  cancel: "statement",
  streams: true,
  undoes: true,
  settings: true,
  deadline: true,
  columnTypes: true,
  parameterTypes: false,
  notices: false,
  roles: false,
  placeholder: "?"
}

const foreign = new SqlError({
  reason: new ConnectionError({
    cause: new Error("The pool is not one of MySQL connections. Use MysqlConnectionSource."),
    message: "The pool is not one of MySQL connections",
    operation: "execute"
  })
})

const beneath = (connection: Connection) =>
  Effect.suspend(() => {
    const found = MysqlSqlClient.beneathOf(connection)
    return found === undefined ? Effect.fail(foreign) : Effect.succeed(found)
  })

/** How much later than the deadline the server ends a statement by itself, because we are gone. */
const graceMillis = 1000

/** Our own, which the reset of the connection undoes, in one statement. */
const ours = (isMariaDb: boolean, deadline: Duration.Duration | undefined) => {
  const millis = deadline === undefined ? undefined : Math.ceil(Duration.toMillis(deadline)) + graceMillis
  const limit =
    millis === undefined
      ? ""
      : isMariaDb
        ? `, max_statement_time = ${millis / 1000}`
        : `, max_execution_time = ${Math.min(millis, 2 ** 32 - 1)}`
  return `set names utf8mb4, session time_zone = '+00:00', session autocommit = 1${limit}`
}

const isName = /^[a-z_][a-z0-9_]{0,63}$/i

const prepare: SqlQueryDriver.Engine["prepare"] = (connection, { settings = {}, sql }, { deadline }) =>
  Effect.gen(function* () {
    const refused = MysqlStatement.refused(sql)
    if (refused !== undefined) return yield* SqlErrors.failed(refused)
    const { wire } = yield* beneath(connection)
    yield* wire.ask(ours(wire.isMariaDb, deadline))
    for (const [name, value] of Object.entries(settings)) {
      if (!isName.test(name)) {
        return yield* SqlErrors.unavailable("A setting of the statement has no name that MySQL knows. Correct it.")
      }
      const given = /^-?\d+$/.test(value) ? BigInt(value) : value
      yield* Effect.mapError(wire.ask(`set session ${name} = ?`, [given]), (error) =>
        MysqlStatement.failureOf(error).isLost === true
          ? error
          : SqlErrors.unavailable(
              `A setting of the query was refused: ${MysqlStatement.failureOf(error).problem}. Correct the settings of the statement.`
            )
      )
    }
  })

const run: SqlQueryDriver.Engine["run"] = (connection, statement: Statement, output) =>
  Effect.gen(function* () {
    const { wire } = yield* beneath(connection)
    const params = yield* SqlPlain.parametersOf(statement, "?")
    let decoders: ReadonlyArray<ReturnType<typeof MysqlValues.decoderOf>> = []
    let count = 0
    let hasRows = false
    const header = yield* wire.run(statement.sql, params, {
      fields: (fields) =>
        Effect.suspend(() => {
          hasRows = true
          decoders = fields.map(MysqlValues.decoderOf)
          return output.columns(fields.map((field) => ({ name: field.name, type: MysqlValues.typeName(field) })))
        }),
      rows: (rows) =>
        Effect.suspend(() => {
          count += rows.length
          return output.rows(rows.map((row) => decoders.map((decode, at) => decode(row[at]))))
        })
    })
    if (!hasRows) yield* output.columns([])
    return {
      command: MysqlStatement.commandOf(statement.sql),
      rowCount: hasRows ? count : Number(header?.affectedRows ?? 0)
    }
  })

/** `ER_WARNING_NOT_COMPLETE_ROLLBACK`: tables without transactions keep what was written. */
const transaction: SqlQueryDriver.Transaction = {
  begin: (connection) =>
    Effect.flatMap(beneath(connection), ({ wire }) => Effect.asVoid(wire.ask("start transaction"))),
  commit: (connection) => Effect.flatMap(beneath(connection), ({ wire }) => Effect.asVoid(wire.ask("commit"))),
  rollback: (connection) =>
    Effect.flatMap(beneath(connection), ({ wire }) =>
      Effect.map(
        // A KILL that came when the statement was over hits what comes next.
        Effect.retry(wire.ask("rollback"), { while: MysqlStatement.isInterrupted, times: 3 }),
        ({ header }) => (header?.warningStatus ?? 1) === 0
      )
    )
}

export const engine: SqlQueryDriver.Engine = {
  capabilities,
  transaction,
  prepare,
  run,
  cancel: (connection) => Effect.flatMap(beneath(connection), ({ cancel }) => cancel),
  isUndone: MysqlStatement.isUndone,
  failureOf: MysqlStatement.failureOf
}

/** Statements run on connections of the `ConnectionPool` in context, which is to be one over `MysqlConnectionSource`. */
export const layer: Layer.Layer<QueryDriver, never, ConnectionPool> = SqlQueryDriver.layerPool(engine)
