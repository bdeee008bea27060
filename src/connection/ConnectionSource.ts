/**
 * What an adapter implements so that its connections can be pooled: open one, lend it, make it as good as new.
 *
 * A source lives as long as the pool that uses it and holds nothing itself; every connection lives in the scope that it
 * was opened in.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import type { ConnectionError } from "./ConnectionError.ts"

/** One open connection, lent to one borrower at a time. */
export interface OpenConnection {
  /** What an operator of the server knows it by, such as the process id of its backend. */
  readonly id: string
  /**
   * Gives the connection to one borrower until the scope closes. The services are an ordinary `SqlClient` and whatever
   * else the adapter's own drivers look for.
   */
  readonly lend: Effect.Effect<Context.Context<SqlClient.SqlClient>, ConnectionError, Scope.Scope>
  /** Undoes everything a borrower may have left behind. Called after the borrower let go. */
  readonly reset: Effect.Effect<void, ConnectionError>
  /** False once the connection broke, or a statement was cancelled without the server saying so. */
  readonly isUsable: () => boolean
}

/** Opens connections to one server as one role. */
export class ConnectionSource extends Context.Service<
  ConnectionSource,
  {
    /** Names the server and database in errors, logs and the ledger; holds no secret. */
    readonly name: string
    readonly open: Effect.Effect<OpenConnection, ConnectionError, Scope.Scope>
  }
>()("holdfast/connection/ConnectionSource") {}
