/**
 * Permits that are given out in turn between keys, so that a key with a thousand waiters does not starve one with one.
 *
 * A permit, and a place in the queue for one, is held until the scope that it was taken in closes. The place is
 * registered there before the waiting begins, so that an interruption at any point leaves no trace: a place that was
 * granted gives its permit back, and one that was not leaves the queue.
 *
 * **Details**
 *
 * Of each key the first waiter is served first; keys take turns. Where the permits of a key are bounded, the keys that hold the
 * fewest come first (max-min fairness), and a key that holds as many as it may is passed over and keeps its turn. Waiting costs
 * no fiber and no timer of its own. (`effect/PartitionedSemaphore` 4.1 loses a permit when an interruption arrives right after
 * the take, and has no bounds.)
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Deadlines from "./Deadlines.ts"

/** Why a caller gets no permit: too many wait already, it waited for too long, or there will be no more. */
export type Refusal = "full" | "late" | "closed"

/** What one key may have. */
export interface KeyBounds {
  readonly permits: number
  readonly maxWaiting: number
  /**
   * Permits that are kept for keys that hold none: so many keys find one at once, whatever others hold. What keys hold beyond
   * their first is at most the rest. Default: none.
   */
  readonly reserved?: number | undefined
  /** As `reserved`, of the places to wait: for keys of which nobody waits. Default: none. */
  readonly reservedWaiting?: number | undefined
}

/** How much waiting there may be. */
export interface Bounds<E> {
  /** Callers that wait at a time. */
  readonly maxWaiting: number
  /** How long each of them does. Default: for ever. */
  readonly patience?: Duration.Duration | undefined
  /** What one key may have of the permits and of the places to wait. Default: all. */
  readonly perKey?: KeyBounds | undefined
  /** What a caller fails with. */
  readonly refuse: (refusal: Refusal) => Effect.Effect<never, E>
}

/**
 * What a permit is for. It is claimed at the moment of the grant: things are claimed in the order of the permits, in whichever order
 * their holders go on.
 */
export interface Claim {
  /** Is called once, before another permit is granted. It must not throw. The holder may be interrupted while it runs. */
  readonly make: () => void
  /** Undoes it, when the scope closes and before the permit is given back; also where `make` has not returned yet. */
  readonly release: Effect.Effect<void>
}

/** A place among those who want a permit. */
export interface Place<E = never> {
  /** Calls `listener`, at once or later, when the permit is there, or with the failure when there will be none. */
  readonly told: (listener: (news: Effect.Effect<void, E>) => void) => void
  /** Gives the permit back or leaves the queue, once however often it is called. */
  readonly leave: () => void
}

export interface FairSemaphore<E = never> {
  /** Takes a permit for the current scope, and with it what it is for. */
  readonly take: (key: string, claim?: Claim) => Effect.Effect<void, E, Scope.Scope>
  /** Runs an effect with a permit. */
  readonly withPermit: (key: string) => <A, E2, R>(effect: Effect.Effect<A, E2, R>) => Effect.Effect<A, E | E2, R>
  /**
   * Takes a place at once, for somebody who goes on while another waits for the permit.
   *
   * **Gotchas**
   *
   * The place is nobody's yet: tie `leave` to a scope before an interruption can come in between.
   */
  readonly enterUnsafe: (key: string) => Place<E> | Refusal
  /** Callers that wait now, of all keys or of one. */
  readonly waiting: (key?: string) => number
  /** Refuses all who wait, and all who come later. */
  readonly close: Effect.Effect<void>
}

/** Somebody with a permit or in the queue for one. What he is told, a permit or a refusal, he is told once. */
class Holder<E> implements Place<E> {
  readonly key: string
  state: "waiting" | "granted" | "gone" = "waiting"
  /** Takes its deadline back. */
  forget: (() => void) | undefined
  private news: Effect.Effect<void, E> | undefined
  private listener: ((news: Effect.Effect<void, E>) => void) | undefined
  readonly claim: Claim | undefined
  private readonly gone: (holder: Holder<E>) => void

  constructor(key: string, gone: (holder: Holder<E>) => void, claim: Claim | undefined) {
    this.key = key
    this.gone = gone
    this.claim = claim
  }

  told(listener: (news: Effect.Effect<void, E>) => void): void {
    if (this.news === undefined) this.listener = listener
    else listener(this.news)
  }

  tell(news: Effect.Effect<void, E>): void {
    this.news = news
    this.listener?.(news)
  }

  leave(): void {
    this.gone(this)
  }
}

/** Who waits. */
class Queue<E> {
  size = 0
  /** The key whose turn it is comes first. */
  private readonly turns = new Map<string, Set<Holder<E>>>()

  of(key: string): number {
    return this.turns.get(key)?.size ?? 0
  }

  /** Those beyond the first of each key. */
  get beyondFirst(): number {
    return this.size - this.turns.size
  }

  add(holder: Holder<E>): void {
    this.size++
    const others = this.turns.get(holder.key)
    if (others === undefined) this.turns.set(holder.key, new Set([holder]))
    else others.add(holder)
  }

  remove(holder: Holder<E>): void {
    const others = this.turns.get(holder.key)
    if (others?.delete(holder) !== true) return
    this.size--
    if (others.size === 0) this.turns.delete(holder.key)
  }

  /** Takes out the first of the key that has the fewest, of those that may have more. */
  next(held: (key: string) => number, mayHaveMore: (key: string) => boolean): Holder<E> | undefined {
    let [fewest, turn] = [Number.POSITIVE_INFINITY, ""]
    for (const key of this.turns.keys()) {
      const count = held(key)
      if (count >= fewest || !mayHaveMore(key)) continue
      ;[fewest, turn] = [count, key]
      // Few keys hold some, so one that holds none is near.
      if (count === 0) break
    }
    const holders = this.turns.get(turn)
    if (holders === undefined) return undefined
    const [first] = holders
    if (first === undefined) return undefined
    this.remove(first)
    this.toEnd(turn)
    return first
  }

  /** The turn of a key, which has had one, comes after those of all others. */
  toEnd(key: string): void {
    const holders = this.turns.get(key)
    if (holders === undefined) return
    this.turns.delete(key)
    this.turns.set(key, holders)
  }
}

/** Makes the permits, without bounds unless some are given. The clock of those runs in the current scope. */
export const make = Effect.fnUntraced(function* <E = never>(permits: number, bounds?: Bounds<E>) {
  const deadlines = bounds?.patience === undefined ? undefined : yield* Deadlines.make(bounds.patience)
  const refuse = bounds?.refuse ?? (() => Effect.interrupt)
  const perKey = bounds?.perKey
  const queue = new Queue<E>()
  /** Permits of each key; kept only where that is limited. */
  const held = new Map<string, number>()
  /** What keys may hold beyond their first. */
  const shared = permits - (perKey?.reserved ?? 0)
  let free = permits
  let closed = false

  const heldBy = (key: string) => held.get(key) ?? 0
  const count = (key: string, change: number) => {
    free -= change
    if (perKey === undefined) return
    const now = heldBy(key) + change
    if (now === 0) held.delete(key)
    else held.set(key, now)
  }
  const mayHaveMore = (key: string) =>
    perKey === undefined || !held.has(key) || (heldBy(key) < perKey.permits && permits - free - held.size < shared)
  const isFull = (key: string) => {
    if (bounds === undefined) return false
    if (queue.size >= bounds.maxWaiting) return true
    const theirs = queue.of(key)
    if (perKey === undefined || theirs === 0) return perKey?.maxWaiting === 0
    return theirs >= perKey.maxWaiting || queue.beyondFirst >= bounds.maxWaiting - (perKey.reservedWaiting ?? 0)
  }

  const grant = (holder: Holder<E>) => {
    count(holder.key, 1)
    holder.state = "granted"
    holder.forget?.()
    holder.claim?.make()
    holder.tell(Effect.void)
  }
  const refused = (holder: Holder<E>, refusal: Refusal) => {
    queue.remove(holder)
    holder.state = "gone"
    holder.forget?.()
    holder.tell(refuse(refusal))
  }
  const leave = (holder: Holder<E>) => {
    const { state } = holder
    holder.forget?.()
    holder.state = "gone"
    if (state === "waiting") queue.remove(holder)
    if (state !== "granted") return
    count(holder.key, -1)
    if (perKey !== undefined && !held.has(holder.key)) queue.toEnd(holder.key)
    if (closed) return
    // One is enough: while a permit is free, all who wait are of keys that have all they may have.
    const next = queue.next(heldBy, mayHaveMore)
    if (next !== undefined) grant(next)
  }

  const enter = (key: string, claim?: Claim): Holder<E> | Refusal => {
    if (closed) return "closed"
    const isFree = free > 0 && mayHaveMore(key)
    if (!isFree && isFull(key)) return "full"
    const holder = new Holder<E>(key, leave, claim)
    if (isFree) grant(holder)
    else {
      queue.add(holder)
      holder.forget = deadlines?.add(() => refused(holder, "late"))
    }
    return holder
  }

  /** What was claimed is released, then the permit is given back. A place in the queue is left at once. */
  const release = (holder: Holder<E>) =>
    Effect.suspend(() => {
      const { claim, state } = holder
      if (claim !== undefined && state === "granted") {
        return Effect.ensuring(
          claim.release,
          Effect.sync(() => leave(holder))
        )
      }
      leave(holder)
      return Effect.void
    })

  const takeIn = (scope: Scope.Scope, key: string, claim?: Claim): Effect.Effect<void, E> =>
    Effect.uninterruptibleMask((restore) => {
      const holder = enter(key, claim)
      if (typeof holder === "string") return refuse(holder)
      const tied = Scope.addFinalizer(scope, release(holder))
      return holder.state === "granted"
        ? tied
        : Effect.andThen(tied, restore(Effect.callback<void, E>((resume) => holder.told(resume))))
    })

  return {
    enterUnsafe: (key) => enter(key),
    take: (key, claim) => Effect.flatMap(Effect.scope, (scope) => takeIn(scope, key, claim)),
    withPermit: (key) => (effect) =>
      Effect.suspend(() => {
        const scope = Scope.makeUnsafe()
        return Effect.onExit(Effect.andThen(takeIn(scope, key), effect), (exit) =>
          Scope.close(scope, Exit.asVoid(exit))
        )
      }),
    waiting: (key) => (key === undefined ? queue.size : queue.of(key)),
    close: Effect.sync(() => {
      closed = true
      const next = () =>
        queue.next(
          () => 0,
          () => true
        )
      for (let holder = next(); holder !== undefined; holder = next()) refused(holder, "closed")
    })
  } satisfies FairSemaphore<E> as FairSemaphore<E>
})
