/**
 * The roles and databases of the embedded server: Holdfast's own, and one for users' SQL that reaches nothing else.
 *
 * They live as long as the data directory; {@link setUp} runs at every start and can run any number of times. It puts
 * back what users' SQL can change about its own role: password and settings.
 *
 * **Details**
 *
 * The database `holdfast` belongs to the role `holdfast`; `workspace` belongs to the superuser, so that users' SQL can
 * neither drop it nor leave settings on it. No statement here looks up a name that
 * users' SQL could have put in the way: the search path is `pg_catalog`.
 */
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { EmbeddedPostgresError, SetupFailed } from "./EmbeddedPostgresError.ts"
import type { Secrets } from "./EmbeddedSecrets.ts"

/** The role and the database of Holdfast's own tables. */
export const owner = "holdfast"

/** The role and the database of users' SQL. */
export const workspace = "workspace"

/** The role that sets everything up. */
export const superuser = "postgres"

/** Where the server is. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** The URL of a role's database. It leaves nothing for the environment to say that would keep anybody out. */
export const urlOf = (address: Address, role: string, password: Redacted.Redacted, database = role) =>
  Redacted.make(
    `postgres://${role}:${encodeURIComponent(Redacted.value(password))}@${address.host}:${address.port}/${database}?sslmode=disable`
  )

const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`
const literal = (value: string) => `'${value.replaceAll("'", "''")}'`

const Names = Schema.Array(Schema.Struct({ name: Schema.String }))

/** Brings roles, databases and rights to what they should be. */
export const setUp = Effect.fn("EmbeddedRoles.setUp")(
  function* (address: Address, secrets: Secrets, _directory: string) {
    const connect = (database: string) =>
      PgDirect.connect({
        url: urlOf(address, superuser, secrets.superuser, database),
        applicationName: "holdfast-setup",
        startupParameters: { search_path: "pg_catalog" }
      })
    const server = yield* connect(superuser)
    const names = (sql: string, ...params: ReadonlyArray<unknown>) =>
      server.query(sql, params).pipe(
        Effect.flatMap(({ rows }) => Schema.decodeUnknownEffect(Names)(rows)),
        Effect.map((rows) => rows.map(({ name }) => name))
      )

    const roles = yield* names("select rolname as name from pg_roles")
    const passwords = [
      [owner, secrets.owner],
      [workspace, secrets.workspace]
    ] as const
    for (const [role, password] of passwords) {
      if (!roles.includes(role)) yield* server.query(`create role ${identifier(role)}`)
      yield* server.query(
        `alter role ${identifier(role)} with login nosuperuser nocreatedb nocreaterole noreplication nobypassrls ` +
          `connection limit -1 valid until 'infinity' password ${literal(Redacted.value(password))}`
      )
      yield* server.query(`alter role ${identifier(role)} reset all`)
      const changed = yield* names(
        "select d.datname as name from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase " +
          "where s.setrole = (select oid from pg_roles where rolname = $1)",
        role
      )
      for (const database of changed) {
        yield* server.query(`alter role ${identifier(role)} in database ${identifier(database)} reset all`)
      }
    }

    const found = yield* names("select datname as name from pg_database")
    const databases = [
      [owner, owner],
      [workspace, superuser]
    ] as const
    for (const [database, belongsTo] of databases) {
      if (!found.includes(database)) yield* server.query(`create database ${identifier(database)} template template0`)
      yield* server.query(`alter database ${identifier(database)} owner to ${identifier(belongsTo)}`)
    }
    for (const database of new Set([...found, owner, workspace])) {
      yield* server.query(`revoke all on database ${identifier(database)} from public, ${identifier(workspace)}`)
    }
    yield* server.query(`grant connect, create, temporary on database ${workspace} to ${identifier(workspace)}`)

    const inside = yield* connect(workspace)
    yield* inside.query(`create schema if not exists public`)
    yield* inside.query(`grant usage, create on schema public to ${identifier(workspace)}`)
  },
  (effect, _address, _secrets, directory) =>
    Effect.scoped(effect).pipe(
      Effect.mapError((cause) => {
        const inner = cause._tag === "SqlError" ? cause.reason.cause : cause
        const problem = inner instanceof Error ? inner.message : String(inner)
        return new EmbeddedPostgresError({ reason: new SetupFailed({ directory, problem, cause }) })
      })
    )
)
