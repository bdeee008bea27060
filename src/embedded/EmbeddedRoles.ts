/**
 * The roles and databases of the embedded server: Holdfast's own, and those for users' SQL, which reach nothing else.
 *
 * They live as long as the data directory; {@link setUp} runs at every start and can run any number of times. It puts
 * back what users' SQL can change about its own role: password and settings. {@link repair} does that alone.
 *
 * **Details**
 *
 * The database `holdfast` belongs to the role `holdfast`; `workspace` belongs to the superuser, so that users' SQL can
 * neither drop it nor leave settings on it. What is set on the database itself holds for every role in it, and only a
 * superuser may set it: nothing that users' SQL says goes to the server's log, and its temporary files have a bound. No
 * statement here looks up a name that users' SQL could have put in the way: the search path is `pg_catalog`.
 */
import { createHmac } from "node:crypto"
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { EmbeddedPostgresError, SetupFailed } from "./EmbeddedPostgresError.ts"
import type { Secrets } from "./EmbeddedSecrets.ts"

/** The role and the database of Holdfast's own tables. */
export const owner = "holdfast"

/** The role and the database of users' SQL. */
export const workspace = "workspace"

/** Makes the roles of users in the workspace, where each has one of their own, and is a member of all of them. */
export const steward = "steward"

/** The role that sets everything up. */
export const superuser = "postgres"

/** Where the server is. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** A program that knows the superuser's password needs no other to be kept. */
export const stewardPassword = (secrets: Secrets) =>
  Redacted.make(createHmac("sha256", Redacted.value(secrets.superuser)).update(steward).digest("base64url"))

/** The URL of a role's database. It leaves nothing for the environment to say that would keep anybody out. */
export const urlOf = (address: Address, role: string, password: Redacted.Redacted, database = role) =>
  Redacted.make(
    `postgres://${role}:${encodeURIComponent(Redacted.value(password))}@${address.host}:${address.port}/${database}?sslmode=disable`
  )

const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`
const literal = (value: string) => `'${value.replaceAll("'", "''")}'`

const Names = Schema.Array(Schema.Struct({ name: Schema.String }))

/**
 * Holds for all of the workspace and every role in it. Notices and errors are the users' own; with `panic` none of them, and no
 * `raise log`, `debug_print_parse` or failed connection, is written to the log.
 */
const ofWorkspace = { log_min_messages: "panic", log_min_error_statement: "panic", temp_file_limit: "1GB" }

/** Connections that users' SQL may have: of the server's hundred, the rest is for Holdfast's own. */
const workspaceConnections = 80

type Connection = Effect.Success<ReturnType<typeof PgDirect.connect>>

/** As the superuser, for the current scope. */
const connectTo = (address: Address, secrets: Secrets) => (database: string) =>
  PgDirect.connect({
    url: urlOf(address, superuser, secrets.superuser, database),
    applicationName: "holdfast-setup",
    startupParameters: { search_path: "pg_catalog" }
  })

const namesOf = (server: Connection) => (sql: string, params: ReadonlyArray<unknown>) =>
  server.query(sql, params).pipe(
    Effect.flatMap(({ rows }) => Schema.decodeUnknownEffect(Names)(rows)),
    Effect.map((rows) => rows.map(({ name }) => name))
  )

/** What a role may be and is set to, and its password. A role may change its own settings and its own password. */
const putRight = Effect.fnUntraced(function* (
  server: Connection,
  role: string,
  password: Redacted.Redacted,
  makesRoles: "createrole" | "nocreaterole" = "nocreaterole"
) {
  const is = identifier(role)
  yield* server.query(
    `alter role ${is} with login nosuperuser nocreatedb ${makesRoles} noreplication nobypassrls ` +
      `connection limit -1 valid until 'infinity' password ${literal(Redacted.value(password))}`
  )
  yield* server.query(`alter role ${is} reset all`)
  const changed = yield* namesOf(server)(
    "select d.datname as name from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase " +
      "where s.setrole = (select oid from pg_roles where rolname = $1)",
    [role]
  )
  for (const database of changed) yield* server.query(`alter role ${is} in database ${identifier(database)} reset all`)
})

const explained =
  (directory: string) =>
  <A, E extends SqlError | Schema.SchemaError>(
    effect: Effect.Effect<A, E, Scope.Scope>
  ): Effect.Effect<A, EmbeddedPostgresError> =>
    Effect.scoped(effect).pipe(
      Effect.mapError((cause) => {
        const inner = isSqlError(cause) ? cause.reason.cause : cause
        const problem = inner instanceof Error ? inner.message : String(inner)
        return new EmbeddedPostgresError({ reason: new SetupFailed({ directory, problem, cause }) })
      })
    )

/** Brings roles, databases and rights to what they should be. */
export const setUp = Effect.fn("EmbeddedRoles.setUp")(
  function* (address: Address, secrets: Secrets, _directory: string) {
    const connect = connectTo(address, secrets)
    const server = yield* connect(superuser)
    const roles = yield* namesOf(server)("select rolname as name from pg_roles", [])
    const passwords = [
      [owner, secrets.owner, "nocreaterole"],
      [workspace, secrets.workspace, "nocreaterole"],
      [steward, stewardPassword(secrets), "createrole"]
    ] as const
    for (const [role, password, makesRoles] of passwords) {
      if (!roles.includes(role)) yield* server.query(`create role ${identifier(role)}`)
      yield* putRight(server, role, password, makesRoles)
    }

    const found = yield* namesOf(server)("select datname as name from pg_database", [])
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
    yield* server.query(
      `grant connect, create, temporary on database ${workspace} to ${identifier(steward)} with grant option`
    )
    yield* server.query(`alter database ${workspace} connection limit ${workspaceConnections}`)
    for (const [name, value] of Object.entries(ofWorkspace)) {
      yield* server.query(`alter database ${workspace} set ${name} = ${literal(value)}`)
    }

    const inside = yield* connect(workspace)
    yield* inside.query(`create schema if not exists public`)
    yield* inside.query(`grant usage, create on schema public to ${identifier(workspace)}`)
    yield* inside.query(`grant usage on schema public to ${identifier(steward)} with grant option`)
  },
  (effect, _address, _secrets, directory) => explained(directory)(effect)
)

/** Puts back what users' SQL has changed about the role `workspace`, while the server runs. */
export const repair = Effect.fn("EmbeddedRoles.repair")(
  function* (address: Address, secrets: Secrets, _directory: string) {
    const server = yield* connectTo(address, secrets)(superuser)
    yield* putRight(server, workspace, secrets.workspace)
  },
  (effect, _address, _secrets, directory) => explained(directory)(effect)
)

const Settings = Schema.Array(Schema.Struct({ name: Schema.String, value: Schema.NullOr(Schema.String) }))

/** Those that every connection of Holdfast has of its own. */
const decided = ["client_connection_check_interval", "idle_in_transaction_session_timeout", "statement_timeout"]

/**
 * Every setting that a role may change about itself, and what it is where nobody has changed it: a connection that is opened
 * with these is not affected by `alter role … set`. (A client's choice comes before that of a role, `guc.h`.)
 */
export const settings = Effect.fn("EmbeddedRoles.settings")(
  function* (address: Address, secrets: Secrets, _directory: string) {
    const server = yield* connectTo(address, secrets)(superuser)
    const { rows } = yield* server.query(
      `select name, reset_val as value from pg_settings where context = 'user' and source <> 'client'
        and not pg_settings_get_flags(name) && array['NO_RESET', 'NO_RESET_ALL'] and name <> all ($1::text[])`,
      [decided]
    )
    const found = yield* Schema.decodeUnknownEffect(Settings)(rows)
    return {
      ...Object.fromEntries(found.map(({ name, value }) => [name, value ?? ""])),
      role: "none",
      search_path: '"$user", public'
    }
  },
  (effect, _address, _secrets, directory) => explained(directory)(effect)
)
