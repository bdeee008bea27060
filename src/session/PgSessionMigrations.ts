/**
 * The tables of `PgSessionStore`, and how a database comes to have them.
 *
 * They live as long as their schema; a migration that was applied is never edited, the next change is another one.
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
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"

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

/** Asking first spares a role the right to create schemas in a database where an operator made it. */
const ensureSchema = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql`select 1 from pg_namespace where nspname = ${schema}`.values
  if (found === undefined) yield* sql`create schema if not exists ${sql(schema)}`
})

/**
 * Brings a database's schema up to date, on a connection of its own.
 *
 * Instances that start together do it once: the `Migrator` locks its table, and those that lose the race for making the
 * schema find it made. Interrupting it closes the connection, which is also what ends a statement that a dead network
 * keeps from being answered: the client's transactions do not let go of their BEGIN.
 */
export const run = (options: PgClient.PgClientConfig, schema: string) =>
  Effect.gen(function* () {
    const client = yield* Layer.build(Layer.fresh(PgClient.layerFrom(PgClient.makeClient(options))))
    const work = Effect.andThen(
      Effect.retry(ensureSchema(schema), { times: 2 }),
      Migrator.make({})({
        loader: Migrator.fromRecord({ "1_sessions": sessions(schema) }),
        table: `${schema}.session_migrations`
      })
    )
    return yield* Fiber.join(yield* Effect.forkDetach(Effect.provide(work, client), { startImmediately: true }))
  }).pipe(Effect.scoped)
