/**
 * Runs queries on any Effect `SqlClient`: MySQL, SQLite and others.
 *
 * A connection is reserved for a query, and lives as long as the scope that it was opened in. Each statement is a transaction
 * of its own. It is committed after its last row was taken, and undone where anything ends it before; so a query that has
 * no outcome has written nothing, where the engine has transactions.
 *
 * **When to use**
 *
 * {@link layer} where the app has a `SqlClient`, {@link layerPool} over a `ConnectionPool`, which lends connections fairly and gets
 * rid of one whose server does not answer. What an engine can do is declared in an {@link Engine}; `plain` is one that expects
 * nothing of the client.
 *
 * **Details**
 *
 * When a query is cancelled, rows are not taken any more, and the engine's `cancel` ends the statement from elsewhere. Without it
 * the statement runs to its end, which the query waits for. Once the commit was sent, the query has succeeded.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import type { SqlError } from "effect/sql/SqlError"
import { ConnectionPool } from "../connection/ConnectionPool.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import {
  type Column,
  type Execution,
  Principal,
  type QueryConnection,
  QueryDriver,
  type Row,
  type Statement,
  type Summary
} from "../query/QueryDriver.ts"
import type { QueryError } from "../query/QueryError.ts"
import * as SqlErrors from "./internal/SqlErrors.ts"
import * as SqlRunning from "./internal/SqlRunning.ts"
import * as SqlPlain from "./internal/SqlPlain.ts"

/** Where an engine puts what a statement returns. It waits until that is taken, or until nobody wants it any more. */
export interface Output {
  /** Called once, before the first rows, also when there are none. */
  readonly columns: (columns: ReadonlyArray<Column>) => Effect.Effect<void>
  readonly rows: (rows: ReadonlyArray<Row>) => Effect.Effect<void>
}

/** How statements become transactions. */
export interface Transaction {
  readonly begin: (connection: Connection) => Effect.Effect<void, SqlError>
  readonly commit: (connection: Connection) => Effect.Effect<void, SqlError>
  /** Says whether everything was undone. A failure means that nobody knows. */
  readonly rollback: (connection: Connection) => Effect.Effect<boolean, SqlError>
}

/** What the driver is told about an engine. */
export interface Engine {
  readonly capabilities: QueryCapabilities
  /** Default: `BEGIN`, `COMMIT` and `ROLLBACK`. `null` is for an engine without transactions: what was written stays. */
  readonly transaction?: Transaction | null | undefined
  /**
   * Runs a statement, and is over when the server is done with it. Must not be interrupted to be ended; see `cancel`. Default:
   * `executeStream`, or `execute` where the client does not stream. Columns are then the names in the first row.
   */
  readonly run?: (
    connection: Connection,
    statement: Statement,
    output: Output
  ) => Effect.Effect<Summary, SqlError | QueryError>
  /** Makes what `run` runs on this connection end soon. Default: it runs to its end. */
  readonly cancel?: ((connection: Connection) => Effect.Effect<void, SqlError>) | undefined
  /** Applies the statement's settings and the deadline before it begins. Default: a statement with settings is refused. */
  readonly prepare?:
    | ((
        connection: Connection,
        statement: Statement,
        execution: Pick<Execution, "deadline" | "id">
      ) => Effect.Effect<void, SqlError | QueryError>)
    | undefined
  /** Whether a rollback undoes a statement, by its text. Default: it does, where there are transactions. */
  readonly isUndone?: ((sql: string) => boolean) | undefined
  /** What the server said, for who wrote the statement. Default: the message of the error's cause. */
  readonly failureOf?: ((error: SqlError) => SqlErrors.Failure) | undefined
}

/** What a client can be relied on for, without knowing it: nothing but to run a statement to its end. */
export const plain: Engine = {
  capabilities: {
    cancel: "none",
    streams: false,
    undoes: true,
    settings: false,
    deadline: false,
    columnTypes: false,
    parameterTypes: false,
    notices: false,
    roles: false,
    placeholder: "?"
  }
}

const control = (sql: string) => (connection: Connection) =>
  Effect.asVoid(connection.executeUnprepared(sql, [], undefined))

/** `BEGIN`, `COMMIT`, `ROLLBACK`. */
export const transaction: Transaction = {
  begin: control("BEGIN"),
  commit: control("COMMIT"),
  rollback: (connection) => Effect.as(control("ROLLBACK")(connection), true)
}

const none: Transaction = {
  begin: () => Effect.void,
  commit: () => Effect.void,
  rollback: () => Effect.succeed(false)
}

/** A connection that a query has to itself. */
interface Held {
  readonly id: string
  readonly connection: Connection
  /** The last resort, where there is one. */
  readonly kill: Effect.Effect<void> | undefined
  /** Why the connection was taken away, if it was. */
  readonly reason: () => QueryError | undefined
  /** Has it closed instead of used again. */
  readonly retire: Effect.Effect<void>
}

const connectionOf = (engine: Engine, { connection, id, kill, reason, retire }: Held): QueryConnection => {
  const means: SqlRunning.Means = {
    connection,
    transaction: engine.transaction === undefined ? transaction : (engine.transaction ?? none),
    cancel: engine.cancel?.(connection),
    kill,
    reason,
    retire,
    failureOf: engine.failureOf ?? SqlErrors.failureOf,
    isUndone: engine.transaction === null ? () => false : (engine.isUndone ?? (() => true))
  }
  const run =
    engine.run ??
    (engine.capabilities.streams
      ? SqlPlain.streamed(engine.capabilities.placeholder)
      : SqlPlain.whole(engine.capabilities.placeholder))
  const prepare =
    engine.prepare ??
    ((_: Connection, { settings = {} }: Statement) =>
      Object.keys(settings).length === 0 ? Effect.void : Effect.fail(SqlErrors.failed(noSettings)))
  return {
    id,
    execute: (statement, sink, execution) =>
      Effect.suspend(() => {
        const problem = unsendable(statement)
        if (problem !== undefined) return Effect.fail(SqlErrors.failed(problem))
        return SqlRunning.execute(
          means,
          {
            sql: statement.sql,
            prepare: prepare(connection, statement, execution),
            run: (output) => run(connection, statement, output)
          },
          sink,
          execution
        )
      })
  }
}

const noSettings = "The engine has no settings for a statement of its own. Leave them out."

/** What would not arrive as it is. */
const unsendable = ({ params, sql }: Statement): string | undefined => {
  if (!sql.isWellFormed() || sql.includes("\0")) {
    return "The statement holds a zero character or half of a surrogate pair. Remove it."
  }
  const at = params.findIndex((param) => typeof param === "string" && !param.isWellFormed())
  return at === -1 ? undefined : `The parameter ${at + 1} holds half of a surrogate pair. Remove it.`
}

let reserved = 0

/** Makes the driver over the `SqlClient` in context. */
export const make = Effect.fnUntraced(function* (engine: Engine = plain) {
  const sql = yield* SqlClient.SqlClient
  const open = Ledger.hold(
    ({ id }: QueryConnection) => ({ kind: "connection", id, releaseLimit: "none" }),
    Effect.suspend(() => {
      const scope = Scope.makeUnsafe()
      const id = `${sql.driver} ${++reserved}`
      return sql.reserve.pipe(
        Scope.provide(scope),
        Effect.mapBoth({
          onFailure: () => SqlErrors.unavailable("The engine gives no connection at the moment. Try again later."),
          onSuccess: (connection) => ({
            ...connectionOf(engine, { id, connection, kill: undefined, reason: () => undefined, retire: Effect.void }),
            scope
          })
        }),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
    }),
    ({ scope }: QueryConnection & { readonly scope: Scope.Closeable }, exit) => Scope.close(scope, exit)
  )
  return QueryDriver.of({ open, capabilities: engine.capabilities })
})

/** Makes the driver over the `ConnectionPool` in context, which is fair between principals. */
export const makePool = Effect.fnUntraced(function* (engine: Engine) {
  const pool = yield* ConnectionPool
  const open = Effect.gen(function* () {
    const key = yield* Principal
    const lease = yield* Effect.mapError(pool.lease({ key }), SqlErrors.fromConnectionError)
    const client = yield* lease.sql
    const connection = yield* Effect.mapError(client.reserve, () =>
      SqlErrors.unavailable("The connection was lost before the statement was sent. Submit it again.")
    )
    return connectionOf(engine, {
      id: lease.id,
      connection,
      kill: lease.kill,
      reason: () => {
        const reason = lease.reason()
        return reason === undefined ? undefined : SqlErrors.fromConnectionError(reason)
      },
      retire: lease.retire
    })
  })
  return QueryDriver.of({ open, capabilities: engine.capabilities })
})

/** Statements run on connections that the `SqlClient` in context reserves. */
export const layer = (engine?: Engine): Layer.Layer<QueryDriver, never, SqlClient.SqlClient> =>
  Layer.effect(QueryDriver, make(engine))

/** Statements run on connections of the `ConnectionPool` in context. */
export const layerPool = (engine: Engine): Layer.Layer<QueryDriver, never, ConnectionPool> =>
  Layer.effect(QueryDriver, makePool(engine))
