/**
 * Opens PostgreSQL connections whose settings hold, also where a pooler stands before the server.
 *
 * A connection lives as long as the scope it was opened in.
 *
 * **Details**
 *
 * Settings travel as startup parameters, which no role and no database can change. A pooler such as PgBouncer refuses the ones that
 * it does not track, or drops them where it is told to (`ignore_startup_parameters`). So the backend is asked for its process id:
 * where that is not the one that the server named for cancels, a pooler stands between, and the settings are made by statement;
 * {@link settingsOf} tells them to whatever resets the connection.
 *
 * A pooler that gives each transaction another backend breaks settings, locks, listeners and the reset of a connection. It is
 * noticed by a backend that two of our connections meet, and refused with a sentence. PgBouncer, "pool_mode".
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { ConnectionError, SqlError, isSqlError } from "effect/sql/SqlError"
import * as PgFrames from "./PgFrames.ts"
import * as PgWire from "./PgWire.ts"

/** A backend, as the server tells it. */
export interface Backend {
  readonly pid: number
  /** `backend_start`, as text in full precision. */
  readonly startedAt: string
  /** Whether the server sees our own end of the connection: then no pooler ever gives the backend to somebody else. */
  readonly isOurs: boolean
}

interface Opened extends Backend {
  /** What a reset has to make again; `undefined` where the server keeps it by itself. */
  readonly settings: Readonly<Record<string, string>> | undefined
}

const opened = new WeakMap<PgConnection.PgConnection, Opened>()

/** The backend of a connection that was opened here. */
export const backendOf = (connection: PgConnection.PgConnection): Backend | undefined => opened.get(connection)

/** Makes again, in one round trip, what a reset takes away behind a pooler; `undefined` where nothing has to be made. */
export const settingsOf = (connection: PgConnection.PgConnection): Uint8Array | undefined => {
  const settings = opened.get(connection)?.settings
  return settings === undefined ? undefined : PgFrames.statement(setAll, arraysOf(settings))
}

/**
 * Runs a statement on a connection that is nobody else's and lives in this scope. Interrupting it closes the connection instead
 * of waiting for a cancel to be confirmed: for statements whose connection can be spared, when the network may be dead.
 */
export const orClose = <A, E>(scope: Scope.Closeable, statement: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDetach(statement, { startImmediately: true }), (fiber) =>
      Effect.onInterrupt(restore(Fiber.join(fiber)), () =>
        Effect.andThen(Scope.close(scope, Exit.void), Effect.forkDetach(Fiber.interrupt(fiber)))
      )
    )
  )

/** Object names are written out: a role can have put others of the same name first on its search path. */
const whoAmI =
  "select s.pid, s.backend_start::pg_catalog.text, s.client_port from pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) as s"
const setAll = `select pg_catalog.set_config(($1::pg_catalog.text[])[i], ($2::pg_catalog.text[])[i], false)
  from pg_catalog.generate_subscripts($1::pg_catalog.text[], 1) as i`

const arrayOf = (texts: ReadonlyArray<string>) =>
  `{${texts.map((text) => `"${text.replaceAll(/["\\]/g, "\\$&")}"`).join(",")}}`

const arraysOf = (settings: Readonly<Record<string, string>>) => [
  arrayOf(Object.keys(settings)),
  arrayOf(Object.values(settings))
]

const Who = Schema.Tuple([Schema.Tuple([Schema.Int, Schema.String, Schema.NullOr(Schema.Int)])])
const decodeWho = Schema.decodeUnknownOption(Who)

const failed = (problem: string) =>
  new SqlError({
    reason: new ConnectionError({ cause: new Error(problem), message: problem, operation: "connect" })
  })

const askBackend = (connection: PgConnection.PgConnection): Effect.Effect<Backend, SqlError> =>
  Effect.flatMap(connection.queryValues(whoAmI, [], false), (rows) =>
    Option.match(decodeWho(rows), {
      onNone: () => Effect.fail(failed("The server does not tell the backend of a connection")),
      onSome: ([[pid, startedAt, port]]) =>
        Effect.succeed({ pid, startedAt, isOurs: port !== null && port === PgWire.localPortOf(connection) })
    })
  )

const isRefusal = (error: unknown) =>
  isSqlError(error) &&
  error.reason.cause instanceof Error &&
  /unsupported startup parameter/i.test(error.reason.cause.message)

const byTransaction = (where: string) =>
  failed(
    `The pooler at ${where} gives each transaction another backend. Holdfast needs one backend for a connection: set pool_mode = session there, or name the server itself`
  )

/** Poolers that were met, by address and database: what they refuse, and that they are known to keep a session together. */
const Poolers = Context.Reference<{ readonly refuse: Set<string>; readonly keep: Set<string> }>(
  "holdfast/postgres/PgOpening/Poolers",
  { defaultValue: () => ({ refuse: new Set(), keep: new Set() }) }
)

const addressOf = ({ url }: PgConnection.Config): string => {
  const parsed = url === undefined ? null : URL.parse(Redacted.value(url))
  return parsed === null ? "" : `${decodeURIComponent(parsed.host)}${parsed.pathname}`
}

/** As the driver's own. */
const defaultLimit = Duration.seconds(5)

const late = (limit: Duration.Input) =>
  failed(`The server took a connection and did not answer within ${Duration.format(Duration.fromInputUnsafe(limit))}`)

/** How long a second connection may take to get a backend from a pooler that may have none left: then none was shared. */
const probeLimit = "1 second"

/** Whether a pooler gives a backend away between two statements of a connection. */
const isShared = Effect.fnUntraced(function* (connection: PgConnection.PgConnection, config: PgConnection.Config) {
  const before = yield* askBackend(connection)
  const other = yield* PgConnection.make(config)
  const theirs = yield* Effect.option(Effect.andThen(other.query("BEGIN", [], false), askBackend(other)))
  // Where each statement has another backend, there are no transactions.
  if (Option.isNone(theirs) || theirs.value.pid === before.pid) return true
  const after = yield* askBackend(connection)
  return after.pid !== before.pid
}, Effect.scoped)

/** Opens a connection for the current scope; its {@link backendOf backend} is known from then on. */
export const make = Effect.fnUntraced(function* (
  config: PgConnection.Config
): Effect.fn.Return<PgConnection.PgConnection, SqlError, Scope.Scope> {
  const { startupParameters = {}, ...bare } = config
  const poolers = yield* Poolers
  const address = addressOf(config)
  const scope = yield* Scope.fork(yield* Effect.scope)
  const limit = config.connectTimeout ?? defaultLimit
  const inTime = <A>(statement: Effect.Effect<A, SqlError>) =>
    Effect.timeoutOrElse(orClose(scope, statement), { duration: limit, orElse: () => Effect.fail(late(limit)) })
  const withoutSettings = PgConnection.make(bare)
  const connecting = poolers.refuse.has(address)
    ? withoutSettings
    : Effect.catchIf(PgConnection.make(config), isRefusal, () =>
        Effect.tap(withoutSettings, () => Effect.sync(() => poolers.refuse.add(address)))
      )
  const connection = yield* Scope.provide(connecting, scope)
  const backend = yield* inTime(askBackend(connection))
  const isDirect = backend.pid === connection.processId
  if (isDirect && !poolers.refuse.has(address)) {
    opened.set(connection, { ...backend, settings: undefined })
    return connection
  }
  // The server stands there now, or the pooler was configured anew.
  if (isDirect) poolers.refuse.delete(address)
  const settings = {
    client_encoding: "UTF8",
    application_name: config.applicationName ?? "holdfast",
    ...startupParameters
  }
  yield* inTime(connection.queryValues(setAll, arraysOf(settings), false))
  if (!isDirect && !poolers.keep.has(address)) {
    const shared = yield* Effect.timeoutOption(isShared(connection, bare), probeLimit)
    if (Option.contains(shared, true)) return yield* byTransaction(address)
    poolers.keep.add(address)
  }
  opened.set(connection, { ...backend, settings })
  return connection
})
