/**
 * Sizes and time limits of a `ConnectionPool`: what may be set, what it is where it is not, and what makes no sense.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { ConnectionError, InvalidConfig } from "../ConnectionError.ts"

/** Every limit is finite: nothing in a pool waits or lives for ever. */
export interface Options {
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
  /** A connection unused for longer is asked whether it is alive before it is lent. Default: 30 seconds. */
  readonly checkAfterIdle?: Duration.Input | undefined
  /** How long that answer may take, and the reset of a returned connection. More closes the connection. Default: 3 seconds. */
  readonly resetTimeout?: Duration.Input | undefined
  /** A lease held for longer is logged once, with the place it was taken at. Default: 5 minutes. */
  readonly leakWarning?: Duration.Input | undefined
  /** How long closing waits for borrowers before their connections are ended at the server. Default: 5 seconds. */
  readonly closeTimeout?: Duration.Input | undefined
}

/** The options as the engine uses them. */
export type Limits = {
  readonly [Name in keyof typeof durations]: Duration.Duration
} & { readonly min: number; readonly max: number; readonly maxWaiting: number }

const durations = {
  acquireTimeout: Duration.seconds(10),
  idleTimeout: Duration.minutes(1),
  maxLifetime: Duration.minutes(30),
  checkAfterIdle: Duration.seconds(30),
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

const duration = (options: Options, field: keyof typeof durations) => {
  const given = Option.filter(Duration.fromInput(options[field] ?? durations[field]), isUsable)
  return Option.isSome(given)
    ? Effect.succeed(given.value)
    : invalid(field, `must be a positive, finite duration such as "10 seconds", not ${String(options[field])}`)
}

/** Fails with `InvalidConfig` naming the first field that makes no sense. */
export const decode = Effect.fnUntraced(function* (options: Options) {
  const max = yield* count("max", options.max ?? 10, 1)
  const min = yield* count("min", options.min ?? 0, 0)
  if (min > max) return yield* invalid("min", `(${min}) must not be above max (${max})`)
  const limits: Limits = {
    min,
    max,
    maxWaiting: yield* count("maxWaiting", options.maxWaiting ?? 1000, 0),
    acquireTimeout: yield* duration(options, "acquireTimeout"),
    idleTimeout: yield* duration(options, "idleTimeout"),
    maxLifetime: yield* duration(options, "maxLifetime"),
    checkAfterIdle: yield* duration(options, "checkAfterIdle"),
    resetTimeout: yield* duration(options, "resetTimeout"),
    leakWarning: yield* duration(options, "leakWarning"),
    closeTimeout: yield* duration(options, "closeTimeout")
  }
  return limits
})
