/**
 * From where on one instance of `PgSessionStore` looks for sessions to prune, for as long as the store lives.
 *
 * **Details**
 *
 * What was pruned is in the way of a search from the beginning until the server has cleaned up. So a search goes on from
 * where the one before ended, and begins anew when all is done, to find what an instance left that did not come to an end:
 * at once, or an hour after a great deal was pruned.
 */
import * as Duration from "effect/Duration"

/** What a batch did. */
export interface Batch {
  readonly sessions: number
  /** Whether there may be more. */
  readonly isFull: boolean
  /** The end of the last of them, by the server's clock; null where there was none. */
  readonly upTo: string | null
  /** The time of this process, in nanoseconds; nobody sets it back. */
  readonly at: bigint
}

/** So many delay no search noticeably. */
const inTheWay = 10_000
/** Also of millions of rows: the server looks for what to clean up every minute (`autovacuum_naptime`). */
const cleanedUp = Duration.hours(1)

/** Makes the place of one instance, at the beginning. */
export const make = () => {
  let from: string | null = null
  let sessions = 0
  let anewAt = 0n
  return {
    /** The end from which on to look; null for the beginning. */
    from: () => from,
    note: (batch: Batch) => {
      from = batch.upTo ?? from
      sessions += batch.sessions
      if (sessions > inTheWay) {
        sessions = 0
        anewAt = batch.at + Duration.toNanosUnsafe(cleanedUp)
      }
      if (batch.isFull || batch.at < anewAt) return
      sessions = 0
      from = null
    }
  }
}
