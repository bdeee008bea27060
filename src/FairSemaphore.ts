/**
 * Permits that are given out in turn between keys, so that a key with a thousand waiters does not starve one with one.
 *
 * A permit, and the place of whoever waits for one, is held until the scope that it was taken in closes. The place is
 * registered there before the waiting begins, so that an interruption at any point leaves no trace: a place that was
 * granted gives its permit back, and one that was not leaves the queue.
 *
 * **Details**
 *
 * Of each key the first waiter is served first; keys take turns. Waiting costs no fiber and no timer of its own. (`effect/PartitionedSemaphore` 4.1 loses a permit when an interruption arrives
 * right after the take, and has no bounds.)
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Deadlines from "./Deadlines.ts"

/** Why a caller gets no permit: too many wait already, it waited for too long, or there will be no more. */
export type Refusal = "full" | "late" | "closed"

/** How much waiting there may be. */
export interface Bounds<E> {
  /** Callers that wait at a time. */
  readonly maxWaiting: number
  /** How long each of them does. */
  readonly patience: Duration.Duration
  /** What a caller fails with. */
  readonly refuse: (refusal: Refusal) => Effect.Effect<never, E>
}

export interface FairSemaphore<E = never> {
  /** Takes a permit for the current scope. */
  readonly take: (key: string) => Effect.Effect<void, E, Scope.Scope>
  /** Runs an effect with a permit. */
  readonly withPermit: (key: string) => <A, E2, R>(effect: Effect.Effect<A, E2, R>) => Effect.Effect<A, E | E2, R>
  /** Callers that wait now. */
  readonly waiting: () => number
  /** Refuses whoever waits and whoever comes. */
  readonly close: Effect.Effect<void>
}

/** Somebody in the queue. What he is told, a permit or a refusal, he is told once. */
class Waiter<E> {
  readonly key: string
  granted = false
  /** Takes its deadline back. */
  forget: (() => void) | undefined
  private news: Effect.Effect<void, E> | undefined
  private resume: ((news: Effect.Effect<void, E>) => void) | undefined

  constructor(key: string) {
    this.key = key
  }

  readonly told: Effect.Effect<void, E> = Effect.callback((resume) => {
    if (this.news === undefined) this.resume = resume
    else resume(this.news)
  })

  tell(news: Effect.Effect<void, E>): void {
    this.forget?.()
    this.news = news
    this.resume?.(news)
  }
}

/** Who waits. */
class Queue<E> {
  size = 0
  /** The key whose turn it is comes first. */
  private readonly turns = new Map<string, Set<Waiter<E>>>()

  add(waiter: Waiter<E>): void {
    this.size++
    const others = this.turns.get(waiter.key)
    if (others === undefined) this.turns.set(waiter.key, new Set([waiter]))
    else others.add(waiter)
  }

  remove(waiter: Waiter<E>): void {
    const others = this.turns.get(waiter.key)
    if (others?.delete(waiter) !== true) return
    this.size--
    if (others.size === 0) this.turns.delete(waiter.key)
  }

  next(): Waiter<E> | undefined {
    for (const [key, waiters] of this.turns) {
      for (const waiter of waiters) {
        this.remove(waiter)
        if (waiters.size > 0) {
          this.turns.delete(key)
          this.turns.set(key, waiters)
        }
        return waiter
      }
    }
    return undefined
  }
}

/** Makes the permits, without bounds unless some are given. The clock of those runs in the current scope. */
export const make = Effect.fnUntraced(function* <E = never>(permits: number, bounds?: Bounds<E>) {
  const deadlines = bounds === undefined ? undefined : yield* Deadlines.make(bounds.patience)
  const refuse = bounds?.refuse ?? (() => Effect.interrupt)
  const queue = new Queue<E>()
  let free = permits
  let closed = false

  const giveBack = Effect.sync(() => {
    const waiter = queue.next()
    if (waiter === undefined) free++
    else {
      waiter.granted = true
      waiter.tell(Effect.void)
    }
  })

  const refused = (waiter: Waiter<E>, refusal: Refusal) => {
    queue.remove(waiter)
    waiter.tell(refuse(refusal))
  }

  const wait = (key: string, scope: Scope.Scope) => {
    const waiter = new Waiter<E>(key)
    waiter.forget = deadlines?.add(() => refused(waiter, "late"))
    queue.add(waiter)
    const leave = Effect.suspend(() => {
      waiter.forget?.()
      queue.remove(waiter)
      return waiter.granted ? giveBack : Effect.void
    })
    return Effect.as(Scope.addFinalizer(scope, leave), waiter)
  }

  const takeIn = (scope: Scope.Scope, key: string): Effect.Effect<void, E> =>
    Effect.uninterruptibleMask((restore) => {
      if (closed) return refuse("closed")
      if (free > 0) {
        free--
        return Scope.addFinalizer(scope, giveBack)
      }
      if (bounds !== undefined && queue.size >= bounds.maxWaiting) return refuse("full")
      return Effect.flatMap(wait(key, scope), ({ told }) => restore(told))
    })

  return {
    take: (key) => Effect.flatMap(Effect.scope, (scope) => takeIn(scope, key)),
    withPermit: (key) => (effect) =>
      Effect.suspend(() => {
        const scope = Scope.makeUnsafe()
        return Effect.onExit(Effect.andThen(takeIn(scope, key), effect), (exit) =>
          Scope.close(scope, Exit.asVoid(exit))
        )
      }),
    waiting: () => queue.size,
    close: Effect.sync(() => {
      closed = true
      for (let waiter = queue.next(); waiter !== undefined; waiter = queue.next()) refused(waiter, "closed")
    })
  } satisfies FairSemaphore<E> as FairSemaphore<E>
})
