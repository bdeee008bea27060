/**
 * The open connections of a `ConnectionPool`: the one owner that opens them, asks the idle ones whether they are alive, lends
 * those that are, and gets rid of the others.
 *
 * A backend lives in the ledger from its opening until it is closed. One that is gone on our side while the server may still
 * run something becomes a zombie, see `ConnectionPoolZombies`. Opening and asking go on when the borrower that they were begun
 * for gives up: what comes of them is the pool's. A connection is lent to those who want its role and to nobody else; when there
 * is no room for one of another role, the one that was idle for the longest time is closed.
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
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Latch from "effect/Latch"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import type { ConnectionError } from "../ConnectionError.ts"
import type { Pooled } from "./ConnectionPoolBackend.ts"
import * as ConnectionPoolBackend from "./ConnectionPoolBackend.ts"
import type * as ConnectionPoolMetrics from "./ConnectionPoolMetrics.ts"
import type { Limits } from "./ConnectionPoolOptions.ts"
import { inTurns } from "./ConnectionPoolTurns.ts"
import * as ConnectionPoolPlan from "./ConnectionPoolPlan.ts"
import * as ConnectionPoolRoom from "./ConnectionPoolRoom.ts"
import { Stock } from "./ConnectionPoolStock.ts"
import { type Admit, suits, take, tell, type Waiter, Waiters, type Want } from "./ConnectionPoolWaiters.ts"
import * as ConnectionPoolZombies from "./ConnectionPoolZombies.ts"
import type { ConnectionSource } from "../ConnectionSource.ts"

/** What the pool does with its backends. */
export interface Backends {
  /**
   * Takes a connection that may be lent for the current scope, of the role that is wanted; it is there for the next when the scope
   * closes. Where there is none at once, waits for one until `late` fails. The borrower is served, or begins to wait, when `admit`
   * calls: borrowers get connections in the order in which they were admitted.
   */
  readonly take: (
    want: Want,
    late: Effect.Effect<never, ConnectionError>,
    admit: Admit
  ) => Effect.Effect<Pooled, ConnectionError, Scope.Scope>
  /** Whether `take` would have one at once, without opening or asking any. */
  readonly isReady: () => boolean
  /** Makes a connection as good as new, or has it closed. Never fails. */
  readonly recycle: (pooled: Pooled) => Effect.Effect<void>
  readonly stats: Effect.Effect<{ readonly open: number; readonly idle: number; readonly zombies: number }>
  /** Whether there is none that a borrower could have before another gives one back. */
  readonly areAllLent: () => boolean
  /** Whether the server was heard of lately, on any of them or about it. */
  readonly isHeardOf: () => boolean
  /** Why there is no connection at all, where the server has no room for any. */
  readonly noRoom: () => ConnectionError | undefined
  /** Takes a connection back from its borrower, who is told why by his statements. */
  readonly recall: (pooled: Pooled, reason: ConnectionError) => Effect.Effect<void>
  /** Closes a connection under its borrower without another word. */
  readonly drop: (pooled: Pooled) => Effect.Effect<void>
  /** Closes those that are idle, and the others when they are given back. */
  readonly evictAll: Effect.Effect<void>
  /** Lends and opens none until the scope closes. */
  readonly suspend: Effect.Effect<void, never, Scope.Scope>
  /** Lends and opens none from now on. */
  readonly retreat: Effect.Effect<void>
  /** Closes them all; waits so long for those that are still taken. */
  readonly close: (patience: Duration.Duration) => Effect.Effect<void>
}

const atOnce = { concurrency: "unbounded", discard: true } as const

/** How often the pool looks at those that are idle, and how often at most it asks one of them. */
const tendEvery = Duration.seconds(1)
const askEvery = Duration.seconds(8)

/** A server that was heard of so lately, on connections that are lent or about them, counts as working. */
const heardLately = Duration.seconds(15)

/** Opens backends of a source on demand, and looks after them until the current scope closes. */
export const make = Effect.fnUntraced(function* (
  source: ConnectionSource["Service"],
  limits: Limits,
  metrics: ConnectionPoolMetrics.ConnectionPoolMetrics
) {
  const clock = yield* Clock.Clock
  const now = () => SteadyClock.millis(clock)
  const longest = Duration.max(limits.closeTimeout, Duration.millis(700))
  const zombies = yield* ConnectionPoolZombies.make(source.name, longest)
  const work = yield* FiberSet.make<unknown, unknown>()
  const run = yield* FiberSet.runtime(work)()
  /** What is begun for a connection is brought to its end; only waiting for the server is given up when the pool closes. */
  const fork = (effect: Effect.Effect<unknown>) => void run(effect, { uninterruptible: true })
  const backend = yield* ConnectionPoolBackend.make(source, limits, metrics, zombies, now)
  const { objection } = backend
  const room = ConnectionPoolRoom.make(source.name, limits.max, now)

  const checkAfter = Duration.toMillis(limits.checkAfterIdle)
  const askAfter = Math.max(checkAfter, Duration.toMillis(askEvery))
  const stock = new Stock()
  const { all, asked, idle } = stock
  const waiters = new Waiters()
  let generation = 0
  let suspensions = 0
  let isClosed = false
  const none = yield* Latch.make(true)

  const departs = (pooled: Pooled) =>
    Effect.suspend(() => {
      stock.departs(pooled)
      if (pooled.buried || !(pooled.abandoned || pooled.connection.state() === "dead")) return Effect.void
      pooled.buried = true
      return zombies.bury(pooled.connection)
    })
  const freed = (exit: Exit.Exit<unknown, unknown>) =>
    Effect.sync(() => {
      stock.slots--
      if (stock.slots === 0) none.openUnsafe()
      // Before the next is opened in the place of one that could not be, it is said why that was.
      if (Exit.isSuccess(exit)) pump()
    })

  const isFresh = (pooled: Pooled) => objection(pooled) === undefined && now() - pooled.heardAt < checkAfter

  const retire = (pooled: Pooled, reason: ConnectionPoolMetrics.Retirement) =>
    Effect.suspend(() => {
      pooled.retirement = reason
      stock.retires(pooled)
      return Effect.andThen(metrics.retired(reason), Scope.close(pooled.scope, Exit.void))
    })

  /** What nobody has heard from since one was asked in vain is as silent as that one. */
  const condemn = ({ connection }: Pooled, since: number) =>
    Effect.suspend(() => {
      const silent = [...idle, ...asked.keys()].filter(({ heardAt }) => heardAt < since)
      // At once: nobody may ask or lend one of them before it is closed.
      for (const pooled of silent) pooled.abandoned = true
      silent.forEach((pooled) => stock.retires(pooled))
      return Effect.andThen(
        LogEvent.warning(
          { event: "connection.no_answer", source: source.name, connection: connection.id },
          `Connection ${connection.id} to ${source.name} did not answer and was closed, and ${silent.length} idle ones with it that were not heard from since. See what drops connections on the way, such as a firewall.`
        ),
        Effect.forEach(silent, (pooled) => retire(pooled, "did not answer"), atOnce)
      )
    })

  /** Asks one that was idle; the answer decides whether it is idle again or closed. */
  const ask = (pooled: Pooled) => {
    stock.leaves(pooled)
    const since = now()
    asked.set(pooled, since)
    fork(
      Effect.matchCauseEffect(Effect.interruptible(backend.check(pooled)), {
        onSuccess: () =>
          Effect.suspend(() => {
            if (!asked.delete(pooled)) return Effect.void
            pooled.heardAt = now()
            return rest(pooled)
          }),
        onFailure: () =>
          Effect.suspend(() => {
            if (isClosed || !asked.delete(pooled)) return Effect.void
            pooled.abandoned = true
            return Effect.all([retire(pooled, "did not answer"), condemn(pooled, since)], atOnce)
          })
      })
    )
  }

  /** There for the next borrower, or closed. */
  const rest = (pooled: Pooled) =>
    Effect.suspend(() => {
      if (!all.has(pooled)) return Effect.void
      if (isClosed) return Scope.close(pooled.scope, Exit.void)
      const reason = objection(pooled)
      if (reason !== undefined) return retire(pooled, reason)
      stock.rests(pooled)
      pump()
      return Effect.void
    })

  const open = (role: string | undefined) => {
    stock.opens(role)
    none.closeUnsafe()
    const began = generation
    fork(
      Effect.matchCauseEffect(backend.open(role, { departs, freed }), {
        onSuccess: (pooled) =>
          Effect.suspend(() => {
            stock.opened(role)
            if (began !== generation) pooled.retirement = "evicted"
            all.add(pooled)
            const { id } = pooled.connection
            return Effect.all([metrics.opened(id), room.opened(stock.slots), rest(pooled)], { discard: true })
          }),
        onFailure: (cause) =>
          Effect.suspend(() => {
            stock.opened(role)
            if (isClosed || Cause.hasInterruptsOnly(cause)) return Effect.void
            return Effect.map(room.refused(cause, stock.slots, role), (isFull) => {
              if (!isFull) waiters.fail(cause, role)
              pump()
            })
          })
      })
    )
  }

  /** Takes one that may be lent at once. */
  const takeFresh = (want: Want) => {
    const fresh = idle.findLast((pooled) => suits(want, pooled.role) && isFresh(pooled))
    if (fresh !== undefined) stock.leaves(fresh)
    return fresh
  }

  /** Begins what those who still wait need, and makes room for it. What comes to rest meanwhile is for the next turn. */
  const begin = () => {
    const plan = ConnectionPoolPlan.make({
      wants: waiters.all().map(({ want }) => want),
      begun: [...stock.opening, ...stock.answering(now())],
      idle: idle.filter((pooled) => objection(pooled) === undefined),
      free: room.max() - stock.slots
    })
    const spare = idle.filter((pooled) => !plan.ask.includes(pooled))
    plan.ask.forEach(ask)
    plan.open.forEach(open)
    if (waiters.size === 0) return
    // Their places are needed.
    for (const pooled of spare) {
      const reason = objection(pooled)
      if (reason !== undefined && idle.includes(pooled)) give(pooled, reason)
    }
    // What was idle for the longest time is the first, and none of it is what anybody waits for.
    let missing = plan.missing - stock.leaving()
    for (const pooled of spare) {
      if (missing <= 0 || !idle.includes(pooled)) continue
      missing--
      give(pooled, "for another role")
    }
  }

  /** Serves the borrowers that wait: with what is idle, with asking what was not heard from for long, with opening more. */
  const serve = () => {
    if (isClosed || suspensions > 0 || waiters.size === 0) return
    const served = waiters.handOut(takeFresh)
    if (waiters.size > 0) begin()
    // Last: they go on at once, and may borrow, give back or suspend.
    served.forEach(tell)
  }

  /** What is begun may be done at once, and calls this again. */
  const pump: () => void = inTurns(serve)

  /** Closes one that is idle. */
  const give = (pooled: Pooled, reason: ConnectionPoolMetrics.Retirement) => {
    pooled.retirement = reason
    stock.retires(pooled)
    fork(retire(pooled, reason))
  }

  const enter = (waiter: Waiter) => {
    waiters.enter(waiter)
    pump()
  }

  const giveBack = (waiter: Waiter) =>
    Effect.suspend(() => {
      waiters.leave(waiter)
      return waiter.pooled === undefined ? Effect.void : rest(waiter.pooled)
    })

  /** Looks after those that are idle: nobody else does while nobody borrows. */
  const tend = Effect.sync(() => {
    if (isClosed) return
    const at = now()
    let surplus = stock.staying() - limits.min
    // Those that were not used for the longest time come first.
    for (const pooled of idle.slice()) {
      const reason =
        objection(pooled) ??
        (surplus > 0 && at - pooled.idleSince >= Duration.toMillis(limits.idleTimeout) ? "idle" : undefined)
      if (reason !== undefined) {
        surplus--
        give(pooled, reason)
      } else if (at - pooled.heardAt >= askAfter) ask(pooled)
    }
    room.look(stock.slots, waiters.size)
    pump()
    if (suspensions > 0) return
    for (let missing = limits.min - stock.staying(); missing > 0 && stock.slots < room.max(); missing--) open(undefined)
  })
  yield* Effect.forkScoped(Effect.repeat(tend, Schedule.spaced(tendEvery)), { startImmediately: true })

  /** A reset that gets no answer tells of the others, too. */
  const reset = (pooled: Pooled) => {
    const since = now()
    return Effect.andThen(
      backend.reset(pooled),
      Effect.sync(() => {
        const silent = pooled.retirement === "reset failed" && now() - since >= Duration.toMillis(limits.resetTimeout)
        if (silent) fork(condemn(pooled, since))
      })
    )
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

  return {
    isReady: () => waiters.size === 0 && suspensions === 0 && !isClosed && idle.some(isFresh),
    areAllLent: () => all.size > 0 && idle.length + asked.size === 0 && stock.slots >= room.max(),
    isHeardOf: () => stock.isHeardOf(now() - Duration.toMillis(heardLately)),
    take: (want, late, admit) =>
      take({ want, late, admit }, (waiter) => ({ make: () => enter(waiter), release: giveBack(waiter) })),
    recycle,
    noRoom: () => (all.size === 0 ? room.refusal() : undefined),
    recall: backend.recall,
    drop: ({ scope }) => Scope.close(scope, Exit.void),
    stats: Effect.map(zombies.size, (zombies) => ({ open: all.size, idle: idle.length + asked.size, zombies })),
    evictAll: Effect.suspend(() => {
      generation++
      for (const pooled of all) pooled.retirement ??= "evicted"
      return Effect.forEach([...idle], (pooled) => retire(pooled, "evicted"), atOnce)
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
    retreat: Effect.sync(() => void suspensions++),
    close: (patience) =>
      Effect.gen(function* () {
        isClosed = true
        const closing = Effect.gen(function* () {
          yield* FiberSet.clear(work)
          yield* Effect.forEach([...idle, ...asked.keys()], ({ scope }) => Scope.close(scope, Exit.void), atOnce)
          yield* none.await
        })
        const fiber = yield* Effect.forkDetach(closing, { startImmediately: true })
        yield* Effect.timeoutOption(Fiber.await(fiber), patience)
      })
  } satisfies Backends as Backends
})
