/**
 * Loads of concurrent requests that travel together, see `SessionBatches`: one script for all of them, which also writes the
 * activity that is due. Requests that present the same token share one answer.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as TimeLimit from "../TimeLimit.ts"
import * as RedisSessionReply from "./RedisSessionReply.ts"
import * as SessionBatches from "./SessionBatches.ts"
import type { SessionError } from "./SessionError.ts"
import type { SessionRecord } from "./SessionRecord.ts"
import type { TokenHash } from "./SessionToken.ts"

/** What a load consists of. */
export interface Options {
  /** How many batches may be under way. */
  readonly concurrency: number
  /** For a batch as a whole. */
  readonly within: TimeLimit.TimeLimit<SessionError>
  /** For each token its session, in its place. */
  readonly load: (tokens: ReadonlyArray<TokenHash>) => Effect.Effect<ReadonlyArray<unknown>, SessionError>
}

/** The server does nothing else while a script runs: so many take it less than a millisecond. */
const largest = 64

/** Makes a load that works until the current scope closes. */
export const make = ({ concurrency, load, within }: Options) =>
  SessionBatches.make<TokenHash, SessionRecord>({
    concurrency,
    largest,
    within,
    travel: (batch) => {
      const tokens = Array.from(batch.keys())
      return Effect.map(load(tokens), (answers) => {
        for (const [index, token] of tokens.entries()) {
          const waiting = batch.get(token)
          const read = RedisSessionReply.session(answers[index])
          if (waiting !== undefined) {
            Deferred.doneUnsafe(waiting, Result.match(read, { onFailure: Exit.fail, onSuccess: Exit.succeed }))
          }
        }
        return Effect.void
      })
    }
  })
