/**
 * Lends connections of a `ConnectionSource`, one borrower at a time.
 *
 * The pool lives as long as its layer. A lease lives as long as the scope it was taken in: when that closes, the borrower's
 * view of the connection ends first, then the connection is reset, then it is free for the next borrower, or closed when
 * the reset failed or the connection cannot be trusted any more. Closing the pool waits for its leases.
 *
 * **Details**
 *
 * A borrower that waits longer than `acquireTimeout` gets `AcquireTimeout` naming the holders; one that gives up waiting
 * leaves no trace. Every lease and every open connection stands in the ledger, as `connection` and `backend`.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Pool from "effect/Pool"
import * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Ledger from "../Ledger.ts"
import { AcquireTimeout, ConnectionError, InvalidConfig, Unavailable } from "./ConnectionError.ts"
import { ConnectionSource, type OpenConnection } from "./ConnectionSource.ts"

/** A leased connection. */
export interface Lease {
  /** The source's name for the connection, such as a backend's process id. */
  readonly id: string
  readonly services: Context.Context<SqlClient.SqlClient>
}

/** Sizes and time limits; every limit is finite. */
export interface Options {
  /** Connections kept open even when nobody uses them. Default: 0. */
  readonly min?: number | undefined
  /** Connections open at most. Default: 10. */
  readonly max?: number | undefined
  /** How long a borrower waits for a connection. Default: 10 seconds. */
  readonly acquireTimeout?: Duration.Input | undefined
  /** How long a connection above `min` stays open unused. Default: 1 minute. */
  readonly idleTimeout?: Duration.Input | undefined
  /** How long the reset of a returned connection may take before the connection is closed instead. Default: 3 seconds. */
  readonly resetTimeout?: Duration.Input | undefined
}

/** Connections by state, of which `max` can be open. */
export interface Stats {
  readonly idle: number
  readonly leased: number
  readonly waiting: number
  readonly max: number
}

export class ConnectionPool extends Context.Service<
  ConnectionPool,
  {
    /** Leases a connection until the scope closes. Each call gets a connection nobody else has. */
    readonly lease: Effect.Effect<Lease, ConnectionError, Scope.Scope>
    readonly stats: Effect.Effect<Stats>
  }
>()("holdfast/connection/ConnectionPool") {}

const validate = Effect.fnUntraced(function* (options: Options) {
  const max = options.max ?? 10
  const min = options.min ?? 0
  const invalid = (field: string, problem: string) =>
    new ConnectionError({ reason: new InvalidConfig({ field, problem }) })
  if (!Number.isInteger(max) || max < 1)
    return yield* invalid("max", `must be a whole number of at least 1, not ${max}`)
  if (!Number.isInteger(min) || min < 0)
    return yield* invalid("min", `must be a whole number of at least 0, not ${min}`)
  if (min > max) return yield* invalid("min", `(${min}) must not be above max (${max})`)
  const duration = (field: "acquireTimeout" | "idleTimeout" | "resetTimeout", fallback: Duration.Duration) => {
    const given = Duration.fromInput(options[field] ?? fallback)
    return given._tag === "Some" && Duration.isFinite(given.value) && Duration.toMillis(given.value) > 0
      ? Effect.succeed(given.value)
      : Effect.fail(invalid(field, `must be a positive, finite duration, not ${String(options[field])}`))
  }
  return {
    max,
    min,
    acquireTimeout: yield* duration("acquireTimeout", Duration.seconds(10)),
    idleTimeout: yield* duration("idleTimeout", Duration.minutes(1)),
    resetTimeout: yield* duration("resetTimeout", Duration.seconds(3))
  }
})

/** Makes a pool that closes with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const { acquireTimeout, idleTimeout, max, min, resetTimeout } = yield* validate(options)
  const source = yield* ConnectionSource
  const ledger = yield* Ledger.Ledger

  const open = Ledger.hold(
    ({ connection }) => ({ kind: "backend", id: connection.id, attributes: { source: source.name } }),
    Effect.suspend(() => {
      const scope = Scope.makeUnsafe()
      return Effect.interruptible(Scope.provide(source.open, scope)).pipe(
        Effect.map((connection) => ({ connection, scope })),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
    }),
    ({ scope }, exit) => Scope.close(scope, exit)
  ).pipe(Effect.map(({ connection }) => connection))

  const pool = yield* Pool.makeWithTTL({
    acquire: open,
    min,
    max,
    timeToLive: idleTimeout,
    timeToLiveStrategy: "usage"
  })

  // Closing goes through the lines from below: the borrower's view, the verdict, the place in the pool.
  const lend = (scope: Scope.Closeable) => (connection: OpenConnection) =>
    Effect.gen(function* () {
      yield* Scope.addFinalizer(scope, verdict(connection))
      const services = yield* Scope.provide(connection.lend, scope)
      return { id: connection.id, services }
    })

  const verdict = (connection: OpenConnection) =>
    Effect.suspend(() => (connection.isUsable() ? connection.reset : Effect.void)).pipe(
      Effect.timeoutOrElse({
        duration: resetTimeout,
        orElse: () => Effect.fail(unavailable(source.name, new Error("The reset took too long")))
      }),
      Effect.catchCause((cause) =>
        Effect.andThen(
          Effect.logWarning(`Connection ${connection.id} to ${source.name} could not be reset and is closed`, cause),
          Pool.invalidate(pool, connection)
        )
      ),
      Effect.andThen(Effect.suspend(() => (connection.isUsable() ? Effect.void : Pool.invalidate(pool, connection))))
    )

  const timedOut = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const holdings = yield* ledger.holdings
    const holders = holdings
      .filter(({ attributes, kind }) => kind === "connection" && attributes.source === source.name)
      .map(({ id, kind, parent, since, site }) => {
        const holder = holdings.find(({ key }) => key === parent)
        return { kind: holder?.kind ?? kind, id: holder?.id ?? id, heldForMillis: now - since, site }
      })
    const reason = new AcquireTimeout({
      source: source.name,
      afterMillis: Duration.toMillis(acquireTimeout),
      max,
      holders
    })
    yield* Effect.logWarning(reason.message, { holders })
    return yield* new ConnectionError({ reason })
  })

  const usable: Effect.Effect<OpenConnection, ConnectionError, Scope.Scope> = Effect.flatMap(
    Pool.get(pool),
    (connection) =>
      connection.isUsable() ? Effect.succeed(connection) : Effect.andThen(Pool.invalidate(pool, connection), usable)
  )

  const lease = Effect.uninterruptibleMask((restore) => {
    const scope = Scope.makeUnsafe()
    return Ledger.hold(
      ({ id }) => ({ kind: "connection", id, attributes: { source: source.name } }),
      restore(
        Effect.timeoutOrElse(Scope.provide(usable, scope), { duration: acquireTimeout, orElse: () => timedOut })
      ).pipe(
        Effect.flatMap(lend(scope)),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      ),
      (_, exit) => Scope.close(scope, exit)
    )
  })

  return ConnectionPool.of({
    lease,
    stats: Effect.map(Pool.stats(pool), ({ idle, pending, used }) => ({ idle, leased: used, waiting: pending, max }))
  })
})

const unavailable = (source: string, cause: unknown) =>
  new ConnectionError({ reason: new Unavailable({ source, cause }) })

/** A pool over the source in context. Fails with `InvalidConfig` naming the field where the options make no sense. */
export const layer = (options?: Options): Layer.Layer<ConnectionPool, ConnectionError, ConnectionSource> =>
  Layer.effect(ConnectionPool, make(options))
