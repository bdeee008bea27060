/**
 * A leased connection as a layer.
 *
 * The lease lasts as long as the scope that the layer is built in: a request, a job, an `Effect.provide`. When it closes, a
 * running statement has been interrupted and acknowledged by the server, the connection is reset, and only then is it
 * free for the next borrower. A lease of work that belongs to a session ends with the session, see {@link lease}.
 *
 * **Gotchas**
 *
 * {@link layer} is fresh at its leaf, so that two requests never share a connection even when the app's own graph also
 * holds the layer. Layers that need the connection go *above* it, with `Layer.provide` or `Layer.provideMerge`: siblings
 * in one `Layer.mergeAll` or `Layer.provide([A, B])` close side by side, in no order.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { ConnectionError } from "./ConnectionError.ts"
import * as ConnectionOwner from "./internal/ConnectionOwner.ts"
import { ConnectionPool } from "./ConnectionPool.ts"

export class Connection extends Context.Service<
  Connection,
  {
    /** The server's name for the connection, such as a backend's process id. */
    readonly id: string
  }
>()("holdfast/connection/Connection") {}

/**
 * Leases a connection for the current scope, with an ordinary `SqlClient` that uses nothing else.
 *
 * **Details**
 *
 * Where the work belongs to a lifetime (`Lifetime.Current`), such as a request's session, the lease ends with it at the latest:
 * the borrower has a second to let go, then the connection is closed. Fails with `OwnerEnded` when that was over before the
 * connection could be had.
 */
export const lease: Effect.Effect<
  Context.Context<Connection | SqlClient.SqlClient>,
  ConnectionError,
  ConnectionPool | Scope.Scope
> = Effect.gen(function* () {
  const { id, sql } = yield* ConnectionOwner.tied((yield* ConnectionPool).lease())
  return Context.make(Connection, Connection.of({ id })).pipe(Context.add(SqlClient.SqlClient, yield* sql))
})

/** A connection of one's own: two builds of this layer never share one. */
export const layer: Layer.Layer<Connection | SqlClient.SqlClient, ConnectionError, ConnectionPool> = Layer.fresh(
  Layer.effectContext(lease)
)
