/**
 * Functions in PostgreSQL, for any number of instances of a program: one that was created is found by all of them from the answer on
 * (law F3).
 *
 * The store's connections live as long as its layer. The layer is built also while the database is away, and operations fail with
 * `FunctionsUnavailable` until it is back. The table is made by {@link migrate}, which the program runs when it starts and as often as
 * it takes.
 *
 * **Details**
 *
 * When a function's time is up is decided by the server's clock. An operation that is interrupted goes on in the background, within
 * the same time limit. An instance of an older version beside a newer one goes on: a migration adds, and takes nothing away.
 *
 * **Gotchas**
 *
 * It needs PostgreSQL 14, and connections that let it set parameters (a pooler in front in session mode, or none).
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { type SqlError, isSqlError } from "effect/sql/SqlError"
import { Buffer } from "node:buffer"
import { FunctionError, FunctionNotFound, FunctionRejected, FunctionsUnavailable } from "../function/FunctionError.ts"
import { FunctionId } from "../function/FunctionId.ts"
import type { FunctionRecord } from "../function/FunctionRecord.ts"
import { FunctionStore, type NewFunction, type Room } from "../function/FunctionStore.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as Timers from "../lifetime/internal/Timers.ts"
import * as PgFunctionMigrations from "./internal/PgFunctionMigrations.ts"
import * as PgFunctionRoom from "./internal/PgFunctionRoom.ts"
import * as PgFunctionSql from "./internal/PgFunctionSql.ts"
import { connectionOf, isStandby, migrationTimeout } from "./internal/PgSessionConfig.ts"
import * as PgSiblings from "./internal/PgSiblings.ts"
import * as PgTarget from "./internal/PgTarget.ts"

/** Where the functions are. */
export interface Options {
  /** `postgres://user:password@host:port/database`. One that can never work is a defect when the store is made. */
  readonly url: Redacted.Redacted<string>
  /** Lower-case letters, digits and underscores. Default: `holdfast`. */
  readonly schema?: string | undefined
  /** At least 2: half for finding, half for writes. Default: 4. */
  readonly maxConnections?: number | undefined
  /** How long an operation may take, waiting for a connection included; at most 24 days. Default: 3 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** Shown by the server to operators. Default: `holdfast-functions`. */
  readonly applicationName?: string | undefined
}

const limitOf = ({ operationTimeout }: Options) =>
  Timers.clamp(Duration.fromInputUnsafe(operationTimeout ?? "3 seconds"))

const schemaOf = (options: Options): Effect.Effect<string> => {
  const schema = options.schema ?? "holdfast"
  const problem = PgTarget.problemOf(options.url)
  if (problem !== undefined) return Effect.die(new TypeError(`The URL of the functions' database ${problem}`))
  return /^[a-z_][a-z0-9_]{0,62}$/.test(schema)
    ? Effect.succeed(schema)
    : Effect.die(new TypeError("The schema of the functions must be lower-case letters, digits and underscores"))
}

const config = (options: Options, limit: Duration.Duration, connect = limit) => ({
  ...connectionOf({ ...options, applicationName: options.applicationName ?? "holdfast-functions" }, limit, connect),
  url: options.url
})

const unavailable = (problem: string) => new FunctionError({ reason: new FunctionsUnavailable({ problem }) })

const ServerError = Schema.Struct({ code: Schema.String, message: Schema.String })
const isServerError = Schema.is(ServerError)

/** Of what the server says, only the message and the code: its details hold values of the row. */
const toFunctionError = (error: SqlError | FunctionError): FunctionError => {
  if (!isSqlError(error)) return error
  const cause = error.reason.cause ?? error
  return unavailable(
    `The store of functions cannot be used: ${isServerError(cause) ? `${cause.message} (${cause.code})` : error.message}`
  )
}

const late = (limit: string) => unavailable(`The store of functions gave no answer within ${limit}. Try again later.`)

type Row = ReadonlyArray<unknown>

const Moment = Schema.DateTimeUtcFromMillis
const decodeRecord = Schema.decodeUnknownEffect(
  Schema.Tuple([
    FunctionId,
    Schema.String,
    Schema.String,
    Schema.NullOr(Schema.String),
    Schema.String,
    Schema.String,
    Moment,
    Moment
  ])
)
const decodeRoom = Schema.decodeUnknownEffect(Schema.Tuple([Schema.Int, Schema.Finite]))
const decodeIds = Schema.decodeUnknownEffect(Schema.Tuple([Schema.fromJsonString(Schema.Array(FunctionId))]))
const decodeCount = Schema.decodeUnknownEffect(Schema.Tuple([Schema.Int]))

const readable = <A, E>(decoded: Effect.Effect<A, E>) =>
  Effect.mapError(decoded, () => unavailable("The store of functions holds what this version cannot read."))

const recordOf = (row: Row): Effect.Effect<FunctionRecord, FunctionError> =>
  Effect.map(
    readable(decodeRecord(row)),
    ([id, principal, language, title, script, context, createdAt, expiresAt]) => ({
      id,
      principal,
      language,
      title,
      script,
      context,
      createdAt: DateTime.toUtc(createdAt),
      expiresAt: DateTime.toUtc(expiresAt)
    })
  )

const found = (row: Row | undefined) =>
  row === undefined ? Effect.fail(new FunctionError({ reason: new FunctionNotFound({}) })) : recordOf(row)

/** Makes a store whose connections close with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const schema = yield* schemaOf(options)
  const statements = PgFunctionSql.make(schema)
  const limit = limitOf(options)
  const max = Math.max(options.maxConnections ?? 4, 2)
  // Pools and operations end side by side: a pool waits for its connections, which operations give back when they end.
  const scope = yield* Ledger.hold(
    { kind: "function store", id: PgTarget.whereOf(options.url) },
    Effect.sync(() => Scope.makeUnsafe("parallel")),
    Scope.close
  )
  const siblings = yield* Scope.provide(PgSiblings.make("functions", limit), scope)
  const open: PgSiblings.Siblings = (name, config) => Scope.provide(Effect.orDie(siblings(name, config)), scope)
  const connection = config(options, limit)
  const readers = yield* Effect.orDie(
    open("readers", { ...connection, multiplex: true, maxConnections: Math.floor(max / 2) })
  )
  const writers = yield* Effect.orDie(open("writers", { ...connection, maxConnections: Math.ceil(max / 2) }))
  const within = yield* Scope.provide(TimeLimit.make(limit, late), scope)
  const ask = (pool: PgSiblings.Connections) => (sql: string, params: ReadonlyArray<unknown>) =>
    within(
      pool
        .use((connection) =>
          // A standby answers for as long as it is asked: the next connection may lead to the primary.
          Effect.tapError(connection.queryValues(sql, params), (error) =>
            isStandby(error) ? pool.invalidate(connection) : Effect.void
          )
        )
        .pipe(Effect.mapError(toFunctionError))
    )
  const [read, write] = [ask(readers), ask(writers)]

  const clock = yield* Clock.Clock
  const take = PgFunctionRoom.make(
    (principal) =>
      Effect.flatMap(read(statements.room, [principal]), ([row]) =>
        Effect.map(readable(decodeRoom(row)), ([functions, bytes]) => ({ functions, bytes }))
      ),
    () => SteadyClock.millis(clock)
  )

  const create = Effect.fn("PgFunctionStore.create")(function* (created: NewFunction, room: Room) {
    const { absoluteTimeout, context, id, idleTimeout, language, principal, script, title } = created
    const bytes = Buffer.byteLength(script) + Buffer.byteLength(context)
    const times = [Duration.toMillis(idleTimeout), Duration.toMillis(absoluteTimeout)]
    const used = yield* take(principal, bytes, room)
    if (used !== undefined) {
      const isCount = used.functions >= room.functions
      return yield* new FunctionError({
        reason: new FunctionRejected({
          limit: isCount ? "functionsOfPrincipal" : "functionBytesOfPrincipal",
          count: isCount ? used.functions : room.bytes,
          retryAfterSeconds: 60
        })
      })
    }
    const [row = []] = yield* write(statements.create, [
      id,
      principal,
      language,
      title,
      script,
      context,
      bytes,
      ...times
    ])
    return yield* recordOf(row)
  })

  const list: FunctionStore["Service"]["list"] = Effect.fn("PgFunctionStore.list")(function* (principal, options = {}) {
    const { after, limit = 100 } = options
    const rows = yield* read(statements.list, [principal, after ?? null, limit + 1])
    const functions = yield* Effect.forEach(rows.slice(0, limit), recordOf)
    return { functions, next: rows.length > limit ? functions.at(-1)?.id : undefined }
  })

  return FunctionStore.of({
    create,
    find: (principal, id) => Effect.flatMap(read(statements.find, [id, principal]), ([row]) => found(row)),
    use: (principal, id) => Effect.flatMap(read(statements.use, [id, principal]), ([row]) => found(row)),
    list,
    end: (principal, id) => Effect.map(write(statements.end, [id, principal]), (rows) => rows.length > 0),
    endedOf: (ids) =>
      Effect.flatMap(read(statements.endedOf, [JSON.stringify(ids)]), ([row]) =>
        Effect.map(readable(decodeIds(row)), ([ended]) => ended)
      ),
    prune: (limit) =>
      Effect.flatMap(write(statements.prune, [limit]), ([row]) =>
        Effect.map(readable(decodeCount(row)), ([count]) => count)
      ),
    ping: Effect.asVoid(read(statements.ping, []))
  })
})

/** Functions in a database that has, or will have, the table of {@link migrate}. */
export const layer = (options: Options): Layer.Layer<FunctionStore> => Layer.effect(FunctionStore, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("DATABASE_URL") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<FunctionStore, Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))

/**
 * Brings the store's table up to date. Instances that start together apply each change once.
 *
 * The role needs the right to create the schema, or to create tables in one that exists. Fails with `FunctionsUnavailable` where the
 * database cannot be reached, or another program holds the table for 30 seconds: then run it again later.
 */
export const migrate = Effect.fn("PgFunctionStore.migrate")(function* (options: Options) {
  const schema = yield* schemaOf(options)
  yield* PgFunctionMigrations.run(config(options, limitOf(options), migrationTimeout), schema).pipe(
    Effect.mapError((error) =>
      isSqlError(error)
        ? toFunctionError(error)
        : unavailable(`The table of functions cannot be made: ${error.message}`)
    ),
    Effect.timeoutOrElse({
      duration: migrationTimeout,
      orElse: () => Effect.fail(late(Duration.format(migrationTimeout)))
    })
  )
})
