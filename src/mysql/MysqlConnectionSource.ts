/**
 * Opens connections to MySQL or MariaDB for a `ConnectionPool`.
 *
 * A source lives as long as its layer; every connection lives in the scope that it was opened in. What a borrower leaves behind
 * is undone by the protocol's own reset, which rolls back, drops temporary tables and gives locks and settings back.
 *
 * **Details**
 *
 * A connection that the server is to be rid of is ended with `KILL` from another connection of the same user, and watched until
 * it is gone. The server's number of a connection is used again after a restart: it is ended only where the server
 * has it under the address that it was opened from. A server that says nothing for 15 seconds while statements run is given up
 * with them.
 *
 * Install `mysql2` beside Holdfast. Tried with MariaDB 10.11.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import { isSqlError, type SqlError } from "effect/sql/SqlError"
import { ConnectionError, InvalidConfig, NoRoom, ResetFailed, Unavailable } from "../connection/ConnectionError.ts"
import { ConnectionSource, type OpenConnection } from "../connection/ConnectionSource.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as MysqlSqlClient from "./internal/MysqlSqlClient.ts"
import * as MysqlTarget from "./internal/MysqlTarget.ts"
import * as MysqlWire from "./internal/MysqlWire.ts"

/** Where to connect. */
export interface Options {
  /**
   * `mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE`; `?ssl-mode=verify_identity` with `&ssl-ca=FILE` beyond this machine. The scheme
   * may be `mariadb`.
   */
  readonly url: Redacted.Redacted<string>
  /** Instead of one in the URL. */
  readonly password?: Redacted.Redacted<string> | undefined
  /** Default: 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
}

/** What is wrong with a URL, if anything, without saying what it holds. */
export const problemOf = MysqlTarget.problemOf

/** `host:port/database` of a URL that nothing is wrong with. */
export const whereOf = (url: Redacted.Redacted<string>): string => MysqlTarget.of(url).where

/** Whether something may pass a network in clear text, or to a server that nobody checked. */
export const isInClear = (url: Redacted.Redacted<string>): boolean => MysqlTarget.of(url).isInClear

const codeOf = (error: SqlError) => {
  const { cause } = error.reason
  return cause instanceof Error && "errno" in cause ? Number(cause.errno) : 0
}

/** ER_CON_COUNT_ERROR, ER_TOO_MANY_USER_CONNECTIONS, ER_USER_LIMIT_REACHED. */
const full: ReadonlySet<number> = new Set([1040, 1203, 1226])

/** How often the server is asked while statements run, and when it is given up. */
const askEvery = Duration.seconds(5)
const silentAfter = 12_000

interface Known {
  readonly wire: MysqlWire.Wire
  /** As the server sees us. */
  readonly host: string
}

/** Makes a source. Fails with `InvalidConfig` where the URL makes no sense. */
export const make = Effect.fnUntraced(function* ({ connectTimeout = "5 seconds", password, url }: Options) {
  const problem = MysqlTarget.problemOf(url)
  if (problem !== undefined) {
    return yield* new ConnectionError({ reason: new InvalidConfig({ field: "url", problem }) })
  }
  const target = MysqlTarget.of(url)
  const name = target.where
  const clock = yield* Clock.Clock
  const reactivity = yield* Reactivity.Reactivity
  const connect = (limit: Duration.Input) =>
    MysqlWire.open(target, password ?? target.password, Duration.fromInputUnsafe(limit))
  const unavailable = (error: SqlError) => {
    const cause = isSqlError(error) ? error.reason.cause : error
    const Reason = full.has(codeOf(error)) ? NoRoom : Unavailable
    return new ConnectionError({ reason: new Reason({ source: name, cause }) })
  }
  const known = new Set<Known>()
  // Many who cancel at the same moment must not take all the server's places.
  const beside = yield* Semaphore.make(16)

  /**
   * What we may see of the server's connections are our own. Its number alone says nothing: a server that was started again gives it to
   * another one.
   */
  const find = "select 1 from information_schema.processlist where id = ? and host = ?"
  const isGone = (beside: MysqlWire.Wire, { host, wire }: Known) =>
    Effect.map(beside.ask(find, [BigInt(wire.threadId), host]), ({ rows }) => rows.length === 0)
  /** Without it, it asks again and again, and is gone from the server when it returns. */
  const expel = (one: Known, grace: Duration.Duration) => {
    const watched = (beside: MysqlWire.Wire) =>
      Effect.repeat(isGone(beside, one), { until: (gone) => gone, schedule: Schedule.spaced("20 millis") })
    const once = Effect.scoped(
      Effect.gen(function* () {
        const beside = yield* connect("3 seconds")
        const inTime = yield* Effect.timeoutOption(watched(beside), Duration.max(grace, Duration.millis(1)))
        if (inTime._tag === "Some" || (yield* isGone(beside, one))) return
        // It may end by itself at this moment (ER_NO_SUCH_THREAD).
        yield* Effect.ignore(beside.ask(`kill connection ${one.wire.threadId}`))
        yield* watched(beside)
      })
    )
    return once.pipe(
      Effect.timeout("10 seconds"),
      Effect.retry(Schedule.spaced("500 millis")),
      Effect.ignore,
      Effect.andThen(Effect.sync(() => one.wire.destroy()))
    )
  }

  const cancel = (one: Known) =>
    Effect.gen(function* () {
      if (one.wire.isClosed()) return
      const beside = yield* connect("3 seconds")
      if (!(yield* isGone(beside, one))) yield* beside.query(`kill query ${one.wire.threadId}`)
    }).pipe(Effect.scoped, beside.withPermit)

  // A server that says nothing while statements run has gone, or the network has.
  const watch = Effect.suspend(() => {
    const now = SteadyClock.millis(clock)
    const silent = Array.from(known).filter(({ wire }) => now - wire.heardAt() > Duration.toMillis(askEvery))
    if (silent.length === 0) return Effect.void
    return Effect.scoped(Effect.asVoid(connect("3 seconds"))).pipe(
      // A server that refuses us is there.
      Effect.catchIf(
        (error) => codeOf(error) > 0,
        () => Effect.void
      ),
      Effect.match({
        onSuccess: () => {
          for (const { wire } of silent) wire.heard()
        },
        onFailure: () => {
          const then = SteadyClock.millis(clock) - silentAfter
          for (const { wire } of silent) if (wire.heardAt() < then) wire.destroy()
        }
      })
    )
  })
  yield* Effect.forkScoped(Effect.repeat(watch, Schedule.spaced(askEvery)))

  const open = Effect.gen(function* () {
    const wire = yield* connect(connectTimeout)
    const { rows } = yield* wire.ask("select host from information_schema.processlist where id = connection_id()")
    const one: Known = { wire, host: String(rows[0]?.[0]) }
    yield* Effect.acquireRelease(
      Effect.sync(() => known.add(one)),
      () => Effect.sync(() => known.delete(one))
    )
    const reset = Effect.andThen(wire.reset, wire.ask(`use \`${target.database.replaceAll("`", "``")}\``))
    return {
      id: String(wire.threadId),
      lend: ({ kill }) =>
        Effect.succeed({
          sql: Effect.provideService(
            MysqlSqlClient.make({ wire, cancel: cancel(one) }, kill),
            Reactivity.Reactivity,
            reactivity
          ),
          services: Context.empty()
        }),
      check: Effect.mapError(wire.ping, unavailable),
      reset: Effect.mapError(
        Effect.asVoid(reset),
        (error) => new ConnectionError({ reason: new ResetFailed({ source: name, cause: error.reason.cause }) })
      ),
      state: () => (wire.isClosed() ? "dead" : "usable"),
      heardAt: wire.heardAt,
      expel: (grace) => expel(one, grace)
    } satisfies OpenConnection
  }).pipe(Effect.mapError(unavailable))

  return ConnectionSource.of({ name, open })
})

/** A source of connections to MySQL or MariaDB. */
export const layer = (options: Options): Layer.Layer<ConnectionSource, ConnectionError> =>
  Layer.effect(ConnectionSource, make(options)).pipe(Layer.provide(Reactivity.layer))
