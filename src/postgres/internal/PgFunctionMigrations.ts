/**
 * The table of `PgFunctionStore`, which lives as long as its schema.
 *
 * **Details**
 *
 * Script and context are text, not `jsonb`: they come back as they were sent, to the character. `due_at` is when a function is gone:
 * its idle timeout and the touch interval after its last written use, or its absolute timeout. The indexes serve a principal's list and
 * room, and pruning.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgMigrations from "./PgMigrations.ts"

const functions = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  const table = sql(`${schema}.functions`)
  yield* sql`
    create table ${table} (
      id text primary key,
      principal text not null,
      language text not null,
      title text,
      script text not null,
      context text not null,
      bytes integer not null,
      created_at timestamptz not null,
      used_at timestamptz not null,
      idle_timeout interval not null,
      until timestamptz not null,
      due_at timestamptz not null
    )`
  yield* sql`create index functions_principal on ${table} (principal, created_at, id) include (bytes, due_at)`
  yield* sql`create index functions_due on ${table} (due_at)`
})

export const migrations = (schema: string) => ({
  of: "functions",
  schema,
  table: "function_migrations",
  steps: { "1_functions": functions(schema) }
})

/** Brings the table up to date, on a connection of its own. */
export const run = (options: PgMigrations.Options, schema: string) => PgMigrations.run(options, migrations(schema))
