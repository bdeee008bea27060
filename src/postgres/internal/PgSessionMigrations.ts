/**
 * The tables of `PgSessionStore`, which live as long as their schema.
 *
 * **Details**
 *
 * A session's activity is written often and its columns of times are in no index but that of its end, so that the write
 * stays on the row's page (a heap-only update) and the indexes are left alone; `fillfactor` keeps room there for it. The
 * indexes serve the token, the live sessions of a principal and pruning. `principals` is what creating and revoking a
 * principal's sessions lock, because sessions that do not exist yet cannot be; a row is there while somebody may need it.
 *
 * A token names the one it renews (`predecessor`) until it is first presented, and the one that renewed it (`successor`).
 *
 * Data and device are `json`, not `jsonb`: they come back as they were written, to the character.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgMigrations from "./PgMigrations.ts"

const sessions = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  const table = (name: string) => sql(`${schema}.${name}`)
  yield* sql`
    create table ${table("sessions")} (
      id text primary key,
      principal text,
      data json not null,
      data_version integer not null,
      version integer not null,
      device json not null,
      created_at timestamptz not null,
      last_seen_at timestamptz not null,
      idle_timeout interval not null,
      renew_every interval not null,
      expires_at timestamptz not null,
      ended_at timestamptz,
      end_reason text,
      check ((ended_at is null) = (end_reason is null))
    ) with (fillfactor = 70)`
  yield* sql`create index sessions_principal on ${table("sessions")} (principal) where ended_at is null`
  yield* sql`create index sessions_prune on ${table("sessions")} ((coalesce(ended_at, expires_at)))`
  yield* sql`
    create table ${table("session_tokens")} (
      hash bytea primary key,
      session text not null references ${table("sessions")} on delete cascade,
      issued_at timestamptz not null,
      nonce text not null,
      predecessor bytea,
      successor bytea,
      valid_until timestamptz
    )`
  yield* sql`create index session_tokens_session on ${table("session_tokens")} (session)`
  yield* sql`create table ${table("principals")} (principal text primary key, revoked_at timestamptz)`
  yield* sql`create index principals_prune on ${table("principals")} (revoked_at) where revoked_at is not null`
})

/** An older instance beside a newer one goes on: the column has a default, and no statement of its names all columns. */
const actors = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`alter table ${sql(`${schema}.sessions`)} add column actor text`
})

export const migrations = (schema: string) => ({
  of: "sessions",
  schema,
  table: "session_migrations",
  steps: { "1_sessions": sessions(schema), "2_actors": actors(schema) }
})

/** Brings the tables up to date, on a connection of its own. */
export const run = (options: PgMigrations.Options, schema: string) => PgMigrations.run(options, migrations(schema))
