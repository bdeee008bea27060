/**
 * One open connection of a `ConnectionPool`: how it comes to be, what the pool knows about it, and how it is taken back.
 *
 * It lives in the ledger from its opening, which includes what the app wants done on each new one, until it is closed.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as SqlClient from "effect/sql/SqlClient"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as TimeLimit from "../../lifetime/TimeLimit.ts"
import { ConnectionError, ResetFailed, Unavailable } from "../ConnectionError.ts"
import type * as ConnectionPoolMetrics from "./ConnectionPoolMetrics.ts"
import type { Limits } from "./ConnectionPoolOptions.ts"
import type * as ConnectionPoolZombies from "./ConnectionPoolZombies.ts"
import { type ConnectionSource, type OpenConnection, type Recall, Role } from "../ConnectionSource.ts"

/** An open connection with what the pool knows about it. */
export interface Pooled {
  readonly connection: OpenConnection
  /** As whom it was opened, if not as the source's own role. It is lent to nobody who wants another. */
  readonly role: string | undefined
  readonly recall: Recall
  /** Holds the connection, its entry in the ledger and its place in the server, which is given back when both are gone. */
  readonly scope: Scope.Closeable
  readonly retireAt: number
  /** When the server last answered on it, and since when it is idle. */
  heardAt: number
  idleSince: number
  uses: number
  retirement: ConnectionPoolMetrics.Retirement | undefined
  /** Why it was taken back from its borrower, if it was. */
  recalled: ConnectionError | undefined
  /** When it is closed, the server may still run something for it. */
  abandoned: boolean
  /** Its backend is being watched until it is gone. */
  buried: boolean
}

/** What the pool does when one is about to be closed, and when it is. */
export interface Ends {
  readonly departs: (pooled: Pooled) => Effect.Effect<void>
  /** Its place is free: it was closed, or could not be opened. */
  readonly freed: (exit: Exit.Exit<unknown, unknown>) => Effect.Effect<void>
}

/** Connections that are being opened at a time: a server that gets a thousand requests at once answers none in time. */
const maxOpening = 16

/** What a server needs to end a backend and say so. More, and its end is watched without the borrower. */
const recallLimit = Duration.seconds(1)

/** An answer that has arrived while the process was busy is read before anybody is called silent. */
const lateReading = Effect.callback<void>((resume) => {
  // For the process itself, whatever clock the pool goes by.
  const timer = setTimeout(() => resume(Effect.void), 50)
  return Effect.sync(() => clearTimeout(timer))
})

/** Nobody holds a new one yet: where it has to go, it is closed. */
const unrecalled: Recall = { kill: Effect.void, reason: () => undefined }

/** Makes what a pool does with each of its connections. `now` is in milliseconds of the steady clock. */
export const make = Effect.fnUntraced(function* (
  source: ConnectionSource["Service"],
  limits: Limits,
  metrics: ConnectionPoolMetrics.ConnectionPoolMetrics,
  zombies: ConnectionPoolZombies.ConnectionPoolZombies,
  now: () => number
) {
  const attributes = { source: source.name }
  const permits = yield* Semaphore.make(maxOpening)
  const inTimeToOpen = yield* TimeLimit.make(
    limits.acquireTimeout,
    (limit) => new Error(`onOpen took longer than ${limit}`)
  )
  const inTimeToReset = yield* TimeLimit.make(
    limits.resetTimeout,
    (limit) =>
      new ConnectionError({
        reason: new ResetFailed({ source: source.name, cause: new Error(`No answer within ${limit}`) })
      })
  )

  const prepared = ({ lend }: OpenConnection) => {
    const { onOpen } = limits
    if (onOpen === undefined) return Effect.void
    return Effect.flatMap(lend(unrecalled), ({ sql }) =>
      Effect.flatMap(sql, (client) => Effect.provideService(onOpen, SqlClient.SqlClient, client))
    ).pipe(
      Effect.scoped,
      inTimeToOpen,
      Effect.mapError((cause) => new ConnectionError({ reason: new Unavailable({ source: source.name, cause }) }))
    )
  }
  const openedAs = (role: string | undefined) =>
    source.open.pipe(Effect.tap(prepared), Effect.provideService(Role, role), permits.withPermit)

  const kill = (pooled: Pooled) =>
    Effect.suspend(() => {
      pooled.buried = true
      const reason = (pooled.retirement ??= "did not answer")
      return zombies.bury(pooled.connection, Duration.zero).pipe(
        Effect.flatMap((gone) => Effect.timeoutOption(Fiber.await(gone), recallLimit)),
        Effect.andThen(Scope.close(pooled.scope, Exit.void)),
        Effect.andThen(metrics.retired(reason))
      )
    })

  const pooledOf = (
    connection: OpenConnection,
    role: string | undefined,
    scope: Scope.Closeable,
    lifetime: number
  ): Pooled => {
    const at = now()
    const pooled: Pooled = {
      connection,
      role,
      recall: { kill: Effect.suspend(() => kill(pooled)), reason: () => pooled.recalled },
      scope,
      retireAt: at + lifetime,
      heardAt: at,
      idleSince: at,
      uses: 0,
      retirement: undefined,
      recalled: undefined,
      abandoned: false,
      buried: false
    }
    return pooled
  }

  return {
    /** Opens one, as a role. */
    open: (role: string | undefined, { departs, freed }: Ends) =>
      Effect.uninterruptible(
        Effect.gen(function* () {
          const scope = Scope.makeUnsafe()
          const inner = Scope.makeUnsafe()
          yield* Scope.addFinalizerExit(scope, freed)
          const lifetime = Duration.toMillis(limits.maxLifetime) * (1 - (yield* Random.next) / 10)
          return yield* Ledger.hold(
            ({ connection }: Pooled) => ({ kind: "backend", id: connection.id, attributes }),
            Effect.map(Effect.interruptible(Scope.provide(openedAs(role), inner)), (connection) =>
              pooledOf(connection, role, scope, lifetime)
            ),
            // While it is open, its state tells how it was lost.
            (pooled, exit) => Effect.andThen(departs(pooled), Scope.close(inner, exit))
          ).pipe(
            Scope.provide(scope),
            Effect.onError((cause) =>
              Effect.andThen(Scope.close(inner, Exit.failCause(cause)), Scope.close(scope, Exit.failCause(cause)))
            )
          )
        })
      ),

    /** Asks whether the other side is alive, and does not wait for longer than the limit. */
    check: ({ connection }: Pooled) =>
      Effect.flatMap(Effect.forkChild(connection.check, { startImmediately: true }), (fiber) =>
        Effect.flatMap(Effect.timeoutOption(Fiber.join(fiber), limits.resetTimeout), (answer) =>
          answer._tag === "Some"
            ? Effect.void
            : Effect.raceFirst(Fiber.join(fiber), Effect.andThen(lateReading, Effect.fail("no answer" as const)))
        )
      ),

    /** Makes one as good as new, within the limit. One that cannot be is not to be lent again. */
    reset: (pooled: Pooled) =>
      Effect.matchCauseEffect(inTimeToReset(pooled.connection.reset), {
        onSuccess: () =>
          Effect.sync(() => {
            pooled.heardAt = now()
            pooled.idleSince = pooled.heardAt
          }),
        onFailure: (cause) => {
          pooled.retirement ??= "reset failed"
          // Nobody has heard from the server that it is idle.
          pooled.abandoned = true
          return LogEvent.warning(
            { event: "connection.reset_failed", source: source.name, connection: pooled.connection.id },
            `Connection ${pooled.connection.id} to ${source.name} could not be reset`,
            cause
          )
        }
      }),

    /** Takes one back from its borrower, whose statements fail with the reason. */
    recall: (pooled: Pooled, reason: ConnectionError) =>
      Effect.suspend(() => {
        pooled.recalled = reason
        pooled.retirement ??= "held too long"
        return kill(pooled)
      }),

    /** Why one must not be lent, if it must not. */
    objection: (pooled: Pooled): ConnectionPoolMetrics.Retirement | undefined => {
      if (pooled.retirement !== undefined) return pooled.retirement
      if (pooled.connection.state() !== "usable") return "broken"
      if (pooled.uses >= limits.maxUses) return "used up"
      return now() >= pooled.retireAt ? "too old" : undefined
    }
  }
})
