/**
 * The open connections of a `ConnectionPool`: opens them, decides whether one may be lent again, and gets rid of those that
 * may not.
 *
 * A backend lives in the ledger from its opening until it is closed. One that is gone on our side while the server may still
 * run something becomes a zombie, which stands in the ledger until the server is seen to be rid of it.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Metric from "effect/Metric"
import * as Pool from "effect/Pool"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import * as TimeLimit from "../../lifetime/TimeLimit.ts"
import { ConnectionError, ResetFailed } from "../ConnectionError.ts"
import type * as ConnectionPoolMetrics from "./ConnectionPoolMetrics.ts"
import type { Limits } from "./ConnectionPoolOptions.ts"
import type { ConnectionSource, OpenConnection } from "../ConnectionSource.ts"

/** An open connection with what the pool knows about it. */
export interface Pooled {
  readonly connection: OpenConnection
  readonly scope: Scope.Closeable
  readonly retireAt: number
  idleSince: number
  retirement: ConnectionPoolMetrics.Retirement | undefined
  /** It was closed while the server may still have run something for it. */
  abandoned: boolean
}

/** What the pool does with its backends. */
export interface Backends {
  /** Takes a connection that may be lent for the current scope; it is there for the next when the scope closes. */
  readonly take: Effect.Effect<Pooled, ConnectionError, Scope.Scope>
  /** Whether `take` would have one at once, without opening or asking any. */
  readonly isReady: () => boolean
  /** Makes a connection as good as new, or has it closed. Never fails. */
  readonly recycle: (pooled: Pooled) => Effect.Effect<void>
  readonly stats: Effect.Effect<{ readonly open: number; readonly idle: number; readonly zombies: number }>
  /** Closes a connection that somebody uses; its backend is watched until it is gone. */
  readonly kill: (pooled: Pooled) => Effect.Effect<void>
  /** Closes them all; waits so long for those that are still taken. */
  readonly close: (exit: Exit.Exit<unknown, unknown>, patience: Duration.Duration) => Effect.Effect<void>
}

const expelGrace = Duration.seconds(1)

/** Connections that are being opened at a time: a server that gets a thousand requests at once answers none in time. */
const maxOpening = 16

/** Opens backends of a source on demand. Zombies are awaited, within `closeTimeout`, when the current scope closes. */
export const make = Effect.fnUntraced(function* (
  source: ConnectionSource["Service"],
  limits: Limits,
  metrics: ConnectionPoolMetrics.ConnectionPoolMetrics
) {
  const clock = yield* Clock.Clock
  const now = () => SteadyClock.millis(clock)
  const attributes = { source: source.name }
  let open = 0

  const zombies = yield* FiberSet.make<void>()
  const opening = yield* Semaphore.make(maxOpening)
  const buried = new Set<OpenConnection>()
  let grace = expelGrace
  // A pool that closes has no time to give: its zombies are ended now, and it waits to see it.
  yield* Effect.addFinalizer(() => {
    grace = Duration.zero
    const hurry = Effect.forEach(buried, ({ expel }) => expel(grace), { concurrency: "unbounded", discard: true })
    const patience = Duration.max(limits.closeTimeout, Duration.seconds(1))
    return Effect.timeoutOption(Effect.andThen(hurry, FiberSet.awaitEmpty(zombies)), patience)
  })

  const bury = ({ abandoned, connection }: Pooled) =>
    abandoned || connection.state() === "dead"
      ? FiberSet.run(
          zombies,
          Effect.scoped(
            Effect.andThen(
              Ledger.hold({ kind: "zombie", id: connection.id, attributes }, Effect.void, () => Effect.void),
              Effect.acquireUseRelease(
                Effect.sync(() => buried.add(connection)),
                () => Effect.suspend(() => connection.expel(grace)),
                () => Effect.sync(() => buried.delete(connection))
              )
            )
          )
        )
      : Effect.void

  const depart = (pooled: Pooled) =>
    Effect.suspend(() => {
      open--
      return bury(pooled)
    })

  const acquire = Effect.uninterruptibleMask((restore) => {
    const scope = Scope.makeUnsafe()
    return Ledger.hold(
      ({ connection }) => ({ kind: "backend", id: connection.id, attributes }),
      restore(opening.withPermit(Scope.provide(source.open, scope))).pipe(
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause))),
        Effect.flatMap((connection) =>
          Effect.gen(function* () {
            const lifetime = Duration.toMillis(limits.maxLifetime) * (1 - (yield* Random.next) / 10)
            const pooled: Pooled = {
              connection,
              scope,
              retireAt: now() + lifetime,
              idleSince: now(),
              retirement: undefined,
              abandoned: false
            }
            open++
            yield* Metric.update(metrics.opened, 1)
            // Runs first when the connection is closed, while its state still tells how it was lost.
            yield* Scope.addFinalizer(scope, depart(pooled))
            return pooled
          })
        )
      ),
      ({ scope }, exit) => Scope.close(scope, exit)
    )
  })

  const poolScope = yield* Scope.make()
  const pool = yield* Pool.makeWithTTL({
    acquire: Effect.provideService(acquire, Clock.Clock, clock),
    min: limits.min,
    max: limits.max,
    timeToLive: limits.idleTimeout,
    timeToLiveStrategy: "usage"
  }).pipe(
    // It measures idleness by the time of day (effect 4.1).
    Effect.provideService(Clock.Clock, SteadyClock.from(clock)),
    Scope.provide(poolScope)
  )

  // Closed before the pool hears of it and opens another, so that there are never more than `max`.
  const retire = (pooled: Pooled, reason: ConnectionPoolMetrics.Retirement) =>
    metrics
      .retired(reason)
      .pipe(Effect.andThen(Scope.close(pooled.scope, Exit.void)), Effect.andThen(Pool.invalidate(pool, pooled)))

  const timely = yield* TimeLimit.make(
    limits.resetTimeout,
    (limit) =>
      new ConnectionError({
        reason: new ResetFailed({ source: source.name, cause: new Error(`No answer within ${limit}`) })
      })
  )

  /** Why a connection must not be lent, if it must not. */
  const objection = (pooled: Pooled): ConnectionPoolMetrics.Retirement | undefined =>
    pooled.retirement ??
    (pooled.connection.state() !== "usable" ? "broken" : now() >= pooled.retireAt ? "too old" : undefined)

  const isFresh = (pooled: Pooled) =>
    objection(pooled) === undefined && now() - pooled.idleSince < Duration.toMillis(limits.checkAfterIdle)

  const usable: Effect.Effect<Pooled, ConnectionError, Scope.Scope> = Effect.flatMap(Pool.get(pool), (pooled) => {
    const reason = objection(pooled)
    if (reason !== undefined) return Effect.andThen(retire(pooled, reason), usable)
    if (isFresh(pooled)) return Effect.succeed(pooled)
    return Effect.matchEffect(timely(pooled.connection.check), {
      onSuccess: () => Effect.succeed(pooled),
      onFailure: () => {
        pooled.abandoned = true
        return Effect.andThen(retire(pooled, "did not answer"), usable)
      }
    })
  })

  const verdict = (pooled: Pooled) =>
    Effect.suspend(() => (objection(pooled) === undefined ? timely(pooled.connection.reset) : Effect.void)).pipe(
      Effect.catchCause((cause) => {
        pooled.retirement ??= "reset failed"
        // Nobody has heard from the server that it is idle.
        pooled.abandoned = true
        return Effect.logWarning(`Connection ${pooled.connection.id} to ${source.name} could not be reset`, cause)
      }),
      Effect.andThen(
        Effect.suspend(() => {
          pooled.idleSince = now()
          const reason = objection(pooled)
          return reason === undefined ? Effect.void : retire(pooled, reason)
        })
      )
    )

  return {
    isReady: () => {
      const first = pool.state.availableHead?.exit
      return pool.state.waiters.size === 0 && first?._tag === "Success" && isFresh(first.value)
    },
    take: usable,
    recycle: verdict,
    kill: (pooled) =>
      Effect.suspend(() => {
        pooled.abandoned = true
        pooled.retirement ??= "did not answer"
        return Scope.close(pooled.scope, Exit.void)
      }),
    stats: Effect.gen(function* () {
      return { open, idle: (yield* Pool.stats(pool)).idle, zombies: yield* FiberSet.size(zombies) }
    }),
    close: (exit, patience) =>
      Effect.flatMap(Effect.forkDetach(Scope.close(poolScope, exit), { startImmediately: true }), (closing) =>
        Effect.asVoid(Effect.timeoutOption(Fiber.await(closing), patience))
      )
  } satisfies Backends as Backends
})
