/**
 * Databases for tests on the one server of the test run.
 *
 * A database lives as long as the scope it was made in; at its end it is dropped, whoever is still connected.
 */
import { randomBytes } from "node:crypto"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import { inject } from "vitest"

/** The superuser's URL of the shared server, for its database `postgres`. */
export const superuserUrl = Effect.sync(() => Redacted.make(inject("postgresUrl")))

/** The same user and server, another database. */
export const urlOf = (database: string): Redacted.Redacted => {
  const url = new URL(inject("postgresUrl"))
  url.pathname = `/${encodeURIComponent(database)}`
  return Redacted.make(url.href)
}

const administer = (statement: string) =>
  superuserUrl.pipe(
    Effect.flatMap((url) => PgConnection.make({ url, applicationName: "holdfast-test-admin" })),
    Effect.flatMap((connection) => connection.query(statement)),
    Effect.scoped
  )

/** A new, empty database that belongs to the superuser. */
export const freshDatabase: Effect.Effect<
  { readonly url: Redacted.Redacted; readonly name: string },
  SqlError,
  Scope.Scope
> = Effect.acquireRelease(
  Effect.suspend(() => {
    const name = `test_${randomBytes(8).toString("hex")}`
    return Effect.as(administer(`CREATE DATABASE ${name}`), { name, url: urlOf(name) })
  }),
  ({ name }) => Effect.orDie(administer(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`))
)
