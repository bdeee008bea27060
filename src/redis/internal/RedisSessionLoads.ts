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

/** Makes a load that works until the current scope closes. */
export const make = ({ concurrency, confirm, load, memory, open, within }: Options) => {
  const look = (batch: Batch, tokens: ReadonlyArray<TokenHash>) =>
    tokens.length === 0
      ? Effect.void
      : Effect.map(load(tokens), (answers) => {
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
        })

  /** Answers those that are as they are known, and looks at the others. */
  const lookAgain = (batch: Batch, tokens: ReadonlyArray<TokenHash>, known: ReadonlyArray<RedisSessionReply.Known>) =>
    tokens.length === 0
      ? Effect.void
      : Effect.flatMap(confirm(known.map(({ record }) => record.id)), (answers) => {
          const same = RedisSessionReply.confirmed(known, answers)
          const changed: Array<TokenHash> = []
          for (const [index, token] of tokens.entries()) {
            const record = same[index] === true ? known[index]?.record : undefined
            if (record === undefined) changed.push(token)
            else tell(batch, token, Exit.succeed(record))
          }
          return look(batch, changed)
        })

  return SessionBatches.make<TokenHash, SessionRecord>({
    concurrency,
    largest,
    within,
    travel: (batch) => {
      const tokens: Array<TokenHash> = []
      const known: Array<RedisSessionReply.Known> = []
      const unknown: Array<TokenHash> = []
      for (const token of batch.keys()) {
        const remembered = memory.get(token)
        if (remembered === undefined) unknown.push(token)
        else {
          tokens.push(token)
          known.push(remembered)
        }
      }
      const both = [look(batch, unknown), lookAgain(batch, tokens, known)]
      return Effect.as(Effect.all(both, { concurrency: "unbounded", discard: true }), Effect.void)
    }
  })
}
