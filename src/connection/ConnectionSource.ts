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
 * what it ran last may still run. The pool looks at all that are idle at least once a second.
 */
export type State = "usable" | "retired" | "dead"

/** What a borrower gets. */
export interface Lent {
  /** An ordinary client that uses this connection and nothing else. Made when asked for, once for a lease. */
  readonly sql: Effect.Effect<SqlClient.SqlClient>
  /** What the adapter's own drivers look for. */
  readonly services: Context.Context<never>
}

/** How the pool takes a connection back from a borrower that still uses it. */
export interface Recall {
  /**
   * Has what the connection runs ended at the server and closes it, for a statement whose cancel nobody confirms. The server's
   * last word on the statement is heard where it can be.
   */
  readonly kill: Effect.Effect<void>
  /** Why the pool did so by itself, if it did: what the borrower's statements fail with. */
  readonly reason: () => ConnectionError | undefined
}

/** One open connection, lent to one borrower at a time. */
export interface OpenConnection {
  /** What an operator of the server knows it by, such as the process id of its backend. */
  readonly id: string
  /** Gives the connection to one borrower until the scope closes. */
  readonly lend: (recall: Recall) => Effect.Effect<Lent, ConnectionError, Scope.Scope>
  /** Asks whether the other side is alive. */
  readonly check: Effect.Effect<void, ConnectionError>
  /** Undoes everything a borrower may have left behind. Called after the borrower let go. */
  readonly reset: Effect.Effect<void, ConnectionError>
  readonly state: () => State
  /** When the server was last heard of, on this connection or about it. In milliseconds of the steady clock. */
  readonly heardAt: () => number
  /**
   * Sees to it that the server has no such connection any more, and returns when it is so: watches for `grace`, then ends
   * it by force. Never ends anybody else's. Retries for as long as the server cannot be asked. Where the connection is still
   * open, what the server had to say on it was heard when it returns.
   */
  readonly expel: (grace: Duration.Duration) => Effect.Effect<void>
}

/**
 * As whom the pool wants a connection to be opened, for sources that can open them as more than one role; `undefined`: as the
 * source's own. The pool sets it around `open`, and lends the connection only to borrowers that want the same.
 */
export const Role = Context.Reference<string | undefined>("holdfast/connection/ConnectionSource/Role", {
  defaultValue: () => undefined
})

/** Opens connections to one server. */
export class ConnectionSource extends Context.Service<
  ConnectionSource,
  {
    /** Names the server and database in errors, logs and the ledger; holds no secret. */
    readonly name: string
    /** Fails with `NoRoom` where only the number of connections is the matter. */
    readonly open: Effect.Effect<OpenConnection, ConnectionError, Scope.Scope>
  }
>()("holdfast/connection/ConnectionSource") {}
