/**
 * The table of the service's users. A migration that was applied is never edited, the next change is another one.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"

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

/** Makes the table once, also when several instances start together. The schema must be there. */
export const migrate = (url: Redacted.Redacted<string>) =>
  Migrator.make({})({
    loader: Migrator.fromRecord({ "1_users": users }),
    table: "holdfast.user_migrations"
  }).pipe(Effect.provide(PgClient.layerFrom(PgClient.makeClient({ url })).pipe(Layer.fresh)))
