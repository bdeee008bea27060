/**
 * Everything a program needs of PostgreSQL: a `ConnectionPool` for work that needs a connection to itself, and a shared
 * `SqlClient` for short statements.
 *
 * Both live as long as the layer and open connections when they are first needed.
 *
 * **When to use**
 *
 * The shared client pipelines the statements of many fibers on a few connections: for single statements that finish at once
 * and leave nothing behind. It costs no lease and no reset, and a statement on it cannot be cancelled alone. Transactions, settings, cursors, listeners and long statements go on a connection of their own, with
 * `Connection.layer`, whose `SqlClient` takes the place of the shared one for whatever is provided with it.
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import { ConnectionError, InvalidConfig, Unavailable } from "../connection/ConnectionError.ts"
import * as ConnectionPool from "../connection/ConnectionPool.ts"
import * as PgConnectionSource from "./PgConnectionSource.ts"
import * as PgSharedSqlClient from "./internal/PgSharedSqlClient.ts"

/** The options of the pool and of its connections, and the size of the shared client. */
export interface Options extends ConnectionPool.Options, PgConnectionSource.Options {
  /** Connections of the shared client, besides those of the pool. Default: 2. */
  readonly sharedConnections?: number | undefined
}

const shared = (options: Options) =>
  Effect.gen(function* () {
    const config = yield* PgConnectionSource.configOf(options)
    const maxConnections = options.sharedConnections ?? 2
    if (!Number.isSafeInteger(maxConnections) || maxConnections < 1) {
      const problem = `must be a whole number of at least 1, not ${maxConnections}`
      return yield* new ConnectionError({ reason: new InvalidConfig({ field: "sharedConnections", problem }) })
    }
    return yield* PgSharedSqlClient.make({ ...config, maxConnections }, PgConnectionSource.answerLimit(config))
  }).pipe(
    Effect.catchTag("SqlError", (cause) =>
      Effect.fail(new ConnectionError({ reason: new Unavailable({ source: "PostgreSQL", cause }) }))
    )
  )

/** Fails with `InvalidConfig` naming the field that makes no sense; not when the server is away. */
export const layer = (
  options: Options
): Layer.Layer<ConnectionPool.ConnectionPool | SqlClient.SqlClient, ConnectionError> =>
  Layer.mergeAll(
    ConnectionPool.layer(options).pipe(Layer.provide(PgConnectionSource.layer(options))),
    Layer.effect(SqlClient.SqlClient, shared(options)).pipe(Layer.provide(Reactivity.layer))
  )

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("DATABASE_URL") })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<ConnectionPool.ConnectionPool | SqlClient.SqlClient, ConnectionError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
