/**
 * The open connections of a `ConnectionPool`: the one owner that opens them, asks the idle ones whether they are alive, lends
 * those that are, and gets rid of the others.
 *
 * A backend lives in the ledger from its opening until it is closed. One that is gone on our side while the server may still
 * run something becomes a zombie, see `ConnectionPoolZombies`. Opening and asking go on when the borrower that they were begun
 * for gives up: what comes of them is the pool's.
 *
 * ```
 *            opened                 lent
 *   room ───────────► idle ─────────────────► borrower
 *                     │  ▲  ▲                    │
 *            not heard│  │  │ reset              │
 *                     ▼  │  └────────────────────┤ broken, too old, used up, …
 *                    asked ── no answer ──► closed, and with it all that is idle and was not heard from since
 * ```
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Metric from "effect/Metric"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import * as TimeLimit from "../../lifetime/TimeLimit.ts"
import { Closed, ConnectionError, ResetFailed, Unavailable } from "../ConnectionError.ts"
import type * as ConnectionPoolMetrics from "./ConnectionPoolMetrics.ts"
import * as ConnectionPoolOpening from "./ConnectionPoolOpening.ts"
import type { Limits } from "./ConnectionPoolOptions.ts"
import * as ConnectionPoolRoom from "./ConnectionPoolRoom.ts"
import * as ConnectionPoolZombies from "./ConnectionPoolZombies.ts"
import type { ConnectionSource, OpenConnection, Recall } from "../ConnectionSource.ts"

/** An open connection with what the pool knows about it. */
export interface Pooled {
  readonly connection: OpenConnection
  readonly recall: Recall
  /** Holds the connection, and its entry in the ledger. */
  readonly scope: Scope.Closeable
  readonly retireAt: number
  /** How often all were evicted before it was opened. */
  readonly generation: number
  /** When the server last answered on it, and since when it is idle. */
  heardAt: number
  idleSince: number
  uses: number
  retirement: ConnectionPoolMetrics.Retirement | undefined
  /** Why it was taken back from its borrower, if it was. */
  recalled: ConnectionError | undefined
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
  /** Whether a statement could run, see `ConnectionPool.ping`. */
  readonly ping: Effect.Effect<void, ConnectionError>
  /** Why there is no connection at all, where the server has no room for any. */
  readonly noRoom: () => ConnectionError | undefined
  /** Takes a connection back from its borrower, who is told why by his statements. */
  readonly recallFor: (pooled: Pooled, reason: ConnectionError) => Effect.Effect<void>
  /** Closes a connection under its borrower without another word. */
  readonly drop: (pooled: Pooled) => Effect.Effect<void>
  /** Closes those that are idle, and the others when they are given back. */
  readonly evictAll: Effect.Effect<void>
  /** Lends and opens none until the scope closes. */
  readonly suspend: Effect.Effect<void, never, Scope.Scope>
  /** Closes them all; waits so long for those that are still taken. */
  readonly close: (patience: Duration.Duration) => Effect.Effect<void>
}

interface Waiter {
  readonly told: Deferred.Deferred<Pooled, ConnectionError>
  pooled: Pooled | undefined
}

/** Connections that are being opened at a time: a server that gets a thousand requests at once answers none in time. */
const maxOpening = 16

/** How often the pool looks at those that are idle, and how often at most it asks one of them. */
const tendEvery = Duration.seconds(1)
const askEvery = Duration.seconds(8)

/** A server that was heard of so lately, on connections that are lent or about them, counts as working. */
const heardLately = Duration.seconds(15)

/** What a server needs to end a backend and say so. More, and its end is watched without the borrower. */
const recallLimit = Duration.millis(1500)

/** An answer that has arrived while the process was busy is read before anybody is called silent. */
const lateReading = Duration.millis(50)

/** Opens backends of a source on demand, and looks after them until the current scope closes. */
export const make = Effect.fnUntraced(function* (
  source: ConnectionSource["Service"],
  limits: Limits,
  metrics: ConnectionPoolMetrics.ConnectionPoolMetrics
) {
  const clock = yield* Clock.Clock
  const now = () => SteadyClock.millis(clock)
  const attributes = { source: source.name }
  const zombies = yield* ConnectionPoolZombies.make(source.name, Duration.max(limits.closeTimeout, Duration.seconds(1)))
  const work = yield* FiberSet.make<unknown, unknown>()
  const fork = yield* FiberSet.runtime(work)()
  const permits = yield* Semaphore.make(maxOpening)
  const opened = yield* ConnectionPoolOpening.make(source, limits)
  const room = ConnectionPoolRoom.make(source.name, limits.max, now)

  const all = new Set<Pooled>()
  /** The one that was used last is the last. */
  const idle: Array<Pooled> = []
  const asked = new Set<Pooled>()
  const waiters = new Set<Waiter>()
  /** Backends that the server may have of us: also those that are being opened or closed. */
  let slots = 0
  let opening = 0
  let generation = 0
  let suspensions = 0
  let isClosed = false
  const none = yield* Latch.make(true)

  const leave = (from: Array<Pooled>, pooled: Pooled) => {
    const at = from.indexOf(pooled)
    if (at >= 0) from.splice(at, 1)
  }
  const depart = (pooled: Pooled) =>
    Effect.suspend(() => {
      all.delete(pooled)
      leave(idle, pooled)
      asked.delete(pooled)
      return pooled.abandoned || pooled.connection.state() === "dead" ? zombies.bury(pooled.connection) : Effect.void
    })
  const freed = Effect.sync(() => {
    slots--
    if (slots === 0) none.openUnsafe()
    pump()
  })

  const kill = (pooled: Pooled) =>
    Effect.suspend(() => {
      pooled.abandoned = true
      const reason = (pooled.retirement ??= "did not answer")
      return Effect.timeoutOption(pooled.connection.expel(Duration.zero), recallLimit).pipe(
        Effect.andThen(Scope.close(pooled.scope, Exit.void)),
        Effect.andThen(metrics.retired(reason))
      )
    })

  /** Opens one into a scope that gives back its place in the server when it is closed. */
  const acquire = Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const began = generation
      const scope = Scope.makeUnsafe()
      const inner = Scope.makeUnsafe()
      yield* Scope.addFinalizer(scope, freed)
      const lifetime = Duration.toMillis(limits.maxLifetime) * (1 - (yield* Random.next) / 10)
      return yield* Ledger.hold(
        ({ connection }: Pooled) => ({ kind: "backend", id: connection.id, attributes }),
        Effect.map(restore(permits.withPermit(Scope.provide(opened, inner))), (connection) => {
          const at = now()
          const pooled: Pooled = {
            connection,
            recall: { kill: Effect.suspend(() => kill(pooled)), reason: () => pooled.recalled },
            scope,
            retireAt: at + lifetime,
            generation: began,
            heardAt: at,
            idleSince: at,
            uses: 0,
            retirement: undefined,
            recalled: undefined,
            abandoned: false
          }
          return pooled
        }),
        // While it is open, its state tells how it was lost.
        (pooled, exit) => Effect.andThen(depart(pooled), Scope.close(inner, exit))
      ).pipe(
        Scope.provide(scope),
        Effect.onError((cause) =>
          Effect.andThen(Scope.close(inner, Exit.failCause(cause)), Scope.close(scope, Exit.failCause(cause)))
        )
      )
    })
  )

  /** Why a connection must not be lent, if it must not. */
  const objection = (pooled: Pooled): ConnectionPoolMetrics.Retirement | undefined => {
    if (pooled.retirement !== undefined) return pooled.retirement
    if (pooled.connection.state() !== "usable") return "broken"
    if (pooled.generation !== generation) return "evicted"
    if (pooled.uses >= limits.maxUses) return "used up"
    return now() >= pooled.retireAt ? "too old" : undefined
  }
  const isFresh = (pooled: Pooled) =>
    objection(pooled) === undefined && now() - pooled.heardAt < Duration.toMillis(limits.checkAfterIdle)

  const retire = (pooled: Pooled, reason: ConnectionPoolMetrics.Retirement) =>
    Effect.suspend(() => {
      pooled.retirement = reason
      leave(idle, pooled)
      return Effect.andThen(metrics.retired(reason), Scope.close(pooled.scope, Exit.void))
    })

  /** What nobody has heard from since one was asked in vain is as silent as that one. */
  const condemn = (since: number) =>
    Effect.suspend(() => {
      const silent = [...idle, ...asked].filter(({ heardAt }) => heardAt < since)
      for (const pooled of silent) pooled.abandoned = true
      return Effect.andThen(
        Effect.logWarning(
          `A connection to ${source.name} did not answer, and was closed with ${silent.length} idle ones of its age. See what drops connections on the way, such as a firewall.`
        ),
        Effect.forEach(silent, (pooled) => retire(pooled, "did not answer"), {
          concurrency: "unbounded",
          discard: true
        })
      )
    })

  const inTime = (check: Effect.Effect<void, ConnectionError>) =>
    Effect.flatMap(Effect.forkChild(check, { startImmediately: true }), (fiber) => {
      const answer = Effect.timeoutOption(Fiber.join(fiber), limits.resetTimeout)
      return Effect.flatMap(answer, (answer) =>
        answer._tag === "Some" ? Effect.void : Effect.timeout(Fiber.join(fiber), lateReading)
      )
    })

  /** Asks one that was idle; the answer decides whether it is idle again or closed. */
  const ask = (pooled: Pooled) => {
    leave(idle, pooled)
    asked.add(pooled)
    const since = now()
    fork(
      Effect.matchCauseEffect(inTime(pooled.connection.check), {
        onSuccess: () =>
          Effect.suspend(() => {
            pooled.heardAt = now()
            return rest(pooled)
          }),
        onFailure: () =>
          Effect.suspend(() => {
            if (isClosed || !asked.delete(pooled)) return Effect.void
            pooled.abandoned = true
            return Effect.all([retire(pooled, "did not answer"), condemn(since)], {
              concurrency: "unbounded",
              discard: true
            })
          })
      })
    )
  }

  /** There for the next borrower, or closed. */
  const rest = (pooled: Pooled) =>
    Effect.suspend(() => {
      asked.delete(pooled)
      if (!all.has(pooled)) return Effect.void
      if (isClosed) return Scope.close(pooled.scope, Exit.void)
      const reason = objection(pooled)
      if (reason !== undefined) return retire(pooled, reason)
      idle.push(pooled)
      pump()
      return Effect.void
    })

  const open = () => {
    slots++
    opening++
    none.closeUnsafe()
    fork(
      Effect.matchCauseEffect(acquire, {
        onSuccess: (pooled) =>
          Effect.suspend(() => {
            opening--
            all.add(pooled)
            return Effect.all([Metric.update(metrics.opened, 1), room.opened(slots), rest(pooled)], { discard: true })
          }),
        onFailure: (cause) =>
          Effect.suspend(() => {
            opening--
            if (isClosed || Cause.hasInterruptsOnly(cause)) return Effect.void
            return Effect.flatMap(room.refused(cause, slots), (isFull) =>
              Effect.sync(() => {
                const [waiter] = waiters
                if (isFull || waiter === undefined) return
                waiters.delete(waiter)
                Deferred.doneUnsafe(waiter.told, Effect.failCause(cause))
                pump()
              })
            )
          })
      })
    )
  }

  const hand = (waiter: Waiter, pooled: Pooled) => {
    waiters.delete(waiter)
    leave(idle, pooled)
    waiter.pooled = pooled
    Deferred.doneUnsafe(waiter.told, Effect.succeed(pooled))
  }

  /** Sees to whoever waits: with what is idle, with asking what was not heard from for long, with opening more. */
  function pump(): void {
    if (isClosed || suspensions > 0) return
    for (const waiter of waiters) {
      const fresh = idle.findLast(isFresh)
      if (fresh === undefined) break
      hand(waiter, fresh)
    }
    for (let missing = waiters.size - asked.size - opening; missing > 0; missing--) {
      const stale = idle.findLast((pooled) => objection(pooled) === undefined)
      if (stale !== undefined) ask(stale)
      else if (slots < room.max()) open()
      else break
    }
    // Their places are needed.
    if (waiters.size > 0) {
      for (const pooled of idle.slice()) {
        const reason = objection(pooled)
        if (reason !== undefined) fork(retire(pooled, reason))
      }
    }
  }

  const giveBack = (waiter: Waiter) =>
    Effect.suspend(() => {
      waiters.delete(waiter)
      const { pooled } = waiter
      return pooled === undefined ? Effect.void : rest(pooled)
    })

  const take = Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.scope, (scope) => {
      const waiter: Waiter = { told: Deferred.makeUnsafe(), pooled: undefined }
      waiters.add(waiter)
      pump()
      const added = Scope.addFinalizer(scope, giveBack(waiter))
      return waiter.pooled === undefined
        ? Effect.andThen(added, restore(Deferred.await(waiter.told)))
        : Effect.as(added, waiter.pooled)
    })
  )

  const living = () => Array.from(all).filter(({ retirement }) => retirement === undefined).length

  /** Looks after those that are idle: nobody else does while nobody borrows. */
  const tend = Effect.sync(() => {
    if (isClosed) return
    const at = now()
    let surplus = living() + opening - limits.min
    // Those that were not used for the longest time come first.
    for (const pooled of idle.slice()) {
      const reason =
        objection(pooled) ??
        (surplus > 0 && at - pooled.idleSince >= Duration.toMillis(limits.idleTimeout) ? "idle" : undefined)
      if (reason !== undefined) {
        surplus--
        pooled.retirement = reason
        fork(retire(pooled, reason))
      } else if (
        at - pooled.heardAt >=
        Math.max(Duration.toMillis(limits.checkAfterIdle), Duration.toMillis(askEvery))
      ) {
        ask(pooled)
      }
    }
    room.look(slots, waiters.size)
    pump()
    if (suspensions > 0) return
    for (let missing = limits.min - living() - opening; missing > 0 && slots < room.max(); missing--) open()
  })
  yield* Effect.forkScoped(Effect.repeat(tend, Schedule.spaced(tendEvery)), { startImmediately: true })

  const timely = yield* TimeLimit.make(
    limits.resetTimeout,
    (limit) =>
      new ConnectionError({
        reason: new ResetFailed({ source: source.name, cause: new Error(`No answer within ${limit}`) })
      })
  )

  const reset = (pooled: Pooled) => {
    const since = now()
    return Effect.matchCauseEffect(timely(pooled.connection.reset), {
      onSuccess: () =>
        Effect.sync(() => {
          pooled.heardAt = now()
          pooled.idleSince = pooled.heardAt
        }),
      onFailure: (cause) => {
        pooled.retirement ??= "reset failed"
        // Nobody has heard from the server that it is idle.
        pooled.abandoned = true
        const warning = Effect.logWarning(
          `Connection ${pooled.connection.id} to ${source.name} could not be reset`,
          cause
        )
        const silent = now() - since >= Duration.toMillis(limits.resetTimeout)
        return silent
          ? Effect.andThen(
              warning,
              Effect.sync(() => fork(condemn(since)))
            )
          : warning
      }
    })
  }

  const recycle = (pooled: Pooled) =>
    Effect.suspend(() => {
      pooled.uses++
      // What was lost may not be the only one.
      if (pooled.connection.state() === "dead" && !isClosed) [...idle].filter((it) => !isFresh(it)).forEach(ask)
      return objection(pooled) === undefined ? reset(pooled) : Effect.void
    }).pipe(
      Effect.andThen(
        Effect.suspend(() => {
          const reason = objection(pooled)
          return reason === undefined || !all.has(pooled) ? Effect.void : retire(pooled, reason)
        })
      )
    )

  /** All are lent: the server works where it was heard of lately. */
  const allLent = () => all.size > 0 && idle.length + asked.size === 0 && slots >= room.max()
  const unheard = () =>
    new ConnectionError({
      reason: new Unavailable({ source: source.name, cause: new Error("The server does not answer") })
    })
  const ping = Effect.suspend((): Effect.Effect<void, ConnectionError> => {
    if (isClosed) return Effect.fail(new ConnectionError({ reason: new Closed({ source: source.name }) }))
    if (idle.some(isFresh)) return Effect.void
    if (!allLent()) return Effect.scoped(Effect.asVoid(take))
    const since = now() - Duration.toMillis(heardLately)
    return Array.from(all).some(({ connection }) => connection.heardAt() > since) ? Effect.void : Effect.fail(unheard())
  })

  return {
    ping: Effect.timeoutOrElse(ping, {
      duration: limits.acquireTimeout,
      orElse: () => Effect.fail(room.refusal() ?? unheard())
    }),
    isReady: () => waiters.size === 0 && suspensions === 0 && idle.some(isFresh),
    take,
    recycle,
    noRoom: () => (all.size === 0 ? room.refusal() : undefined),
    recallFor: (pooled, reason) =>
      Effect.suspend(() => {
        pooled.recalled = reason
        pooled.retirement ??= "held too long"
        return kill(pooled)
      }),
    drop: ({ scope }) => Scope.close(scope, Exit.void),
    stats: Effect.map(zombies.size, (zombies) => ({ open: all.size, idle: idle.length + asked.size, zombies })),
    evictAll: Effect.suspend(() => {
      generation++
      return Effect.forEach([...idle], (pooled) => retire(pooled, "evicted"), {
        concurrency: "unbounded",
        discard: true
      })
    }),
    suspend: Effect.acquireRelease(
      Effect.sync(() => {
        suspensions++
      }),
      () =>
        Effect.sync(() => {
          suspensions--
          pump()
        })
    ),
    close: (patience) =>
      Effect.gen(function* () {
        isClosed = true
        const closing = Effect.gen(function* () {
          yield* FiberSet.clear(work)
          yield* Effect.forEach([...idle, ...asked], ({ scope }) => Scope.close(scope, Exit.void), {
            concurrency: "unbounded",
            discard: true
          })
          yield* none.await
        })
        const fiber = yield* Effect.forkDetach(closing, { startImmediately: true })
        yield* Effect.timeoutOption(Fiber.await(fiber), patience)
      })
  } satisfies Backends as Backends
})
