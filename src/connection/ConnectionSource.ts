/**
 * What an adapter implements so that its connections can be pooled: open one, lend it, check it, make it as good as new,
 * and get rid of it also when nobody answers.
 *
 * A source lives as long as the pool that uses it; every connection lives in the scope that it was opened in.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import type { ConnectionError } from "./ConnectionError.ts"

/**
 * `retired` must not be lent again but can be closed in order; `dead` is gone on our side, and the server may not know:
 * what it ran last may still run.
 */
export type State = "usable" | "retired" | "dead"

/** What a borrower gets. */
export interface Lent {
  /** An ordinary client that uses this connection and nothing else. Made when asked for, once for a lease. */
  readonly sql: Effect.Effect<SqlClient.SqlClient>
  /** What the adapter's own drivers look for. */
  readonly services: Context.Context<never>
}

/** One open connection, lent to one borrower at a time. */
export interface OpenConnection {
  /** What an operator of the server knows it by, such as the process id of its backend. */
  readonly id: string
  /**
   * Gives the connection to one borrower until the scope closes. `kill` is the pool's, for a statement whose cancel nobody
   * confirms: it closes the connection and has the server's side watched until it is gone.
   */
  readonly lend: (kill: Effect.Effect<void>) => Effect.Effect<Lent, ConnectionError, Scope.Scope>
  /** Asks whether the other side is alive. */
  readonly check: Effect.Effect<void, ConnectionError>
  /** Undoes everything a borrower may have left behind. Called after the borrower let go. */
  readonly reset: Effect.Effect<void, ConnectionError>
  readonly state: () => State
  /**
   * Sees to it that the server has no such connection any more, and returns when it is so: watches for `grace`, then ends
   * it by force. Never ends anybody else's. Retries for as long as the server cannot be asked.
   */
  readonly expel: (grace: Duration.Duration) => Effect.Effect<void>
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
