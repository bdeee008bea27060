/**
 * Databases for tests on the one server of the test run.
 *
 * A database lives as long as the scope it was made in, and is dropped at its end.
 */
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
