/**
 * How a database comes to have the tables of an adapter.
 *
 * They live as long as their schema; a migration that was applied is never edited, the next change is another one.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgOutages from "./PgOutages.ts"
import * as PgDriver from "./PgDriver.ts"
import * as PgOpening from "./PgOpening.ts"
import * as PgSqlClient from "./PgSqlClient.ts"
import * as PgTarget from "./PgTarget.ts"

/** What makes tables, and where it is noted what was made. */
export interface Migrations<E> {
  /** What the tables hold, such as `sessions`. */
  readonly of: string
  readonly schema: string
  /** In the schema; each adapter has its own. */
  readonly table: string
  /** By number and name, such as `1_sessions`. */
  readonly steps: Readonly<Record<string, Effect.Effect<void, E, SqlClient.SqlClient>>>
}

/** How the database is reached. */
export type Options = PgDriver.Config & Pick<PgOutages.Use, "url">

/** A migration has its time limit, and its connection closes with it. */
const unguarded: PgDriver.Guard = { kill: Effect.void, reason: () => undefined }

/** Asking first spares a role the right to create schemas in a database where an operator made it. */
const ensureSchema = Effect.fnUntraced(function* (schema: string) {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql`select 1 from pg_namespace where nspname = ${schema}`.values
  if (found === undefined) yield* sql`create schema if not exists ${sql(schema)}`
})

/** What a run would do, the first one first; changes nothing. `schema` is missing, or a step by its name. */
export const pending = <E>({ schema, steps, table }: Pick<Migrations<E>, "schema" | "steps" | "table">) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [found] = yield* sql`select to_regclass(${`${schema}.${table}`}) is not null`.values
    const applied =
      found?.[0] === true
        ? yield* sql`select coalesce(max(migration_id), 0) from ${sql(`${schema}.${table}`)}`.values
        : []
    const last = Number(applied[0]?.[0] ?? 0)
    return Object.keys(steps).filter((step) => Number.parseInt(step, 10) > last)
  })

/**
 * Brings a database's schema up to date, on a connection of its own.
 *
 * Instances that start together do it once: the `Migrator` locks its table, and those that lose the race for making the
 * schema find it made. Interrupting it closes the connection, which is also what ends a statement that a dead network
 * keeps from being answered. Why it cannot be done is told to the log of
 * outages.
 */
export const run = <E>(options: Options, { of, schema, steps, table }: Migrations<E>) =>
  Effect.gen(function* () {
    const connection = yield* PgOpening.make({ ...options, ...PgTarget.of(options.url).config })
    const client = yield* PgSqlClient.make(connection, unguarded, PgDriver.watch(connection))
    const work = Effect.andThen(
      Effect.retry(ensureSchema(schema), { times: 2 }),
      Migrator.make({})({ loader: Migrator.fromRecord(steps), table: `${schema}.${table}` })
    )
    return yield* Fiber.join(
      yield* Effect.forkDetach(Effect.provideService(work, SqlClient.SqlClient, client), { startImmediately: true })
    )
  }).pipe(
    Effect.scoped,
    Effect.provide(Reactivity.layer),
    PgOutages.watched({ of, url: options.url, source: `${of}: migrations` })
  )
