/**
 * The table of the service's users. A migration that was applied is never edited, the next change is another one.
 */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgMigrations from "../postgres/internal/PgMigrations.ts"

const users = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`
    create table holdfast.users (
      name text primary key,
      password_hash text not null,
      operator boolean not null,
      created_at timestamptz not null default now()
    )`
)

/** Instances of before go on: the columns have defaults. */
const debts = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) => sql`
    alter table holdfast.users add column owes text, add column removed boolean not null default false`
)

export const migrations = {
  of: "users",
  schema: "holdfast",
  table: "user_migrations",
  steps: { "1_users": users, "2_debts": debts }
}

/** Makes the table once, and the schema where it is not there, also when several instances start together. */
export const migrate = (url: Redacted.Redacted<string>) => PgMigrations.run({ url }, migrations)
