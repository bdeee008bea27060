/**
 * Changes of sessions' data by concurrent requests that travel together, see `SessionBatches`.
 *
 * **Details**
 *
 * A connection that writes one change at a time waits for this process to come round between two of them, which is what a
 * busy process is slow at. A batch waits for nobody: a session that somebody else is writing just then, or that the change
 * does not fit for another reason than its version, is tried again on its own, and that tells why.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Result from "effect/Result"
import type * as TimeLimit from "../../lifetime/TimeLimit.ts"
import * as SessionBatches from "../../session/internal/SessionBatches.ts"
import * as PgSessionRow from "./PgSessionRow.ts"
import { SessionConflict, SessionError } from "../../session/SessionError.ts"
import type { SessionId } from "../../session/SessionId.ts"
import type { SessionRecord } from "../../session/SessionRecord.ts"

/** A change as it travels. */
export interface Change {
  readonly id: SessionId
  readonly version: number
  readonly json: string
  readonly dataVersion: number
}

/** Many changes, as the statement for them takes them. */
export const columns = (changes: ReadonlyArray<Change>) => [
  changes.map(({ id }) => id),
  changes.map(({ version }) => version),
  changes.map(({ json }) => json),
  changes.map(({ dataVersion }) => dataVersion)
]

/** What a change consists of. */
export interface Options {
  /** How many batches may be under way. */
  readonly concurrency: number
  /** For a batch as a whole. */
  readonly within: TimeLimit.TimeLimit<SessionError>
  /** What opens the data of sessions. */
  readonly open: PgSessionRow.Open
  /** Makes those changes that need not wait; a row for each, in its place, ending in whether it is too late, and the place. */
  readonly updateFree: (
    changes: ReadonlyArray<Change>
  ) => Effect.Effect<ReadonlyArray<PgSessionRow.Row | undefined>, SessionError>
  /** Makes a change after the present writer of the session, or tells why not. */
  readonly update: (change: Change) => Effect.Effect<SessionRecord, SessionError>
}

/** Characters of data in one statement, each change counting as so many more. */
const largest = 262_144
const overhead = 2048

const conflict = Exit.fail(new SessionError({ reason: new SessionConflict() }))

/** Makes an update that works until the current scope closes. */
export const make = ({ concurrency, open, update, updateFree, within }: Options) =>
  SessionBatches.make<Change, SessionRecord>({
    concurrency,
    largest,
    sizeOf: ({ json }) => json.length + overhead,
    within,
    travel: Effect.fnUntraced(function* (batch) {
      const changes = Array.from(batch.keys())
      const rows = yield* updateFree(changes)
      const isDone = (index: number) => typeof rows[index]?.[0] === "string"
      const done = new Set(changes.filter((_, index) => isDone(index)).map(({ id }) => id))
      const left = changes.filter((change, index) => {
        const row = rows[index]
        const waiting = batch.get(change)
        if (row === undefined || waiting === undefined) return true
        if (!isDone(index)) {
          // One that is certainly too late need not wait to be told: versions only grow.
          if (row.at(-2) !== true && !done.has(change.id)) return true
          Deferred.doneUnsafe(waiting, conflict)
          return false
        }
        Deferred.doneUnsafe(
          waiting,
          Result.match(PgSessionRow.record(row, open), { onFailure: Exit.fail, onSuccess: Exit.succeed })
        )
        return false
      })
      return SessionBatches.answerEach(batch, left, update)
    })
  })
