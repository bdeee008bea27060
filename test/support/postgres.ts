/**
 * Databases for tests on the one server of the test run.
 *
 * A database lives as long as the scope it was made in, and is dropped at its end.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { inject } from "vitest"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as TestSql from "../../src/testing/TestSql.ts"

/** The superuser's URL of the shared server, for its database `postgres`. */
export const superuserUrl = Effect.sync(() => Redacted.make(inject("postgresUrl")))

/** The same user and server, another database. */
export const urlOf = (database: string): Redacted.Redacted => {
  const url = new URL(inject("postgresUrl"))
  url.pathname = `/${encodeURIComponent(database)}`
  return Redacted.make(url.href)
}

/** What the tests themselves hold, which is none of what they test. */
const ledger = Ledger.makeUnsafe()

/** A new, empty database that belongs to the superuser. A test that leaves a connection to it open fails. */
export const freshDatabase = superuserUrl.pipe(
  Effect.flatMap(TestSql.makeEmpty),
  Effect.provideService(Ledger.Ledger, ledger)
)

/** Statements of a database that call `wait` stand still in the server until the gate is opened, or the scope closes. */
export const gate = Effect.fnUntraced(function* (database: string) {
  const connection = yield* PgConnection.make({ url: urlOf(database) })
  yield* connection.query("select pg_advisory_lock(1)")
  return { wait: "pg_advisory_xact_lock_shared(1)", open: connection.query("select pg_advisory_unlock(1)") }
})
