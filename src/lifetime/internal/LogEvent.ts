/**
 * Lines of the log that are events: each has a stable name and stable fields beside its words, so that a program can look for it.
 *
 * The names and fields are listed in `docs/metrics-and-logs.md`, and a test compares that list with the calls of this module: write
 * them as literals, in place. No field holds a token, a password or a parameter of a statement.
 */
import * as Effect from "effect/Effect"

/** What an event is called, such as `login.failed`, and what it says beside its words. */
export interface Fields {
  readonly event: string
  readonly [field: string]: unknown
}

const at =
  (log: (...message: ReadonlyArray<unknown>) => Effect.Effect<void>) =>
  (fields: Fields, ...message: ReadonlyArray<unknown>): Effect.Effect<void> =>
    Effect.annotateLogs(log(...message), fields)

/** For who looks for a fault. */
export const debug = at(Effect.logDebug)
/** Something happened that is as it should be. */
export const info = at(Effect.logInfo)
/** Somebody should look at it. */
export const warning = at(Effect.logWarning)
/** Something failed that should not. */
export const error = at(Effect.logError)
