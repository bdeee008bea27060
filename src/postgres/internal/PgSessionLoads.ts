/**
 * Loads of concurrent requests that travel together, see `SessionBatches`.
 *
 * **Details**
 *
 * Requests that present the same token share one answer.
 *
 * A batch first only reads, and of sessions that were loaded lately only whether they changed. The sessions whose activity
 * is to be written, once per touch interval each, are loaded once more by the statement that writes; those that somebody
 * else is writing just then are settled one by one.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as TimeLimit from "../../lifetime/TimeLimit.ts"
import * as SessionBatches from "../../session/internal/SessionBatches.ts"
import type { SessionMemory, Remembered } from "../../session/internal/SessionMemory.ts"
import * as PgSessionRow from "./PgSessionRow.ts"
import type { SessionError } from "../../session/SessionError.ts"
import type { SessionRecord } from "../../session/SessionRecord.ts"
import type { TokenHash } from "../../session/SessionToken.ts"

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
  readonly memory: SessionMemory
  /** What opens the data of sessions. */
  readonly open: PgSessionRow.Open
  /** The same, and writes the activity that is due, but not where it would have to wait. */
  readonly load: (tokens: ReadonlyArray<TokenHash>) => Rows
  /** Writes activity that is due after the present writer of the session. */
  readonly settle: (token: TokenHash) => Effect.Effect<SessionRecord, SessionError>
}

type Rows = Effect.Effect<ReadonlyArray<PgSessionRow.Row>, SessionError>
type Batch = SessionBatches.Batch<TokenHash, SessionRecord>

/** More in one statement would make the first ones wait for the last ones and save nothing. */
const largest = 128

const told = (batch: Batch, token: TokenHash, exit: Exit.Exit<SessionRecord, SessionError>) => {
  const waiting = batch.get(token)
  if (waiting !== undefined) Deferred.doneUnsafe(waiting, exit)
}

/** Answers what is answered, and remembers it; the others are owed their activity. */
const answer = (
  { memory, open }: Pick<Options, "memory" | "open">,
  batch: Batch,
  tokens: ReadonlyArray<TokenHash>,
  rows: ReadonlyArray<PgSessionRow.Row>
) => {
  const owed: Array<TokenHash> = []
  for (const [index, token] of tokens.entries()) {
    const row = rows[index]
    const loaded = PgSessionRow.loaded(row, open)
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

/** Makes a load that works until the current scope closes. */
export const make = (options: Options) => {
  const { concurrency, confirm, find, load, memory, settle, within } = options
  const look = (batch: Batch, tokens: ReadonlyArray<TokenHash>) =>
    tokens.length === 0 ? Effect.succeed([]) : Effect.map(find(tokens), (rows) => answer(options, batch, tokens, rows))

  const lookAgain = (batch: Batch, known: ReadonlyMap<TokenHash, Remembered>) =>
    known.size === 0
      ? Effect.succeed([])
      : Effect.flatMap(confirm(Array.from(known.keys())), (rows) => {
          const { changed, owed } = answerKnown(batch, known, rows)
          return Effect.map(look(batch, changed), (more) => [...owed, ...more])
        })

  /** Tells whose activity is due. */
  const first = (batch: Batch) => {
    const known = new Map<TokenHash, Remembered>()
    const unknown: Array<TokenHash> = []
    for (const token of batch.keys()) {
      const remembered = memory.get(token)
      if (remembered === undefined) unknown.push(token)
      else known.set(token, remembered)
    }
    return Effect.zipWith(look(batch, unknown), lookAgain(batch, known), (a, b) => [...a, ...b], { concurrent: true })
  }

  return SessionBatches.make<TokenHash, SessionRecord>({
    concurrency,
    largest,
    within,
    travel: Effect.fnUntraced(function* (batch, place) {
      const due = yield* first(batch)
      if (due.length === 0) return Effect.void
      return Effect.flatMap(place(load(due)), (rows) =>
        SessionBatches.answerEach(batch, answer(options, batch, due, rows), settle)
      )
    })
  })
}
