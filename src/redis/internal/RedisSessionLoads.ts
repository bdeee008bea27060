/**
 * Loads of concurrent requests that travel together, see `SessionBatches`.
 *
 * **Details**
 *
 * Requests that present the same token share one answer. Of sessions that were loaded lately, only the stamp is fetched: where
 * it is the same and nothing is due by the server's clock, so is the session. The others are loaded by the script that
 * also writes the activity that is due.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import type * as TimeLimit from "../../lifetime/TimeLimit.ts"
import * as RedisSessionReply from "./RedisSessionReply.ts"
import * as SessionBatches from "../../session/internal/SessionBatches.ts"
import type { SessionCipher } from "../../session/SessionCipher.ts"
import type { SessionError } from "../../session/SessionError.ts"
import type { SessionId } from "../../session/SessionId.ts"
import type { SessionMemory } from "../../session/internal/SessionMemory.ts"
import type { SessionRecord } from "../../session/SessionRecord.ts"
import type { TokenHash } from "../../session/SessionToken.ts"

/** What a load consists of. */
export interface Options {
  /** How many batches may be under way. */
  readonly concurrency: number
  /** For a batch as a whole. */
  readonly within: TimeLimit.TimeLimit<SessionError>
  /** For each token its session, in its place. */
  readonly load: (tokens: ReadonlyArray<TokenHash>) => Effect.Effect<ReadonlyArray<RedisSessionReply.Row>, SessionError>
  /** The server's time, and behind it for each session its stamp. */
  readonly confirm: (ids: ReadonlyArray<SessionId>) => Effect.Effect<ReadonlyArray<unknown>, SessionError>
  readonly memory: SessionMemory<RedisSessionReply.Known>
  /** What opens the data of sessions. */
  readonly open: SessionCipher["open"]
}

type Batch = SessionBatches.Batch<TokenHash, SessionRecord>

/** The server does nothing else while a script runs: so many take it a millisecond or so, two where all activity is due. */
const largest = 64

const tell = (batch: Batch, token: TokenHash, exit: Exit.Exit<SessionRecord, SessionError>) => {
  const waiting = batch.get(token)
  if (waiting !== undefined) Deferred.doneUnsafe(waiting, exit)
}

/** By then what the answered requests ask for next is on its way: the client's statements are sent a turn of the loop after they are asked for. */
const sent = Effect.andThen(Effect.yieldNow, Effect.yieldNow)

/** Makes a load that works until the current scope closes. */
export const make = Effect.fnUntraced(function* ({ concurrency, confirm, load, memory, open, within }: Options) {
  // The server answers together what came together. While one answer is read, it is to have the next question.
  const reading = yield* Semaphore.make(1)
  const read = (work: () => void) => reading.withPermit(Effect.andThen(Effect.sync(work), sent))

  const answer = (batch: Batch, tokens: ReadonlyArray<TokenHash>, answers: ReadonlyArray<RedisSessionReply.Row>) => {
    for (const [index, token] of tokens.entries()) {
      const row = answers[index] ?? []
      const read = RedisSessionReply.session(row, open)
      if (Result.isFailure(read)) {
        tell(batch, token, Exit.fail(read.failure))
        continue
      }
      const worth = RedisSessionReply.remembered(row, read.success)
      if (worth !== undefined) memory.put(token, worth.known, worth.bytes)
      tell(batch, token, Exit.succeed(read.success))
    }
  }

  /** Answers those that are as they are known, and tells the others. */
  const answerKnown = (
    batch: Batch,
    known: ReadonlyMap<TokenHash, RedisSessionReply.Known>,
    answers: ReadonlyArray<unknown>
  ) => {
    const same = RedisSessionReply.confirmed(Array.from(known.values()), answers)
    const changed: Array<TokenHash> = []
    let index = 0
    for (const [token, { record }] of known) {
      if (same[index++] === true) tell(batch, token, Exit.succeed(record))
      else changed.push(token)
    }
    return changed
  }

  return yield* SessionBatches.make<TokenHash, SessionRecord>({
    concurrency,
    largest,
    within,
    travel: Effect.fnUntraced(function* (batch, place) {
      const known = new Map<TokenHash, RedisSessionReply.Known>()
      const unknown: Array<TokenHash> = []
      for (const token of batch.keys()) {
        const remembered = memory.get(token)
        if (remembered === undefined) unknown.push(token)
        else known.set(token, remembered)
      }
      const [found, confirmed] = yield* Effect.all(
        [
          unknown.length === 0 ? Effect.succeed([]) : load(unknown),
          known.size === 0 ? Effect.succeed([]) : confirm(Array.from(known.values(), ({ record }) => record.id))
        ],
        { concurrency: "unbounded" }
      )
      return Effect.gen(function* () {
        const changed = answerKnown(batch, known, confirmed)
        if (unknown.length > 0) yield* read(() => answer(batch, unknown, found))
        if (changed.length === 0) return
        const answers = yield* place(load(changed))
        yield* read(() => answer(batch, changed, answers))
      })
    })
  })
})
