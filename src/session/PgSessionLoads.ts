/**
 * Loads of concurrent requests that travel together.
 *
 * A batch lives from the first load that opens it until the last one in it is answered, at most as long as the store's
 * time limit. It runs in the scope it was made in, not in a fiber of any request: whoever gives up its load disturbs nobody.
 *
 * **Details**
 *
 * A few batches are under way at a time. What arrives meanwhile makes up the next one, so that batches grow with the load
 * and nothing waits where there is none. Requests that present the same token share one answer.
 *
 * A batch first only reads, and of sessions that were loaded lately only what may have changed. The sessions whose activity is to be written, once per touch interval each, are loaded once
 * more by the statement that writes; those that somebody else is writing just then are settled one by one.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import type * as TimeLimit from "../TimeLimit.ts"
import type { PgSessionMemory, Remembered } from "./PgSessionMemory.ts"
import * as PgSessionRow from "./PgSessionRow.ts"
import type { SessionError } from "./SessionError.ts"
import type { SessionRecord } from "./SessionRecord.ts"
import type { TokenHash } from "./SessionToken.ts"

/** What a load consists of. */
export interface Options {
  /** How many batches may be under way. */
  readonly concurrency: number
  /** For a batch as a whole. */
  readonly within: TimeLimit.TimeLimit<SessionError>
  /** For each token a row in its place. Writes nothing. */
  readonly find: (tokens: ReadonlyArray<TokenHash>) => Rows
  /** The same, but only whether the sessions are still as they are remembered. */
  readonly confirm: (tokens: ReadonlyArray<TokenHash>) => Rows
  readonly memory: PgSessionMemory
  /** The same, and writes the activity that is due, but not where it would have to wait. */
  readonly load: (tokens: ReadonlyArray<TokenHash>) => Rows
  /** Writes activity that is due after whoever is writing the session. */
  readonly settle: (token: TokenHash) => Effect.Effect<SessionRecord, SessionError>
}

type Rows = Effect.Effect<ReadonlyArray<PgSessionRow.Row>, SessionError>
type Batch = Map<TokenHash, Deferred.Deferred<SessionRecord, SessionError>>

/** More in one statement would make the first ones wait for the last ones and save nothing. */
const largest = 128

/** Makes a load that works until the current scope closes. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const run = yield* FiberSet.makeRuntime<never>()
  const { memory } = options
  const slots = yield* Semaphore.make(options.concurrency)
  let open: Batch | undefined

  const close = (batch: Batch) => {
    if (open === batch) open = undefined
  }

  const told = (batch: Batch, token: TokenHash, exit: Exit.Exit<SessionRecord, SessionError>) => {
    const waiting = batch.get(token)
    if (waiting !== undefined) Deferred.doneUnsafe(waiting, exit)
  }

  /** Answers what is answered; the others are owed their activity. */
  const answer = (batch: Batch, tokens: ReadonlyArray<TokenHash>, rows: ReadonlyArray<PgSessionRow.Row>) => {
    const owed: Array<TokenHash> = []
    for (const [index, token] of tokens.entries()) {
      const row = rows[index]
      const loaded = PgSessionRow.loaded(row)
      if (Result.isFailure(loaded)) told(batch, token, Exit.fail(loaded.failure))
      else if (loaded.success.owed) owed.push(token)
      else {
        const { record } = loaded.success
        const worth = row === undefined ? undefined : PgSessionRow.remembered(row, record)
        if (worth !== undefined) memory.put(token, { record, stamp: worth.stamp }, worth.bytes)
        told(batch, token, Exit.succeed(record))
      }
    }
    return owed
  }

  /** As {@link answer}, from what is remembered; also tells what that no longer holds for. */
  const answerKnown = (
    batch: Batch,
    known: ReadonlyMap<TokenHash, Remembered>,
    rows: ReadonlyArray<PgSessionRow.Row>
  ) => {
    const owed: Array<TokenHash> = []
    const changed: Array<TokenHash> = []
    let index = 0
    for (const [token, { record, stamp }] of known) {
      const confirmed = PgSessionRow.confirmed(rows[index++], stamp)
      if (Result.isFailure(confirmed)) told(batch, token, Exit.fail(confirmed.failure))
      else if (confirmed.success.owed) owed.push(token)
      else if (confirmed.success.isSame) told(batch, token, Exit.succeed(record))
      else changed.push(token)
    }
    return { owed, changed }
  }

  const find = (batch: Batch, tokens: ReadonlyArray<TokenHash>) =>
    tokens.length === 0 ? Effect.succeed([]) : Effect.map(options.find(tokens), (rows) => answer(batch, tokens, rows))

  const confirm = (batch: Batch, known: ReadonlyMap<TokenHash, Remembered>) =>
    known.size === 0
      ? Effect.succeed([])
      : Effect.flatMap(options.confirm(Array.from(known.keys())), (rows) => {
          const { changed, owed } = answerKnown(batch, known, rows)
          return Effect.map(find(batch, changed), (more) => [...owed, ...more])
        })

  const look = (batch: Batch) => {
    close(batch)
    const known = new Map<TokenHash, Remembered>()
    const unknown: Array<TokenHash> = []
    for (const token of batch.keys()) {
      const remembered = memory.get(token)
      if (remembered === undefined) unknown.push(token)
      else known.set(token, remembered)
    }
    return Effect.zipWith(find(batch, unknown), confirm(batch, known), (found, confirmed) => [...found, ...confirmed], {
      concurrent: true
    })
  }

  const travel = Effect.fnUntraced(function* (batch: Batch) {
    // Whoever is about to load at this moment comes along.
    yield* Effect.yieldNow
    const due = yield* slots.withPermit(Effect.suspend(() => look(batch)))
    if (due.length === 0) return
    const owed = yield* slots.withPermit(Effect.map(options.load(due), (rows) => answer(batch, due, rows)))
    yield* Effect.forEach(
      owed,
      (token) => Effect.map(Effect.exit(options.settle(token)), (exit) => told(batch, token, exit)),
      { concurrency: "unbounded", discard: true }
    )
  })

  const depart = (batch: Batch) => {
    run(options.within(travel(batch))).addObserver((exit) => {
      // Also when it never began, because the scope was closed.
      close(batch)
      if (Exit.isSuccess(exit)) return
      for (const waiting of batch.values()) Deferred.doneUnsafe(waiting, Exit.failCause(exit.cause))
    })
  }

  return (token: TokenHash): Effect.Effect<SessionRecord, SessionError> =>
    Effect.suspend(() => {
      const joined = open?.get(token)
      if (joined !== undefined) return Deferred.await(joined)
      const waiting = Deferred.makeUnsafe<SessionRecord, SessionError>()
      if (open !== undefined && open.size < largest) {
        open.set(token, waiting)
      } else {
        open = new Map([[token, waiting]])
        depart(open)
      }
      return Deferred.await(waiting)
    })
})
