/**
 * How a `PgSessionStore` is configured, and what its connections have in common.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { type SqlError, isSqlError } from "effect/sql/SqlError"
import * as Timers from "../../lifetime/internal/Timers.ts"
import * as PgTarget from "./PgTarget.ts"
import type * as SessionCipher from "../../session/SessionCipher.ts"
import type * as SessionPruning from "../../session/SessionPruning.ts"
import { SessionError, SessionsUnavailable, SessionTokenTaken } from "../../session/SessionError.ts"

/** Where the sessions are. */
export interface Options {
  /** `postgres://user:password@host:port/database`. One that can never work is a defect when the store is made. */
  readonly url: Redacted.Redacted<string>
  /** Lower-case letters, digits and underscores. Default: `holdfast`. */
  readonly schema?: string | undefined
  /** At least 2: half for loads, half for writes. The one that listens comes on top. Default: 10. */
  readonly maxConnections?: number | undefined
  /** How long an operation may take, waiting for a connection included; at most 24 days. Default: 3 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** How often the connection that listens is asked whether it is there. Default: 4 seconds. */
  readonly listenerCheck?: Duration.Input | undefined
  /**
   * Room for sessions that were loaded lately, so that their next load fetches only what changed. Each load asks the
   * database, whatever is remembered. Default: 16 MiB; 0 for none.
   */
  readonly rememberedBytes?: number | undefined
  /**
   * What the data of sessions is encrypted with: the first one encrypts, all decrypt, see `SessionCipher`. Keys that make no sense
   * are a defect when the store is made. Default: none, the data is stored as it is.
   */
  readonly keys?: ReadonlyArray<SessionCipher.Key> | undefined
  /** How sessions that are over are pruned; `false` where another program does it. Default: every minute. */
  readonly pruning?: SessionPruning.Options | false | undefined
  /** Shown by the server to operators. Default: `holdfast-sessions`. */
  readonly applicationName?: string | undefined
}

/** How long bringing the tables up to date may take. */
export const migrationTimeout = Duration.seconds(30)

/** How long an operation may take. */
export const limitOf = ({ operationTimeout }: Options): Duration.Duration =>
  Timers.clamp(Duration.fromInputUnsafe(operationTimeout ?? "3 seconds"))

/** The schema, which goes into statements as it is. */
export const schemaOf = (options: Options): Effect.Effect<string> => {
  const schema = options.schema ?? "holdfast"
  const problem = PgTarget.problemOf(options.url)
  if (problem !== undefined) return Effect.die(new TypeError(`The URL of the sessions' database ${problem}`))
  return /^[a-z_][a-z0-9_]{0,62}$/.test(schema)
    ? Effect.succeed(schema)
    : Effect.die(new TypeError(`The schema of the sessions must be lower-case letters, digits and underscores`))
}

/** What every connection of the store is opened with. */
export const connectionOf = (options: Options, connectTimeout: Duration.Duration, limit: Duration.Duration) => {
  const limitMillis = String(Math.ceil(Duration.toMillis(limit)))
  const { applicationName, config, connectTimeout: longer } = PgTarget.of(options.url)
  return {
    ...config,
    applicationName: options.applicationName ?? applicationName ?? "holdfast-sessions",
    connectTimeout: Duration.min(connectTimeout, longer ?? connectTimeout),
    // Finds out about a connection that a firewall forgot while nobody uses it.
    keepAlive: "15 seconds",
    startupParameters: {
      // The server ends what we have given up, and what a killed process or a lost network left behind.
      client_connection_check_interval: "1s",
      statement_timeout: limitMillis,
      idle_in_transaction_session_timeout: limitMillis,
      // What the database, the role or the environment may say otherwise. A write that waited for another goes on with what
      // that one left.
      default_transaction_isolation: "read committed",
      DateStyle: "ISO",
      // Every statement goes from key to key and is planned once, also while the tables are small or nobody has counted
      // their rows yet: a plan that reads them from end to end would stay when they have grown.
      plan_cache_mode: "force_generic_plan",
      enable_seqscan: "off",
      enable_hashjoin: "off",
      enable_mergejoin: "off"
    }
  } as const
}

/** The store did not answer, or not what it should. */
export const unavailable = (cause: unknown) => new SessionError({ reason: new SessionsUnavailable({ cause }) })

/** It did not answer in time. */
export const late = (limit: string) => unavailable(new Error(`No answer within ${limit}`))

const ServerError = Schema.Struct({ code: Schema.String, message: Schema.String })
const isServerError = Schema.is(ServerError)

/**
 * A failure of the driver's as the store reports it. Of what the server says, only the message and the code: its details
 * hold values of the row, the hash of a token among them.
 */
export const toSessionError = (error: SessionError | SqlError): SessionError => {
  if (!isSqlError(error)) return error
  const cause = error.reason.cause ?? error
  // 23505 unique_violation. The ids of sessions are made here and are not met again.
  if (isServerError(cause) && cause.code === "23505") return new SessionError({ reason: new SessionTokenTaken() })
  return unavailable(isServerError(cause) ? new Error(`${cause.message} (${cause.code})`) : cause)
}

/** 25006 read-only transaction; 55000 what a standby answers to `pg_current_wal_lsn`. */
const ofStandby = new Set(["25006", "55000"])

/** Whether the server only reads, as one that was the primary, or is not yet. */
export const isStandby = ({ reason: { cause } }: SqlError): boolean => isServerError(cause) && ofStandby.has(cause.code)
