/**
 * Statements of concurrent requests that travel together.
 *
 * A batch lives from the first request that opens it until the last one in it is answered, at most as long as the store's
 * time limit. It runs in the scope it was made in, not in a fiber of any request: a request that gives up disturbs nobody.
 *
 * **Details**
 *
 * A few batches are under way at a time. What arrives meanwhile makes up the next one, so that batches grow with the load
 * and nothing waits where there is none. Requests for the same, by identity, share one answer.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Semaphore from "effect/Semaphore"
import type * as TimeLimit from "../../lifetime/TimeLimit.ts"
import type { SessionError } from "../SessionError.ts"

/** What is asked for, and who waits for the answer. */
export type Batch<Key, A> = ReadonlyMap<Key, Deferred.Deferred<A, SessionError>>

/** Answers some of a batch one by one. */
export const answerEach = <Key, A>(
  batch: Batch<Key, A>,
  keys: ReadonlyArray<Key>,
  work: (key: Key) => Effect.Effect<A, SessionError>
): Effect.Effect<void> =>
  Effect.forEach(
    keys,
    (key) =>
      Effect.map(Effect.exit(work(key)), (exit) => {
        const waiting = batch.get(key)
        if (waiting !== undefined) Deferred.doneUnsafe(waiting, exit)
      }),
    { concurrency: "unbounded", discard: true }
  )

/** How batches travel. */
export interface Options<Key, A> {
  /** How many batches may be under way. */
  readonly concurrency: number
  /** The most that one statement carries: a larger one would make the first ones wait for the last ones. */
  readonly largest: number
  /** How much of that a request takes. Default: 1. */
  readonly sizeOf?: ((key: Key) => number) | undefined
  /** For a batch as a whole. */
  readonly within: TimeLimit.TimeLimit<SessionError>
  /**
   * The statement, which has one of the places of the batches under way, and what is left to do when it gave that up again. By
   * then everybody in the batch must be answered; `place` lends a place for one more statement.
   */
  readonly travel: (
    batch: Batch<Key, A>,
    place: <B, E>(statement: Effect.Effect<B, E>) => Effect.Effect<B, E>
  ) => Effect.Effect<Effect.Effect<void, SessionError>, SessionError>
}

/** Makes requests that work until the current scope closes. */
export const make = Effect.fnUntraced(function* <Key, A>(options: Options<Key, A>) {
  const { largest, sizeOf = () => 1, travel, within } = options
  const run = yield* FiberSet.makeRuntime<never>()
  const places = yield* Semaphore.make(options.concurrency)
  let open: Map<Key, Deferred.Deferred<A, SessionError>> | undefined
  let room = 0

  const close = (batch: Batch<Key, A>) => {
    if (open === batch) open = undefined
  }

  const depart = (batch: Batch<Key, A>) => {
    const statement = Effect.suspend(() => {
      close(batch)
      return travel(batch, places.withPermit)
    })
    // Requests that are about to ask at this moment come along.
    const work = Effect.andThen(Effect.yieldNow, Effect.flatten(places.withPermit(statement)))
    run(within(work)).addObserver((exit) => {
      // Also when it never began, because the scope was closed.
      close(batch)
      const unanswered = Exit.isSuccess(exit)
        ? Exit.die("A request was left out of a batch")
        : Exit.failCause(exit.cause)
      for (const waiting of batch.values()) Deferred.doneUnsafe(waiting, unanswered)
    })
  }

  return (key: Key): Effect.Effect<A, SessionError> =>
    Effect.suspend(() => {
      const joined = open?.get(key)
      if (joined !== undefined) return Deferred.await(joined)
      const waiting = Deferred.makeUnsafe<A, SessionError>()
      const size = sizeOf(key)
      if (open !== undefined && size <= room) {
        room -= size
        open.set(key, waiting)
      } else {
        room = largest - size
        open = new Map([[key, waiting]])
        depart(open)
      }
      return Deferred.await(waiting)
    })
})
