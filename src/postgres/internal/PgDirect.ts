/**
 * A client and connections for programs of this package that run only their own statements.
 *
 * A client lives as long as its layer, a connection as long as its scope. There are no leases and no reset: nothing here
 * may run SQL that somebody else wrote.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import type * as PgPool from "@effect/sql-pg/PgPool"
import * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgSharedSqlClient from "./PgSharedSqlClient.ts"

/** How long a statement may go without an answer. */
const answerLimit = Duration.minutes(1)

/** An `SqlClient` over a few connections of its own, which notices those that died without a word. */
export const layer = (config: PgPool.Config) =>
  Layer.effect(SqlClient.SqlClient, PgSharedSqlClient.make(config, answerLimit)).pipe(Layer.provide(Reactivity.layer))

/** Opens one connection for the current scope. */
export const connect = PgConnection.make
