/**
 * Sizes and time limits of a `ConnectionPool`: what may be set, what it is where it is not, and what makes no sense.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlClient } from "effect/sql/SqlClient"
import { ConnectionError, InvalidConfig } from "../ConnectionError.ts"

/** Every wait is finite: nobody waits for a pool for ever, and no unused connection is kept for ever. */
export interface Options {
  /** What metrics call the pool, in the label `source`. Default: the name of its source, such as `db.internal:5432/shop`. */
  readonly name?: string | undefined
  /** Connections kept open even when nobody uses them. Default: 0. */
  readonly min?: number | undefined
  /** Connections open at most. Default: 10. */
  readonly max?: number | undefined
  /** Borrowers that may wait at once; one more is refused at once. Default: 1,000. */
  readonly maxWaiting?: number | undefined
  /** How long a borrower waits for a connection. Default: 10 seconds. */
  readonly acquireTimeout?: Duration.Input | undefined
  /** How long a connection above `min` stays open unused. Default: 1 minute. */
  readonly idleTimeout?: Duration.Input | undefined
  /** How old a connection becomes, less up to a tenth so that they do not all go at once. Default: 30 minutes. */
  readonly maxLifetime?: Duration.Input | undefined
  /** How often a connection is lent before it is closed. Default: without limit. */
  readonly maxUses?: number | undefined
  /**
   * A connection that was not heard from for longer is asked whether it is alive before it is lent. One that stays idle is
   * asked as often, but not more often than every 8 seconds. Default: 1 second.
   */
  readonly checkAfterIdle?: Duration.Input | undefined
  /**
   * How long that answer may take, and the reset of a returned connection. More closes the connection, and all idle ones that
   * were not heard from since either. Default: 3 seconds.
   */
  readonly resetTimeout?: Duration.Input | undefined
  /**
   * Run on each new connection before it is lent for the first time, within `acquireTimeout`. Where it fails, the connection is
   * closed as one that could not be opened. The reset of a returned connection undoes its settings: give those to the source.
   */
  readonly onOpen?: Effect.Effect<unknown, unknown, SqlClient> | undefined
  /**
   * How long a lease may last. After it the statement is ended at the server, the connection is closed, and the borrower's
   * statements fail with `LeaseExpired`. Default: without limit.
   */
  readonly maxLease?: Duration.Input | undefined
  /** A lease held for longer is logged once, with the place it was taken at. Default: 5 minutes. */
  readonly leakWarning?: Duration.Input | undefined
  /** How long closing waits for borrowers before their connections are ended at the server. Default: 5 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
}

/** The options as the engine uses them. */
export type Limits = {
  readonly [Name in keyof typeof durations]: Duration.Duration
} & {
  readonly min: number
  readonly max: number
  readonly maxWaiting: number
  readonly maxUses: number
  readonly maxLease: Duration.Duration
  readonly onOpen: Options["onOpen"]
}

const durations = {
  acquireTimeout: Duration.seconds(10),
  idleTimeout: Duration.minutes(1),
  maxLifetime: Duration.minutes(30),
  checkAfterIdle: Duration.seconds(1),
  resetTimeout: Duration.seconds(3),
  leakWarning: Duration.minutes(5),
  closeTimeout: Duration.seconds(5)
}

const invalid = (field: string, problem: string) =>
  Effect.fail(new ConnectionError({ reason: new InvalidConfig({ field, problem }) }))

const count = (field: keyof Options, value: number, least: number) =>
  Number.isSafeInteger(value) && value >= least
    ? Effect.succeed(value)
    : invalid(field, `must be a whole number of at least ${least}, not ${value}`)

const isUsable = (duration: Duration.Duration) => Duration.isFinite(duration) && Duration.toMillis(duration) > 0

const duration = (field: keyof Options, value: Duration.Input) => {
  const given = Option.filter(Duration.fromInput(value), isUsable)
  return Option.isSome(given)
    ? Effect.succeed(given.value)
    : invalid(field, `must be a positive, finite duration such as "10 seconds", not ${String(value)}`)
}

/** Fails with `InvalidConfig` naming the first field that makes no sense. */
export const decode = Effect.fnUntraced(function* (options: Options) {
  const max = yield* count("max", options.max ?? 10, 1)
  const min = yield* count("min", options.min ?? 0, 0)
  if (min > max) return yield* invalid("min", `(${min}) must not be above max (${max})`)
  const of = (field: keyof typeof durations) => duration(field, options[field] ?? durations[field])
  const limits: Limits = {
    min,
    max,
    maxWaiting: yield* count("maxWaiting", options.maxWaiting ?? 1000, 0),
    maxUses: options.maxUses === undefined ? Infinity : yield* count("maxUses", options.maxUses, 1),
    maxLease: options.maxLease === undefined ? Duration.infinity : yield* duration("maxLease", options.maxLease),
    onOpen: options.onOpen,
    acquireTimeout: yield* of("acquireTimeout"),
    idleTimeout: yield* of("idleTimeout"),
    maxLifetime: yield* of("maxLifetime"),
    checkAfterIdle: yield* of("checkAfterIdle"),
    resetTimeout: yield* of("resetTimeout"),
    leakWarning: yield* of("leakWarning"),
    closeTimeout: yield* of("closeTimeout")
  }
  return limits
})
