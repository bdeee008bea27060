/**
 * PostgreSQL connections for a `ConnectionPool`.
 *
 * Every connection lives in the scope it was opened in and says goodbye (`Terminate`) when that closes. A statement that is
 * interrupted is cancelled at the server over a side channel, and the interruption is over when the server has said so.
 *
 * **Details**
 *
 * `recycle` decides what a returned connection goes through before the next borrower gets it, in one round trip:
 *
 * - `"own"` for pools on which only the app's own SQL runs: a rollback and a list of named resets that leave the driver's
 *   prepared statements alone (`DISCARD ALL` would break the next transaction of a driver that prepares `BEGIN`).
 * - `"foreign"` for pools on which somebody else's SQL runs: nothing is prepared, and `ROLLBACK` with `DISCARD ALL` leaves
 *   nothing behind.
 *
 * Every connection asks the server to notice a lost client within a second (`client_connection_check_interval`), so that a
 * killed process leaves no running statement. That needs PostgreSQL 14.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import { ConnectionError, InvalidConfig, Unavailable } from "./ConnectionError.ts"
import { ConnectionSource, type OpenConnection } from "./ConnectionSource.ts"
import * as PgDriver from "./PgDriver.ts"
import * as PgSqlClient from "./PgSqlClient.ts"

/** Where and as whom to connect. */
export interface Options {
  /** `postgres://user:password@host:port/database`. */
  readonly url: Redacted.Redacted<string>
  /** Default: `"own"`. */
  readonly recycle?: "own" | "foreign" | undefined
  /** Shown by the server to operators. Default: `holdfast`. */
  readonly applicationName?: string | undefined
  /** Default: 5 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** Further settings of every connection, such as `statement_timeout`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

const own: ReadonlyArray<string> = [
  "ROLLBACK",
  "RESET SESSION AUTHORIZATION",
  "RESET ALL",
  "CLOSE ALL",
  "UNLISTEN *",
  "SELECT pg_advisory_unlock_all()",
  "DISCARD TEMP",
  "DISCARD SEQUENCES"
]
const foreign: ReadonlyArray<string> = ["ROLLBACK", "DISCARD ALL"]

const describe = (url: URL) => `${url.hostname}:${url.port || "5432"}${url.pathname}`

const parse = (url: Redacted.Redacted<string>) =>
  Effect.suspend(() => {
    const parsed = URL.parse(Redacted.value(url))
    return parsed === null || !["postgres:", "postgresql:"].includes(parsed.protocol)
      ? Effect.fail(
          new ConnectionError({
            reason: new InvalidConfig({
              field: "url",
              problem: "is not a PostgreSQL URL. Write postgres://user:password@host:port/database"
            })
          })
        )
      : Effect.succeed(parsed)
  })

/** Makes a source. Fails with `InvalidConfig` where the URL is none. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const name = describe(yield* parse(options.url))
  const reactivity = yield* Reactivity.Reactivity
  const recycle = options.recycle ?? "own"
  const unavailable = (cause: SqlError) =>
    new ConnectionError({ reason: new Unavailable({ source: name, cause: cause.reason.cause ?? cause }) })

  const open = Effect.gen(function* () {
    const connection = yield* PgConnection.make({
      url: options.url,
      applicationName: options.applicationName ?? "holdfast",
      // Pinning is what lends it; multiplexing lets the whole reset travel in one round trip.
      multiplex: true,
      prepare: recycle === "own",
      startupParameters: { client_connection_check_interval: "1s", ...options.settings },
      ...(options.connectTimeout !== undefined && { connectTimeout: options.connectTimeout })
    })
    const isUsable = PgDriver.watch(connection)
    const lend = Effect.gen(function* () {
      const pinned = yield* connection.pin
      const sql = yield* PgSqlClient.make(pinned)
      return Context.make(SqlClient.SqlClient, sql).pipe(Context.add(PgDriver.Pinned, { connection, pinned }))
    }).pipe(Effect.provideService(Reactivity.Reactivity, reactivity))
    const reset = Effect.forEach(
      recycle === "own" ? own : foreign,
      (statement) => connection.query(statement, [], false),
      { concurrency: "unbounded", discard: true }
    )
    return {
      id: String(connection.processId),
      lend,
      reset: Effect.mapError(reset, unavailable),
      isUsable
    } satisfies OpenConnection
  })

  return ConnectionSource.of({ name, open: Effect.mapError(open, unavailable) })
})

/** A source of PostgreSQL connections. */
export const layer = (options: Options): Layer.Layer<ConnectionSource, ConnectionError> =>
  Layer.effect(ConnectionSource, make(options)).pipe(Layer.provide(Reactivity.layer))
