/**
 * Lends connections of a `ConnectionSource`, one borrower at a time.
 *
 * The pool lives as long as its layer. A lease lives as long as the scope it was taken in; when that closes, the borrower's
 * view of the connection ends first, then the connection is reset, then it is free for the next borrower, or closed when
 * it cannot be trusted any more. Closing the pool refuses new borrowers, waits `closeTimeout` for the leases, ends the
 * rest at the server and says in the log whose they were.
 *
 * ```
 * pool ──┬── backend (open connection) ── until it is too old, too idle or not to be trusted
 *        ├── lease ── released in this order:  1 the borrower's view   2 reset or retirement   3 the place in the pool
 *        └── zombie ── a backend that was given up, until the server is seen to be rid of it
 * ```
 *
 * **Details**
 *
 * Permits are fair between keys. A connection is opened as the role that its first borrower asked for and lent to that role only. A borrower that gives up waiting leaves no trace; one that waits for longer than
 * `acquireTimeout` gets an error whose holders are for log and ledger. Every lease, open connection and zombie stands in
 * the ledger, as `connection`, `backend` and `zombie`.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Deadlines from "../lifetime/Deadlines.ts"
import * as FairSemaphore from "../lifetime/FairSemaphore.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import {
  AcquireTimeout,
  Closed,
  ConnectionError,
  LeaseExpired,
  TooManyWaiters,
  Unavailable
} from "./ConnectionError.ts"
import type { Pooled } from "./internal/ConnectionPoolBackend.ts"
import * as ConnectionPoolBackends from "./internal/ConnectionPoolBackends.ts"
import * as ConnectionPoolLeases from "./internal/ConnectionPoolLeases.ts"
import * as ConnectionPoolMetrics from "./internal/ConnectionPoolMetrics.ts"
import * as ConnectionPoolOptions from "./internal/ConnectionPoolOptions.ts"
import { type Admit, anyRole, withoutPermit } from "./internal/ConnectionPoolWaiters.ts"
import { ConnectionSource, type Lent, type Recall } from "./ConnectionSource.ts"

export type { Options } from "./internal/ConnectionPoolOptions.ts"

/** A leased connection. */
export interface Lease extends Lent, Recall {
  /** The source's name for the connection, such as a backend's process id. */
  readonly id: string
  /** Has the connection closed instead of lent again when the lease ends. */
  readonly retire: Effect.Effect<void>
}

/** On whose behalf a connection is taken. */
export interface LeaseOptions {
  /** Permits go in turn between keys: a tenant, a principal. Default: all share one. */
  readonly key?: string | undefined
  /**
   * As whom the connection is to be opened, where the source can do so: the borrower gets a connection that nobody of another role
   * has had. All roles share `max`; when there is no room, the connection that was idle for the longest time is closed. Default:
   * as the source's own role.
   */
  readonly role?: string | undefined
}

/** Connections and borrowers by state. `leased` never exceeds `max`. */
export interface Stats {
  readonly open: number
  readonly idle: number
  readonly leased: number
  readonly waiting: number
  readonly zombies: number
  readonly max: number
}

export class ConnectionPool extends Context.Service<
  ConnectionPool,
  {
    /** Leases a connection until the scope closes. Each call gets a connection nobody else has. */
    readonly lease: (options?: LeaseOptions) => Effect.Effect<Lease, ConnectionError, Scope.Scope>
    readonly stats: Effect.Effect<Stats>
    /**
     * Succeeds when a statement could run: on a connection that just answered, or because all of them are lent to borrowers.
     * Opens one only where none is open; what it opened stays. Takes no permit, and nobody waits for it.
     */
    readonly ping: Effect.Effect<void, ConnectionError>
    /**
     * Closes the idle connections now and those that are lent when they are given back, so that all work from now on begins on
     * new ones: after a failover, or with a new password.
     */
    readonly evictAll: Effect.Effect<void>
    /**
     * Lends no connection and opens none until the scope closes; leases go on. Borrowers wait, within their `acquireTimeout`.
     */
    readonly suspend: Effect.Effect<void, never, Scope.Scope>
  }
>()("holdfast/connection/ConnectionPool") {}

/** Of the second after the wait for borrowers: for all that is left, and of it, for those whose statements were ended to let go. */
const endingTime = Duration.millis(900)
const evictionTime = Duration.millis(700)

let pools = 0

/** Makes a pool that closes with the current scope. Fails with `InvalidConfig` where the options make no sense. */
export const make = Effect.fnUntraced(function* (options: ConnectionPoolOptions.Options = {}) {
  const limits = yield* ConnectionPoolOptions.decode(options)
  const source = yield* ConnectionSource
  const clock = yield* Clock.Clock
  const metrics = yield* ConnectionPoolMetrics.make(options.name ?? source.name)
  const now = () => SteadyClock.millis(clock)
  const poolId = ++pools
  const attributes = { source: source.name, pool: poolId }
  const fail = (reason: ConnectionError["reason"]) => Effect.fail(new ConnectionError({ reason }))

  /** A span where the caller is traced; a lease is too short to begin a trace of its own. */
  const traced = <A, E, R>(effect: Effect.Effect<A, E, R>, name: string): Effect.Effect<A, E, R> =>
    Effect.withFiber((fiber) =>
      Context.getOption(fiber.context, Tracer.ParentSpan)._tag === "None"
        ? effect
        : Effect.withSpan(effect, name, { attributes, captureStackTrace: false })
    ) as Effect.Effect<A, E, R>

  const closed = yield* Deferred.make<never, ConnectionError>()
  /** Who is lent, and since when. */
  const leased = new Map<Pooled, number>()
  const noneLeased = yield* Latch.make(true)
  const backends = yield* ConnectionPoolBackends.make(source, limits, metrics)
  const heldMillis = () =>
    new Map(Array.from(leased, ([{ connection }, since]) => [connection.id, Math.round(now() - since)]))
  const { holders } = yield* ConnectionPoolLeases.make(source.name, poolId, limits, metrics, heldMillis)

  const timedOut = Effect.flatMap(holders, (holders) => {
    const noRoom = backends.noRoom()
    if (noRoom !== undefined) return Effect.fail(noRoom)
    const afterMillis = Duration.toMillis(limits.acquireTimeout)
    const reason = new AcquireTimeout({ source: source.name, afterMillis, max: limits.max, holders })
    return Effect.andThen(
      LogEvent.warning({ event: "connection.timeout", source: source.name }, reason.message, { holders }),
      fail(reason)
    )
  })
  const refusals: Record<FairSemaphore.Refusal, Effect.Effect<never, ConnectionError>> = {
    full: Effect.suspend(() => fail(new TooManyWaiters({ source: source.name, waiting: admission.waiting() }))),
    late: timedOut,
    closed: fail(new Closed({ source: source.name }))
  }
  const admission: FairSemaphore.FairSemaphore<ConnectionError> = yield* FairSemaphore.make(limits.max, {
    maxWaiting: limits.maxWaiting,
    patience: limits.acquireTimeout,
    refuse: (refusal) => refusals[refusal]
  })

  // Waiting for a connection is given up at the same moment as waiting for the permit, and when the pool closes.
  const lateAfter = (deadline: number) =>
    Effect.suspend(() =>
      Effect.timeoutOrElse(Deferred.await(closed), { duration: Math.max(deadline - now(), 0), orElse: () => timedOut })
    )
  const patience = Duration.toMillis(limits.acquireTimeout)

  const overdue = Duration.isFinite(limits.maxLease) ? yield* Deadlines.make(limits.maxLease) : undefined
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const expire = (pooled: Pooled) => {
    const reason = new LeaseExpired({ source: source.name, afterMillis: Duration.toMillis(limits.maxLease) })
    runFork(
      Effect.andThen(
        LogEvent.warning(
          { event: "connection.lease_expired", source: source.name, connection: pooled.connection.id },
          `Connection ${pooled.connection.id}: ${reason.message}`
        ),
        backends.recall(pooled, new ConnectionError({ reason }))
      )
    )
  }

  // Closing waits for those that are in `leased`: who was handed a connection just before, and is not there yet, gets none.
  const begin = (pooled: Pooled, scope: Scope.Scope): Effect.Effect<void, ConnectionError> =>
    Effect.suspend(() => {
      if (Deferred.isDoneUnsafe(closed)) return fail(new Closed({ source: source.name }))
      const since = now()
      leased.set(pooled, since)
      noneLeased.closeUnsafe()
      const inTime = overdue?.add(() => expire(pooled))
      return Scope.addFinalizer(
        scope,
        Effect.sync(() => {
          inTime?.()
          leased.delete(pooled)
          if (leased.size === 0) noneLeased.openUnsafe()
          metrics.note("held", now() - since)
        })
      )
    })

  // Everything a lease consists of is registered in its scope, in this order, and undone in the other one.
  const lease = ({ key, role }: LeaseOptions = {}) =>
    Effect.uninterruptibleMask((restore) => {
      const scope = Scope.makeUnsafe()
      const asked = now()
      const admit: Admit = (claim) => admission.take(key ?? "", claim)
      const have = backends.take(role, lateAfter(asked + patience), admit).pipe(
        Scope.provide(scope),
        restore,
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause) && Deferred.isDoneUnsafe(closed)
            ? fail(new Closed({ source: source.name }))
            : Effect.failCause(cause)
        )
      )
      const lent = Effect.gen(function* () {
        const pooled = yield* traced(have, "ConnectionPool.acquire")
        yield* begin(pooled, scope)
        yield* Scope.addFinalizer(scope, backends.recycle(pooled))
        const { connection, recall } = pooled
        const { services, sql } = yield* Scope.provide(connection.lend(recall), scope)
        metrics.note("waited", now() - asked)
        const retire = Effect.sync(() => {
          pooled.retirement ??= "retired by its borrower"
        })
        return { id: connection.id, services, sql, retire, ...recall } satisfies Lease
      })
      return Ledger.hold(
        ({ id }: Lease) => ({
          kind: "connection",
          id,
          attributes: key === undefined ? attributes : { ...attributes, key },
          // Bounded by the reset's own limit.
          releaseLimit: "none"
        }),
        Effect.onError(lent, (cause) => Scope.close(scope, Exit.failCause(cause))),
        (_, exit) => traced(Scope.close(scope, exit), "ConnectionPool.release")
      )
    })

  const report = Effect.flatMap(holders, (holders) => {
    const lines = holders.map(
      ({ connection, heldForMillis, id, kind, owner, site }) =>
        `connection ${connection} of ${kind} ${id}${owner === undefined ? "" : ` (${owner})`}, held for ${heldForMillis} ms, taken at ${site ?? "an unknown place"}`
    )
    const title = `Closing the pool of ${source.name} ends ${holders.length} connections that were not given back in time`
    return LogEvent.warning(
      { event: "connection.evicted", source: source.name, count: holders.length },
      [title, ...lines].join("\n")
    )
  })

  // Ended at the server, a statement fails, its borrower lets go, and the lease is released like any other. Who does not
  // let go even then has a connection that is closed under him.
  const evict = Effect.gen(function* () {
    if (leased.size === 0) return
    yield* report
    const rest = Array.from(leased.keys())
    yield* Effect.forEach(rest, ({ connection }) => connection.expel(Duration.zero), { concurrency: "unbounded" }).pipe(
      Effect.andThen(noneLeased.await),
      Effect.timeoutOption(evictionTime)
    )
    yield* Effect.forEach(leased.keys(), backends.drop, { discard: true })
  })

  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      yield* admission.close
      yield* Deferred.fail(closed, new ConnectionError({ reason: new Closed({ source: source.name }) }))
      yield* backends.retreat
      yield* Effect.timeoutOption(noneLeased.await, limits.closeTimeout)
      const [spent] = yield* Effect.timed(evict)
      yield* backends.close(Duration.subtract(endingTime, spent))
    })
  )

  const silent = new Unavailable({ source: source.name, cause: new Error("The server does not answer") })
  const ping = Effect.suspend((): Effect.Effect<void, ConnectionError> => {
    if (Deferred.isDoneUnsafe(closed)) return Deferred.await(closed)
    if (backends.isReady()) return Effect.void
    if (backends.areAllLent()) return backends.isHeardOf() ? Effect.void : fail(silent)
    return Effect.scoped(Effect.asVoid(backends.take(anyRole, lateAfter(now() + patience), withoutPermit)))
  })

  const stats = Effect.map(backends.stats, (stats) => ({
    ...stats,
    leased: leased.size,
    waiting: admission.waiting(),
    max: limits.max
  }))
  yield* Effect.forkScoped(Effect.repeat(Effect.flatMap(stats, metrics.sample), Schedule.spaced("1 second")))

  return ConnectionPool.of({
    lease,
    stats,
    ping,
    evictAll: backends.evictAll,
    suspend: backends.suspend
  })
})

/** A pool over the source in context. */
export const layer = (
  options?: ConnectionPoolOptions.Options
): Layer.Layer<ConnectionPool, ConnectionError, ConnectionSource> => Layer.effect(ConnectionPool, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ max: Config.Int("POOL_MAX") })`. */
export const layerConfig = (
  config: Config.Wrap<ConnectionPoolOptions.Options>
): Layer.Layer<ConnectionPool, ConnectionError | Config.ConfigError, ConnectionSource> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
