/**
 * Tokens in PostgreSQL, encrypted, for any number of instances of a program.
 *
 * The repository's connections live as long as its layer. The layer is built also while the database is away, and operations
 * fail with `RefreshFailed` until it is back. The table is made by {@link migrate}, which the program runs when it starts
 * and as often as it takes.
 *
 * **Details**
 *
 * A row is an account: its tokens, sealed by a `TokenCipher` under the account's key, and who replaces them. Every
 * operation is one statement, and `now()` of the database decides. The lock is a column, not a lock of the database's: it
 * outlives the connection of a holder that waits for a token server, and is over at its time whatever became of the holder.
 *
 * **Gotchas**
 *
 * A repository never takes part in a transaction of the program, also when it is used within one.
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { isSqlError } from "effect/sql/SqlError"
import * as SqlClient from "effect/sql/SqlClient"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as PgMigrations from "./internal/PgMigrations.ts"
import * as PgSiblings from "./internal/PgSiblings.ts"
import * as PgTarget from "./internal/PgTarget.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import { ClientError, InvalidConfig, RefreshFailed } from "../client/ClientError.ts"
import { count, time } from "../client/internal/ClientSessionOptions.ts"
import * as TokenKey from "../token/internal/TokenKey.ts"
import * as TokenCipher from "../token/TokenCipher.ts"
import { type Attempt, Failure, type Kept, TokenRepository } from "../token/TokenRepository.ts"

/** Where the tokens are, and what they are encrypted with. */
export interface Options {
  /** `postgres://user:password@host:port/database`. */
  readonly url: Redacted.Redacted
  /** The first one encrypts, all decrypt. See `TokenCipher`. */
  readonly keys: ReadonlyArray<TokenCipher.Key>
  /** Lower-case letters, digits and underscores. Default: `holdfast`. */
  readonly schema?: string | undefined
  /** Default: 2. */
  readonly maxConnections?: number | undefined
  /** How long an operation may take, waiting for a connection included; at most 24 days. Default: 3 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** Shown by the server to operators. Default: `holdfast-tokens`. */
  readonly applicationName?: string | undefined
}

const migrationTimeout = Duration.seconds(30)

/** Names the database; holds no secret. */
const originOf = ({ url }: Options): string => `postgresql://${PgTarget.whereOf(url)}`

const unavailable = (options: Options, problem: string) =>
  new ClientError({ reason: new RefreshFailed({ origin: originOf(options), problem, last: undefined }) })

const late = (options: Options) => (limit: string) =>
  unavailable(options, `the tokens' database did not answer within ${limit}`)

/** The driver's text may tell what was sent. */
const toClientError = (options: Options) => (error: unknown) => {
  const cause = isSqlError(error) ? error.reason.cause : error
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? ` (${cause.code})` : ""
  return unavailable(options, `the tokens' database failed${code}`)
}

const invalid = (field: string, problem: string) =>
  Effect.fail(new ClientError({ reason: new InvalidConfig({ field, problem }) }))

/** The schema of a database that can be meant. */
const schemaOf = (options: Options): Effect.Effect<string, ClientError> => {
  const schema = options.schema ?? "holdfast"
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema)) {
    return invalid("schema", "must be lower-case letters, digits and underscores")
  }
  const problem = PgTarget.problemOf(options.url)
  return problem === undefined ? Effect.succeed(schema) : invalid("url", problem)
}

const connectionOf = (options: Options, limit: Duration.Duration) => {
  const { applicationName, config, connectTimeout } = PgTarget.of(options.url)
  return {
    ...config,
    applicationName: options.applicationName ?? applicationName ?? "holdfast-tokens",
    connectTimeout: Duration.min(limit, connectTimeout ?? limit),
    keepAlive: "15 seconds",
    startupParameters: {
      // The server ends what we have given up, and what a killed process or a lost network left behind.
      client_connection_check_interval: "1s",
      statement_timeout: String(Math.ceil(Duration.toMillis(limit)))
    }
  } as const
}

/** Milliseconds from now; infinity and null are themselves. */
const millisUntil = (moment: string) => `(extract(epoch from ${moment}) - extract(epoch from now()))::float8 * 1000`
/** A lifetime in milliseconds, infinite ones as null, after a moment. */
const after = (moment: string, parameter: string) =>
  `coalesce(${moment} + ${parameter}::float8 * interval '1 millisecond', 'infinity')`

const statementsOf = (schema: string) => {
  const tokens = `${schema}.tokens`
  return {
    get: `
      select version, sealed, -${millisUntil("obtained_at")}, greatest(${millisUntil("access_until")}, 0::float8),
        refresh_until > now(), rejected, second_try
      from ${tokens} where key = $1`,
    lock: `
      insert into ${tokens} as t (key, owner, locked_at, locked_until)
      values ($1, $2, now(), now() + $4::float8 * interval '1 millisecond')
      on conflict (key) do update
        set owner = excluded.owner, locked_at = excluded.locked_at, locked_until = excluded.locked_until
        where t.version = $3
          and (t.locked_until is null or t.locked_until <= now())
          and (t.paused_until is null or t.paused_until <= now())
      returning 1`,
    standing: `
      select version, ${millisUntil("locked_until")}, ${millisUntil("paused_until")}, failure
      from ${tokens} where key = $1`,
    put: `
      update ${tokens}
      set version = version + 1, second_try = rejected, rejected = false, sealed = $3, obtained_at = locked_at, access_until = ${after("locked_at", "$4")},
        refresh_until = case when $5 then refresh_until else ${after("locked_at", "$6")} end,
        owner = null, locked_at = null, locked_until = null, failure = null, paused_until = null
      where key = $1 and owner = $2
      returning version`,
    unlock: `
      update ${tokens}
      set owner = null, locked_at = null, locked_until = null, failure = $3,
        paused_until = now() + $4::float8 * interval '1 millisecond'
      where key = $1 and owner = $2`,
    invalidate: `
      update ${tokens} set rejected = true where key = $1 and version = $2`
  }
}

const migration = (schema: string) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      create table ${sql(`${schema}.tokens`)} (
        key text primary key,
        version integer not null default 0,
        sealed bytea,
        obtained_at timestamptz,
        access_until timestamptz,
        refresh_until timestamptz,
        rejected boolean not null default false,
        second_try boolean not null default false,
        owner text,
        locked_at timestamptz,
        locked_until timestamptz,
        failure text,
        paused_until timestamptz,
        check ((version = 0) = (sealed is null)),
        check ((owner is null) = (locked_until is null))
      )`
  })

const Millis = Schema.NullOr(Schema.Number)
const decodeKept = Schema.decodeUnknownEffect(
  Schema.Tuple([
    Schema.Int,
    Schema.NullOr(Schema.Uint8Array),
    Millis,
    Millis,
    Schema.NullOr(Schema.Boolean),
    Schema.Boolean,
    Schema.Boolean
  ])
)
const decodeStanding = Schema.decodeUnknownEffect(
  Schema.Tuple([Schema.Int, Millis, Millis, Schema.NullOr(Schema.String)])
)
const decodeVersion = Schema.decodeUnknownEffect(Schema.Tuple([Schema.Int]))
const FailureJson = Schema.fromJsonString(Schema.toCodecJson(Failure))
const encodeFailure = Schema.encodeSync(FailureJson)
const decodeFailure = Schema.decodeUnknownOption(FailureJson)

/** Finite milliseconds for the database; infinite ones are null. */
const millisOf = (lifetime: Duration.Duration): number | null => {
  const millis = Duration.toMillis(lifetime)
  return Number.isFinite(millis) ? millis : null
}

/**
 * Makes a repository whose connections close with the current scope. Fails with `InvalidConfig` where an option makes no
 * sense, and in no other way: also while the database is away.
 */
export const make = Effect.fnUntraced(function* (options: Options) {
  const schema = yield* schemaOf(options)
  const cipher = yield* TokenCipher.make(options.keys)
  const statements = statementsOf(schema)
  const limit = yield* time("operationTimeout", options.operationTimeout ?? "3 seconds", {
    be: "positive",
    forTimer: true
  })
  const maxConnections = yield* count("maxConnections", options.maxConnections ?? 2, 1)

  // Pool and operations end side by side: a pool waits for its connections, which operations give back when they end.
  const scope = yield* Ledger.hold(
    { kind: "token repository", id: originOf(options) },
    Effect.sync(() => Scope.makeUnsafe("parallel")),
    Scope.close
  )
  const pool = yield* Effect.flatMap(PgSiblings.make("tokens", limit), (open) =>
    open("operations", { ...connectionOf(options, limit), maxConnections })
  ).pipe(Effect.orDie, Scope.provide(scope))
  const within = yield* Scope.provide(TimeLimit.make(limit, late(options)), scope)

  const query = (sql: string, params: ReadonlyArray<unknown>) =>
    within(
      Effect.mapError(
        pool.use((connection) => connection.queryValues(sql, params)),
        toClientError(options)
      )
    )
  const decoded = <A>(row: Effect.Effect<A, Schema.SchemaError>) =>
    Effect.mapError(row, () => unavailable(options, "the tokens' table holds what this version cannot read"))

  const absent = (version: number): Kept => ({ version, access: undefined, refresh: undefined })

  const get = Effect.fnUntraced(function* (key: string): Effect.fn.Return<Kept, ClientError> {
    const [row] = yield* query(statements.get, [key])
    if (row === undefined) return absent(0)
    const [version, sealed, ageMillis, validForMillis, isRefreshGood, isRejected, isSecondTry] = yield* decoded(
      decodeKept(row)
    )
    if (sealed === null || ageMillis === null || validForMillis === null) return absent(version)
    const tokens = cipher.open(key, sealed)
    if (tokens === undefined) {
      yield* LogEvent.warning({ event: "token.unreadable", key }, TokenCipher.unreadable(key))
      return absent(version)
    }
    return {
      version,
      access: { value: tokens.access, ageMillis, validForMillis, isRejected, isSecondTry },
      refresh: isRefreshGood === true ? tokens.refresh : undefined
    }
  })

  const lock: TokenRepository["Service"]["lock"] = Effect.fnUntraced(function* (
    key,
    { limit, owner, version }
  ): Effect.fn.Return<Attempt, ClientError> {
    const [locked] = yield* query(statements.lock, [key, owner, version, Duration.toMillis(limit)])
    if (locked !== undefined) return { _tag: "Locked" }
    const [row] = yield* query(statements.standing, [key])
    if (row === undefined) return { _tag: "Changed" }
    const [present, lockedMillis, pausedMillis, text] = yield* decoded(decodeStanding(row))
    if (present !== version) return { _tag: "Changed" }
    const failure = Option.getOrUndefined(decodeFailure(text))
    if (pausedMillis !== null && pausedMillis > 0 && failure !== undefined) {
      return { _tag: "Paused", failure, forMillis: pausedMillis }
    }
    return { _tag: "Busy", forMillis: Math.max(lockedMillis ?? 0, pausedMillis ?? 0, 0) }
  })

  const put: TokenRepository["Service"]["put"] = Effect.fnUntraced(function* (key, owner, { access, refresh }) {
    const sealed = cipher.seal(key, { access: access.value, refresh: refresh?.value })
    const isRefreshKept = refresh !== undefined && refresh.lifetime === undefined
    const refreshMillis = refresh?.lifetime === undefined ? 0 : millisOf(refresh.lifetime)
    const params = [key, owner, sealed, millisOf(access.lifetime), isRefreshKept, refreshMillis]
    const [row] = yield* query(statements.put, params)
    return row === undefined ? undefined : (yield* decoded(decodeVersion(row)))[0]
  })

  return TokenKey.checked({
    get,
    lock,
    put,
    unlock: (key, owner, pause) => {
      const failure = pause === undefined ? null : encodeFailure(pause.failure)
      const length = pause === undefined ? null : Duration.toMillis(pause.length)
      return Effect.asVoid(query(statements.unlock, [key, owner, failure, length]))
    },
    invalidate: (key, version) => Effect.asVoid(query(statements.invalidate, [key, version]))
  })
})

/** Tokens in a database that has, or will have, the table of {@link migrate}. */
export const layer = (options: Options): Layer.Layer<TokenRepository, ClientError> =>
  Layer.effect(TokenRepository, make(options))

/**
 * Brings the table up to date. Instances that start together apply each change once.
 *
 * The role needs the right to create the schema, or to create tables in one that exists. Fails with `RefreshFailed` where the
 * database cannot be reached, or another program holds the tables for 30 seconds: then run it again later.
 */
export const migrate = Effect.fn("PgTokenRepository.migrate")(function* (options: Options) {
  const schema = yield* schemaOf(options)
  const steps = { "1_tokens": migration(schema) }
  yield* PgMigrations.run(connectionOf(options, migrationTimeout), {
    of: "tokens",
    schema,
    table: "token_migrations",
    steps
  }).pipe(
    Effect.mapError(toClientError(options)),
    Effect.timeoutOrElse({
      duration: migrationTimeout,
      orElse: () => Effect.fail(late(options)(Duration.format(migrationTimeout)))
    })
  )
})

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("DATABASE_URL"), … })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<TokenRepository, ClientError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
