/**
 * A client and connections for programs of this package that run only their own statements.
 *
 * A client lives as long as its layer, a connection as long as its scope. There are no leases and no reset: nothing here
 * may run SQL that somebody else wrote.
 */
import type * as PgPool from "@effect/sql-pg/PgPool"
import * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type * as PgOutages from "./PgOutages.ts"
import * as PgSharedSqlClient from "./PgSharedSqlClient.ts"
import * as PgOpening from "./PgOpening.ts"
import * as PgTarget from "./PgTarget.ts"

/** How long a statement may take. All of them find a row by its key, or few rows. */
const limit = Duration.seconds(2)

/** An `SqlClient` over a few connections of its own, for short statements on a database of `users`, say. */
export const layer = (
  of: string,
  config: PgPool.Config & Pick<PgOutages.Use, "url">
): Layer.Layer<SqlClient.SqlClient, SqlError> =>
  Layer.effect(
    SqlClient.SqlClient,
    PgSharedSqlClient.make({ connectTimeout: limit, ...config, ...PgTarget.of(config.url).config }, limit, of)
  ).pipe(Layer.provide(Reactivity.layer))

/** Opens one connection for the current scope. */
export const connect = PgOpening.make
