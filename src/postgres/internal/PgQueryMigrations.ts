/**
 * The tables of `PgQueryJournal` and `PgQueryResults`, which live as long as their schema.
 *
 * **Details**
 *
 * What may hold any text (statements, parameters, errors, notices, rows) is JSON in a text column, not `jsonb`: it comes back as it
 * was, to the character. `queries.seq` is the place of a query among its principal's, made of the time: a counter of all queries
 * would tell everybody how many others submit. `queries.kept` counts the bytes of a result that lie in `query_rows`. A chunk of the lines of rows is stored as it is,
 * not compressed, so that writing it costs little processor time. The rows of one table are updated three times in their life at
 * most, and have room for that on their page (`fillfactor`).
 *
 * `query_rows.place` tells where a chunk begins: twice the number of the row, and one more within the row.
 *
 * A migration adds, and takes nothing away: an instance of an older version beside a newer one goes on.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgMigrations from "./PgMigrations.ts"

const tables = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  const statements = [
    `create table ${schema}.query_instances (
      id uuid primary key,
      name text not null,
      started_at timestamptz not null default clock_timestamp(),
      beat_at timestamptz not null,
      lease_until timestamptz not null,
      listen_pid integer,
      listen_start timestamptz,
      ended_at timestamptz,
      cleaned_at timestamptz
    )`,
    `create index query_instances_there on ${schema}.query_instances (lease_until) where cleaned_at is null`,
    `create table ${schema}.query_backends (
      instance uuid not null references ${schema}.query_instances on delete cascade,
      engine text not null,
      handle text not null,
      primary key (instance, engine, handle)
    )`,
    `create table ${schema}.queries (
      id text primary key,
      seq bigint not null,
      principal text not null,
      session text,
      engine text not null,
      instance text not null,
      owner uuid not null,
      attempt integer not null default 1,
      sql text not null,
      work text,
      state text not null,
      transitions text not null,
      rerun boolean not null,
      cancel_at timestamptz,
      deadline_ms float8 not null,
      retention_ms float8 not null,
      error text,
      row_count float8,
      bytes float8,
      notices text,
      notices_dropped integer not null default 0,
      columns text,
      inline text,
      kept bigint not null default 0,
      size integer not null,
      expires_at timestamptz
    ) with (fillfactor = 70)`,
    `create unique index queries_principal on ${schema}.queries (principal, seq)`,
    `create index queries_owner on ${schema}.queries (owner) where expires_at is null`,
    `create index queries_waiting on ${schema}.queries (principal) where state = 'Queued'`,
    `create index queries_session on ${schema}.queries (session) where expires_at is null`,
    `create index queries_expiry on ${schema}.queries (expires_at) where expires_at is not null`,
    `create index queries_kept on ${schema}.queries (principal, kept) where kept > 0`,
    `create table ${schema}.query_keys (
      principal text not null,
      key text not null,
      digest text not null,
      query text not null,
      until timestamptz not null,
      primary key (principal, key)
    )`,
    `create index query_keys_until on ${schema}.query_keys (until)`,
    `create table ${schema}.query_rows (
      query text not null,
      attempt integer not null,
      chunk integer not null,
      place bigint not null,
      data bytea not null,
      primary key (query, attempt, chunk)
    )`,
    `create index query_rows_place on ${schema}.query_rows (query, attempt, place)`,
    `alter table ${schema}.query_rows alter column data set storage external`
  ]
  for (const statement of statements) yield* sql.unsafe(statement)
})

/** What one instance asks all others, and what they answer: nothing that has to outlive the question. */
const questions = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  const statements = [
    `create unlogged table ${schema}.query_questions (
      id text primary key,
      question text not null,
      asked_at timestamptz not null
    )`,
    `create unlogged table ${schema}.query_answers (
      question text not null references ${schema}.query_questions on delete cascade,
      instance uuid not null,
      answer text not null,
      primary key (question, instance)
    )`
  ]
  for (const statement of statements) yield* sql.unsafe(statement)
})

/** Whether an instance notes what it has at each engine where that can be ended from elsewhere. Those of older versions did not. */
const notes = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  yield* sql.unsafe(`alter table ${schema}.query_instances add column notes boolean not null default false`)
})

export const migrations = (schema: string) => ({
  of: "queries",
  schema,
  table: "query_migrations",
  steps: { "1_queries": tables(schema), "2_questions": questions(schema), "3_notes": notes(schema) }
})

/** Brings the tables up to date, on a connection of its own. */
export const run = (options: PgMigrations.Options, schema: string) => PgMigrations.run(options, migrations(schema))
