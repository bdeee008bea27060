/**
 * Runs queries on connections leased from a `ConnectionPool` over a SQLite file, see `SqlQueryDriver`.
 *
 * The lease lives as long as the scope it was opened in. A statement is cancelled by the end of its process; what it had
 * begun is undone by SQLite's journal, so a query without an outcome has written nothing, also `CREATE TABLE`.
 *
 * **Details**
 *
 * A statement reaches the one file: `ATTACH`, `VACUUM`, extensions and pragmas that change something are refused. A writer
 * waits up to 5 seconds for another writer.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, SqlError } from "effect/sql/SqlError"
import type { SQLInputValue } from "node:sqlite"
import type { ConnectionPool } from "../connection/ConnectionPool.ts"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import type { QueryDriver } from "../query/QueryDriver.ts"
import * as SqlErrors from "../sql/internal/SqlErrors.ts"
import * as SqlPlain from "../sql/internal/SqlPlain.ts"
import * as SqlQueryDriver from "../sql/SqlQueryDriver.ts"
import * as SqliteSqlClient from "./internal/SqliteSqlClient.ts"
import { SqliteFailure } from "./internal/SqliteWire.ts"

export const capabilities: QueryCapabilities = {
  cancel: "connection",
  streams: true,
  undoes: true,
  settings: false,
  deadline: true,
  columnTypes: true,
  parameterTypes: false,
  notices: false,
  roles: false,
  placeholder: "?"
}

const foreign = new SqlError({
  reason: new ConnectionError({
    cause: new Error("The pool is not one of SQLite connections. Use SqliteConnectionSource."),
    message: "The pool is not one of SQLite connections",
    operation: "execute"
  })
})

const wireOf = (connection: Connection) =>
  Effect.suspend(() => {
    const found = SqliteSqlClient.wireOf(connection)
    return found === undefined ? Effect.fail(foreign) : Effect.succeed(found)
  })

/** How much later than the deadline the process ends by itself, because we are gone. */
const graceMillis = 1000

/** SQLite has no booleans. */
const valueOf = (value: unknown) => (typeof value === "boolean" ? (value ? 1n : 0n) : value) as SQLInputValue

const commandOf = (sql: string) =>
  /^(?:\s|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/)*([a-z]+)/i.exec(sql)?.[1]?.toUpperCase() ?? ""

const run: SqlQueryDriver.Engine["run"] = (connection, statement, output) =>
  Effect.gen(function* () {
    const wire = yield* wireOf(connection)
    const params = yield* SqlPlain.parametersOf(statement, "?")
    let hasColumns = false
    const count = yield* wire.tell(
      { do: "run", sql: statement.sql, params: params.map(valueOf) },
      {
        columns: (columns) =>
          Effect.suspend(() => {
            hasColumns = true
            return output.columns(columns)
          }),
        rows: output.rows
      }
    )
    if (!hasColumns) yield* output.columns([])
    return { command: commandOf(statement.sql), rowCount: count }
  })

/** It begins with its deadline, and what a process had begun that is gone is undone. */
const transaction: SqlQueryDriver.Transaction = {
  begin: () => Effect.void,
  commit: (connection) => Effect.flatMap(wireOf(connection), (wire) => Effect.asVoid(wire.tell({ do: "commit" }))),
  rollback: (connection) =>
    Effect.flatMap(wireOf(connection), (wire) =>
      Effect.matchEffect(wire.tell({ do: "rollback" }), {
        onFailure: () => Effect.as(wire.kill, true),
        onSuccess: () => Effect.succeed(true)
      })
    )
}

const prepare: SqlQueryDriver.Engine["prepare"] = (connection, { settings = {} }, { deadline }) =>
  Object.keys(settings).length > 0
    ? Effect.fail(SqlErrors.failed("SQLite has no settings for a statement of its own. Leave them out."))
    : Effect.flatMap(wireOf(connection), (wire) => {
        const millis = deadline === undefined ? undefined : Duration.toMillis(deadline) + graceMillis
        return Effect.asVoid(wire.tell({ do: "begin", millis }))
      })

/** `SQLITE_AUTH`. */
const denied = 23

const failureOf = ({ reason }: SqlError): SqlErrors.Failure => {
  const { cause } = reason
  const code = cause instanceof SqliteFailure ? cause.errcode : undefined
  return {
    problem:
      code === denied
        ? "The statement is not allowed. It may use its one file only, and no ATTACH, VACUUM, BEGIN, COMMIT or pragma that changes something."
        : cause instanceof Error
          ? cause.message
          : reason.message,
    ...(code !== undefined && { code: `SQLITE_${code & 0xff}` }),
    isLost: reason._tag === "ConnectionError"
  }
}

export const engine: SqlQueryDriver.Engine = {
  capabilities,
  transaction,
  prepare,
  run,
  cancel: (connection) => Effect.flatMap(wireOf(connection), ({ kill }) => kill),
  failureOf
}

/** Statements run on connections of the `ConnectionPool` in context, which is to be one over `SqliteConnectionSource`. */
export const layer: Layer.Layer<QueryDriver, never, ConnectionPool> = SqlQueryDriver.layerPool(engine)
