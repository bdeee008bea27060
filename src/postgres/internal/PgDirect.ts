/**
 * The driver's own client and connection, for programs of this package that run only their own statements.
 *
 * A client lives as long as its layer, a connection as long as its scope. There are no leases and no reset: nothing here
 * may run SQL that somebody else wrote.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"

/** An `SqlClient` over a few connections of its own. */
export const layer = PgClient.layer

/** Opens one connection for the current scope. */
export const connect = PgConnection.make
