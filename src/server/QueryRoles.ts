/**
 * A database role for each user: their statements run on connections that are logged in as it, so that the database itself keeps
 * apart what different users run, see and change.
 *
 * A role lives until its user is removed. It is made when the server refuses its first connection, by the role of the URL, which
 * must be allowed to make roles and schemas; a role that was changed is put right in the same way. The service here lives as long
 * as its layer and holds no connection.
 *
 * **Details**
 *
 * ```
 * role of the URL ── member of each ──► workspace__alice ── member of ──► workspace_users ── may connect, use and create in
 *        │                                    │                                              the schema `shared`
 *        └── owns the schema ◄── may use, create and grant ──┘
 * ```
 *
 * The schema of a role has the role's name and comes first in its search path. The role cannot drop it, and nobody else reaches
 * what is in it without a grant. `shared` is in nobody's search path: what somebody puts there is used by those who name it. The
 * comment of a role names its user.
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { hasProperty } from "effect/Predicate"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as FairSemaphore from "../lifetime/FairSemaphore.ts"
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as PgOutages from "../postgres/internal/PgOutages.ts"
import * as PgScram from "../postgres/internal/PgScram.ts"
import type * as PgConnectionSource from "../postgres/PgConnectionSource.ts"
import * as QueryRoleNames from "./QueryRoleNames.ts"

/** Why users' roles cannot be made or removed. */
export class QueryRolesError extends Schema.TaggedError<QueryRolesError>("holdfast/server/QueryRolesError")(
  "QueryRolesError",
  { problem: Schema.String }
) {
  override get message(): string {
    return `Users' own database roles cannot be managed: ${this.problem}`
  }
}

/** Where roles are made. */
export interface Options {
  /** The database of users' SQL, and the role that makes the others. */
  readonly url: Redacted.Redacted<string>
  /** Connections that each of them may have at most, for a database that one instance uses. Default: no limit. */
  readonly connectionLimit?: number | undefined
}

export class QueryRoles extends Context.Service<
  QueryRoles,
  {
    /** Who logs in for a user. */
    readonly login: (principal: string) => PgConnectionSource.Login
    /** Makes the role of a user and the schema, or puts them right. */
    readonly put: (principal: string) => Effect.Effect<void, QueryRolesError>
    /** Waits until roles can be made. */
    readonly prepared: Effect.Effect<void>
    /** Fails while no roles can be made. */
    readonly ready: Effect.Effect<void, QueryRolesError>
  }
>()("holdfast/server/QueryRoles") {}

export const identifier = (name: string) => `"${name.replaceAll('"', '""')}"`
export const literal = (value: string) => `'${value.replaceAll("'", "''")}'`

type Connection = Effect.Success<ReturnType<typeof PgDirect.connect>>

/** Connects as the role of the URL. Nothing is found by the search path. */
export const connect = (url: Redacted.Redacted<string>) =>
  PgDirect.connect({
    url,
    applicationName: "holdfast-roles",
    connectTimeout: "3 seconds",
    startupParameters: { search_path: "pg_catalog", statement_timeout: "5000" }
  })

/** The rows of a statement, as a schema has them. */
export const rowsOf =
  (connection: Connection) =>
  <S extends Schema.ConstraintDecoder<unknown>>(row: S, sql: string, params: ReadonlyArray<unknown> = []) =>
    connection
      .query(sql, params)
      .pipe(Effect.flatMap(({ rows }) => Schema.decodeUnknownEffect(Schema.Array(row))(rows)))

/** Says what a failure comes from. */
export const explained = <A, R>(effect: Effect.Effect<A, SqlError | Schema.SchemaError | QueryRolesError, R>) =>
  Effect.mapError(effect, (error) =>
    error instanceof QueryRolesError ? error : new QueryRolesError({ problem: PgOutages.why(error) })
  )

const Self = Schema.Struct({
  me: Schema.String,
  database: Schema.String,
  version: Schema.Int,
  makesRoles: Schema.Boolean,
  makesSchemas: Schema.Boolean
})

/** Who we are where, and what we may. */
export const self = (connection: Connection) =>
  Effect.flatMap(
    rowsOf(connection)(
      Self,
      `select current_user::text as me, current_database()::text as database,
        current_setting('server_version_num')::int as version, rolsuper or rolcreaterole as "makesRoles",
        has_database_privilege(current_database(), 'create') as "makesSchemas"
        from pg_roles where rolname = current_user`
    ),
    ([found]) => (found === undefined ? refuse("the server does not know the role of the URL") : Effect.succeed(found))
  )

const refuse = (problem: string) => Effect.fail(new QueryRolesError({ problem }))

const Found = Schema.Struct({ owner: Schema.String })
const Allowed = Schema.Struct({ allowed: Schema.Boolean })

/** The group and the schema of all users, once for a database. */
const prepare = Effect.fnUntraced(function* ({ url }: Options) {
  const connection = yield* connect(url)
  const { database, makesRoles, makesSchemas, me, version } = yield* self(connection)
  if (!makesRoles) {
    return yield* refuse(
      `the role ${me} may not make any. Run "alter role ${identifier(me)} createrole", or set HOLDFAST_QUERY_ROLES=shared`
    )
  }
  if (!makesSchemas) {
    return yield* refuse(
      `the role ${me} may make no schemas. Run "grant create on database ${identifier(database)} to ${identifier(me)}"`
    )
  }
  const rows = rowsOf(connection)
  const may = (sql: string, ...params: ReadonlyArray<unknown>) =>
    Effect.map(rows(Allowed, `select ${sql} as allowed`, params), ([row]) => row?.allowed === true)
  const group = QueryRoleNames.groupOf(database)
  const is = identifier(group)
  if (!(yield* may("exists (select from pg_roles where rolname = $1)", group))) {
    yield* connection.query(`create role ${is} nologin`)
  }
  // Where others own the database, they may have granted it.
  yield* Effect.ignore(connection.query(`grant connect, temporary on database ${identifier(database)} to ${is}`))
  if (!(yield* may("has_database_privilege($1, current_database(), 'connect')", group))) {
    return yield* refuse(
      `users may not connect. Run "grant connect, temporary on database ${identifier(database)} to ${is}"`
    )
  }
  const [shared] = yield* rows(
    Found,
    "select nspowner::regrole::text as owner from pg_namespace where nspname = 'shared'"
  )
  if (shared === undefined) yield* connection.query("create schema shared")
  yield* Effect.ignore(connection.query(`grant usage, create on schema shared to ${is}`))
  const isOpen = yield* may(
    "coalesce((select has_schema_privilege($1, oid, 'create') from pg_namespace where nspname = 'public'), false)",
    group
  )
  if (isOpen) {
    yield* LogEvent.warning(
      { event: "role.open_schema", database },
      `Users may create in the schema public of ${database}, which is in everybody's search path: one user could take the place of what another's statement names. Run "revoke create on schema public from public".`
    )
  }
  return { database, group, me, version }
}, Effect.scoped)

type Place = Effect.Success<ReturnType<typeof prepare>>

const put = Effect.fnUntraced(function* (
  { connectionLimit, url }: Options,
  { group, me, version }: Place,
  principal: string,
  { password, username }: PgConnectionSource.Login
) {
  const connection = yield* connect(url)
  const rows = rowsOf(connection)
  const is = identifier(username)
  const attributes = `login password ${literal(PgScram.verifier(password))} connection limit ${connectionLimit ?? -1}`
  yield* connection.query("begin")
  const found = yield* rows(Found, "select rolname::text as owner from pg_roles where rolname = $1", [username])
  if (found.length === 0) {
    yield* connection.query(`create role ${is} ${attributes}`)
  } else {
    yield* connection.query(`alter role ${is} ${attributes}`)
    yield* connection.query(`alter role ${is} reset all`)
  }
  // To look after its statements, and to take over what is left of it (version 16 knows how much of a membership is used).
  yield* connection.query(`grant ${is} to ${identifier(me)}${version >= 160_000 ? " with inherit true, set true" : ""}`)
  yield* connection.query(
    `grant ${identifier(group)} to ${is}${version >= 160_000 ? " with inherit true, set false" : ""}`
  )
  yield* connection.query(`comment on role ${is} is ${literal(`User ${JSON.stringify(principal)} of Holdfast`)}`)
  const [schema] = yield* rows(
    Found,
    "select r.rolname::text as owner from pg_namespace n join pg_roles r on r.oid = n.nspowner where nspname = $1",
    [username]
  )
  if (schema === undefined) yield* connection.query(`create schema ${is}`)
  else if (schema.owner !== me) {
    return yield* refuse(`the schema ${username} belongs to ${schema.owner}, not to ${me}. Rename it`)
  }
  yield* connection.query(`grant usage, create on schema ${is} to ${is} with grant option`)
  yield* connection.query("commit")
}, Effect.scoped)

/** Two instances did the same at the same moment (duplicate_object, unique_violation, tuple concurrently updated). */
const isRace = (error: unknown) => {
  const cause = isSqlError(error) ? error.reason.cause : undefined
  return hasProperty(cause, "code") && ["42710", "23505", "XX000", "40001"].includes(String(cause.code))
}
const again = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.retry(effect, { while: isRace, times: 5 })

/** Makes the service. It tries to prepare the database until it can. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<QueryRoles["Service"], never, Scope.Scope> {
  const database = QueryRoleNames.databaseOf(options.url)
  const passwordOf = QueryRoleNames.passwords(options.url)
  const login = (principal: string): PgConnectionSource.Login => {
    const username = QueryRoleNames.roleOf(database, principal)
    return { username, password: passwordOf(username) }
  }
  const place = yield* Deferred.make<Place>()
  // One user who breaks their own role again and again, or holds it locked, keeps nobody else waiting.
  const turns = yield* FairSemaphore.make<QueryRolesError>(4, {
    maxWaiting: 1000,
    perKey: { permits: 1, maxWaiting: 100 },
    refuse: () => refuse("too many wait for it")
  })
  const outage = yield* PgOutages.source({ of: "queries", url: options.url, source: "users' roles" })
  let problem = new QueryRolesError({ problem: "the database was not asked yet" })
  yield* explained(again(prepare(options))).pipe(
    Effect.tapError((error) => {
      problem = error
      return outage.failed(error.problem)
    }),
    Effect.retry(Schedule.spaced("1 second")),
    Effect.tap(() => outage.recovered),
    Effect.flatMap((prepared) => Deferred.succeed(place, prepared)),
    Effect.forkScoped
  )
  return QueryRoles.of({
    login,
    put: (principal) =>
      Effect.flatMap(Deferred.await(place), (place) => again(put(options, place, principal, login(principal)))).pipe(
        turns.withPermit(principal),
        Effect.timeoutOrElse({ duration: "5 seconds", orElse: () => Effect.suspend(() => Effect.fail(problem)) }),
        explained
      ),
    prepared: Effect.asVoid(Deferred.await(place)),
    ready: Effect.flatMap(Deferred.isDone(place), (isDone) =>
      isDone ? Effect.void : Effect.suspend(() => Effect.fail(problem))
    )
  })
})

export const layer = (options: Options): Layer.Layer<QueryRoles> => Layer.effect(QueryRoles, make(options))
