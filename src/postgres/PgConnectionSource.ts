/**
 * PostgreSQL connections for a `ConnectionPool`.
 *
 * Every connection lives in the scope it was opened in and says goodbye (`Terminate`) when that closes; the source closes when
 * the server has closed its side of each, and so has no backend of it any more, at most a second later. A statement that is
 * interrupted is cancelled at the server over a side channel, and the interruption is over when the server has said so.
 *
 * **Details**
 *
 * `recycle` says what a returned connection goes through, see `PgRecycle`; the recipe `foreign` also makes the connections
 * prepare nothing. A connection whose cancel nobody confirmed is closed, and its backend watched until it is gone, see
 * `PgReaper`.
 *
 * Every connection asks the server to notice a lost client within a second (`client_connection_check_interval`), so that a
 * killed process leaves no running statement. That needs PostgreSQL 14.
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import * as Config from "effect/Config"
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import { hasProperty } from "effect/Predicate"
import * as Reactivity from "effect/reactivity/Reactivity"
import { isSqlError } from "effect/sql/SqlError"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Deadlines from "../lifetime/Deadlines.ts"
import { ConnectionError, InvalidConfig, NoRoom, ResetFailed, Unavailable } from "../connection/ConnectionError.ts"
import { ConnectionSource, type Lent, type OpenConnection, type Recall, Role } from "../connection/ConnectionSource.ts"
import * as PgDriver from "./internal/PgDriver.ts"
import * as PgFrames from "./internal/PgFrames.ts"
import * as PgOpening from "./internal/PgOpening.ts"
import * as PgReaper from "./internal/PgReaper.ts"
import * as PgRecycle from "./PgRecycle.ts"
import * as PgSilence from "./internal/PgSilence.ts"
import * as PgSqlClient from "./internal/PgSqlClient.ts"
import * as PgTarget from "./internal/PgTarget.ts"
import * as PgUrl from "./internal/PgUrl.ts"
import * as PgWire from "./internal/PgWire.ts"
import * as Timers from "../lifetime/internal/Timers.ts"

/** Where and as whom to connect. Every time is at most 24 days. */
export interface Options {
  /** `postgres://user:password@host:port/database`. */
  readonly url: Redacted.Redacted<string>
  /**
   * Asked for on each connect, within `connectTimeout`, and takes the place of the password in the URL: for passwords that change, such as IAM
   * tokens. Where it fails, the connection could not be opened.
   */
  readonly password?: Effect.Effect<Redacted.Redacted<string>, unknown> | undefined
  /** Default: `PgRecycle.complete`. */
  readonly recycle?: PgRecycle.Recipe | undefined
  /** Shown by the server to operators. Default: `holdfast`. */
  readonly applicationName?: string | undefined
  /** Default: 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** How long one statement may run. Default: 1 hour. */
  readonly statementTimeout?: Duration.Input | undefined
  /** How long a transaction may be open with nothing running in it. Default: 1 minute. */
  readonly idleInTransactionTimeout?: Duration.Input | undefined
  /** Further settings of every connection, such as `search_path`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /**
   * Who logs in for a role that a borrower asked the pool for (`lease({ role })`). It is asked on each connect and must be quick.
   * Default: nobody; a borrower that asks for a role gets an error.
   */
  readonly login?: ((role: string) => Login | undefined) | undefined
  /**
   * Run when the server refuses to let the role in (SQLSTATE class 28), or `undefined` for the one of the URL; the connection is
   * tried once more after it. For a role whose password somebody has changed, or that has to be made first. Default: nothing.
   */
  readonly onRefused?: ((role: string | undefined) => Effect.Effect<unknown, unknown>) | undefined
}

/** A role of the server and its password. */
export interface Login {
  readonly username: string
  readonly password: Redacted.Redacted<string>
}

const invalid = (field: string, problem: string) =>
  Effect.fail(new ConnectionError({ reason: new InvalidConfig({ field, problem }) }))

const targetOf = (url: Redacted.Redacted<string>) =>
  Effect.suspend(() => {
    const target = PgTarget.resolve(url)
    return target instanceof PgUrl.UrlProblem ? invalid("url", target.problem) : Effect.succeed(target)
  })

const millis = (field: string, input: Duration.Input) =>
  Option.match(
    Option.filter(Duration.fromInput(input), (it) => Duration.isFinite(it) && Duration.toMillis(it) >= 1),
    {
      onNone: () => invalid(field, `must be a positive, finite duration such as "10 seconds", not ${String(input)}`),
      onSome: (it) =>
        Duration.isGreaterThan(it, Timers.longest)
          ? invalid(field, `${Timers.tooLong}, not ${String(input)}`)
          : Effect.succeed(Math.ceil(Duration.toMillis(it)))
    }
  )

/** The options as the driver takes them. Fails with `InvalidConfig` naming what makes no sense. */
export const configOf = Effect.fnUntraced(function* (options: Options) {
  const target = yield* targetOf(options.url)
  const patience = Duration.min(target.connectTimeout ?? Duration.seconds(5), Timers.longest)
  const connectTimeout = yield* millis("connectTimeout", options.connectTimeout ?? patience)
  const statementTimeout = yield* millis("statementTimeout", options.statementTimeout ?? "1 hour")
  for (const name of Object.keys(options.settings ?? {})) {
    if (name.toLowerCase() !== "statement_timeout") continue
    return yield* invalid(`settings.${name}`, "belongs to the option statementTimeout. Use that")
  }
  const idleInTransaction = yield* millis("idleInTransactionTimeout", options.idleInTransactionTimeout ?? "1 minute")
  const config = {
    ...target.config,
    // The driver takes no provider that fails.
    ...(options.password !== undefined && { password: Effect.orDie(options.password) }),
    applicationName: options.applicationName ?? target.applicationName ?? "holdfast",
    connectTimeout,
    // A connection that a firewall forgot is noticed while it is idle.
    keepAlive: "15 seconds",
    startupParameters: {
      client_connection_check_interval: "1s",
      // How long a connection may be idle is the pool's to say.
      idle_session_timeout: "0",
      // How values are written is not for a role's or a database's settings to decide.
      bytea_output: "hex",
      DateStyle: "ISO",
      IntervalStyle: "postgres",
      extra_float_digits: "1",
      statement_timeout: String(statementTimeout),
      idle_in_transaction_session_timeout: String(idleInTransaction),
      ...options.settings
    }
  } as const
  return config satisfies PgConnection.Config
})

const noWire =
  "This version of @effect/sql-pg does not show its socket, so connections cannot be reset and are opened anew. Install @effect/sql-pg ~4.0.5."

const send = (wire: PgWire.PgWire, compiled: PgRecycle.Compiled) =>
  compiled.cycles === 0
    ? Effect.succeed([])
    : Effect.map(wire.exchange(compiled), (answers) =>
        compiled.generators.flatMap((cycle) => answers[cycle] ?? []).map(([statement]) => statement)
      )

/** What was prepared for the reset is gone, and so is everything that the driver believes to have prepared. */
const explained = (error: PgWire.ExchangeFailed) =>
  error.code === "26000"
    ? new Error("A borrower sent DEALLOCATE ALL or DISCARD ALL. For such SQL, open the pool with PgRecycle.foreign.")
    : error

/** Prepares a connection for a recipe; the effect within follows it. */
const resetOver = (
  wire: PgWire.PgWire,
  recipe: Record<"prepare" | "reset" | "outsideTransaction", PgRecycle.Compiled>
) => {
  const once = Effect.suspend(() => send(wire, wire.isOutsideTransaction() ? recipe.outsideTransaction : recipe.reset))
  const prepare = send(wire, recipe.prepare)
  const reset = Effect.flatMap(once, (statements) =>
    statements.length === 0
      ? Effect.void
      : Effect.asVoid(wire.exchange({ messages: PgFrames.query(statements.join(";")), cycles: 1 }))
  ).pipe(Effect.mapError(explained))
  // What travelled behind a statement that left a transaction open did not undo that.
  const rest = Effect.suspend(() => {
    const behind = wire.takeBehind()
    return behind === undefined
      ? reset
      : Effect.flatMap(Effect.exit(behind), (exit) =>
          Exit.isSuccess(exit) && wire.isOutsideTransaction() ? Effect.void : reset
        )
  })
  return Effect.as(prepare, rest)
}

/** What may travel behind a statement: there is nothing to be sent after it was answered. */
const behindOf = ({ outsideTransaction }: Record<"outsideTransaction", PgRecycle.Compiled>) =>
  outsideTransaction.cycles > 0 && outsideTransaction.generators.length === 0 ? outsideTransaction : undefined

/** How long what a backend said last may travel. */
const lastWords = Duration.millis(300)

/** How much later than its own end a statement's answer may arrive. */
const lateAnswer = Duration.seconds(5)

/** The server ends a statement in time; where no answer comes even then, the network is gone. */
export const answerLimit = ({ startupParameters }: Effect.Success<ReturnType<typeof configOf>>): Duration.Duration =>
  Duration.sum(Duration.millis(Number(startupParameters.statement_timeout)), lateAnswer)

/** What a server says that has no room for one more connection, by its code, and what poolers say. */
const isFull = (cause: unknown, role: string | undefined) =>
  // What one role has used up is no matter of the others'.
  !(role !== undefined && cause instanceof Error && /too many connections for role/i.test(cause.message)) &&
  ((hasProperty(cause, "code") && cause.code === "53300") ||
    /too many (client )?connections|no more connections allowed|max client(s| connections) reached/i.test(
      cause instanceof Error ? cause.message : ""
    ))

const isRefused = (error: unknown) => {
  const cause = isSqlError(error) ? error.reason.cause : error
  return hasProperty(cause, "code") && typeof cause.code === "string" && cause.code.startsWith("28")
}

const noLogin = new Error(
  "A borrower asked for a role, and PgConnectionSource has no option login that says who logs in."
)

/** Makes a source. Fails with `InvalidConfig` naming what makes no sense. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const config = yield* configOf(options)
  const { where: name } = yield* targetOf(options.url)
  const reactivity = yield* Reactivity.Reactivity
  const recycle = options.recycle ?? PgRecycle.complete
  const unavailable = (error: unknown, role?: string) => {
    const cause = isSqlError(error) ? (error.reason.cause ?? error) : error
    const Reason = isFull(cause, role) ? NoRoom : Unavailable
    return new ConnectionError({ reason: new Reason({ source: name, cause }) })
  }
  const recipe = PgRecycle.compile(recycle)
  const recipeOf = (connection: PgConnection.PgConnection) => {
    const message = PgOpening.settingsOf(connection)
    return message === undefined || recycle.steps.length === 0
      ? recipe
      : PgRecycle.compile({ ...recycle, steps: [...recycle.steps, { name: "pooler", sql: "", message }] })
  }
  const deadlines = yield* Deadlines.make(answerLimit(config))
  const connect = yield* PgDriver.connect
  const reaper = yield* PgReaper.make({ ...config, applicationName: "holdfast-reaper" }, connect)
  const silence = yield* PgSilence.make({ ...config, applicationName: "holdfast-watch" }, connect)

  const connectAs = (role: string | undefined) => {
    if (role !== undefined && options.login === undefined) return Effect.fail(noLogin)
    const login = role === undefined ? undefined : options.login?.(role)
    if (role !== undefined && login === undefined) return Effect.fail(new Error(`Nobody logs in for ${role}`))
    const connected = Effect.suspend(() =>
      connect({
        ...config,
        ...login,
        // Pinning is what lends it; multiplexing lets a check that is late be given up at once.
        multiplex: true,
        prepare: recycle.prepare
      })
    )
    const { onRefused } = options
    if (onRefused === undefined) return connected
    return Effect.catchIf(connected, isRefused, (error) =>
      onRefused(role).pipe(
        Effect.tapCause((cause) =>
          LogEvent.warning({ event: "role.failed", role }, `A role cannot be put right: ${role ?? "of the URL"}`, cause)
        ),
        Effect.mapError(() => error),
        Effect.andThen(connected)
      )
    )
  }

  const open = Effect.gen(function* () {
    const connection = yield* connectAs(yield* Role)
    const backend = yield* Effect.fromNullishOr(PgOpening.backendOf(connection))
    const recipe = recipeOf(connection)
    const behind = behindOf(recipe)
    const state = PgDriver.watch(connection)
    const { heardAt } = silence.watch(connection)
    const lend = (recall: Recall) =>
      Effect.map(connection.pin, (pinned): Lent => ({
        sql: Effect.provideService(
          PgSqlClient.make(pinned, { ...recall, deadlines }, state),
          Reactivity.Reactivity,
          reactivity
        ),
        services: Context.make(PgDriver.Pinned, { connection, pinned, reset: behind })
      }))
    const wire = PgWire.attach(connection)
    const reset = wire === undefined ? Effect.fail(new Error(noWire)) : yield* resetOver(wire, recipe)
    return {
      id: String(backend.pid),
      lend,
      check: Effect.mapError(connection.query("SELECT 1", [], false), (error) => unavailable(error)).pipe(
        Effect.asVoid
      ),
      reset: Effect.mapError(
        reset,
        (cause) => new ConnectionError({ reason: new ResetFailed({ source: name, cause }) })
      ),
      state,
      heardAt,
      expel: (grace) =>
        Effect.andThen(
          reaper.expel(backend, grace),
          // The last words of a backend that is gone are on their way.
          Effect.timeoutOption(PgWire.closed(connection), lastWords)
        )
    } satisfies OpenConnection
  })

  const opening = Effect.flatMap(Role, (role) =>
    Effect.mapError(
      // The driver's own time limit and errors know nothing of what fails in here.
      Effect.catchDefect(open, (defect) => Effect.fail(defect)),
      (error) => unavailable(error, role)
    )
  )
  return ConnectionSource.of({ name, open: opening })
})

/** A source of PostgreSQL connections. */
export const layer = (options: Options): Layer.Layer<ConnectionSource, ConnectionError> =>
  Layer.effect(ConnectionSource, make(options)).pipe(Layer.provide(Reactivity.layer))

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("DATABASE_URL") })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<ConnectionSource, ConnectionError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
