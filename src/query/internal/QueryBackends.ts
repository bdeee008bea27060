/**
 * Notes connections of a pool in the journal, each before it is used, so that others can end them when this instance is gone.
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { QueryJournal } from "../QueryJournal.ts"

/** For how long a new connection waits for the lease of the instance. */
const untilLeased = { schedule: Schedule.spaced("50 millis"), times: 40 }

/**
 * What notes the handle of a new connection, for `onOpen` of its pool, over the `QueryJournal` in context. Without a shared one
 * the handle is not asked for. It fails for an instance that others take for gone.
 */
export const noting = (engine: string) =>
  Effect.map(
    QueryJournal,
    (journal) =>
      <E, R>(handle: Effect.Effect<string, E, R>): Effect.Effect<void, unknown, R> =>
        journal === undefined
          ? Effect.void
          : // The pool opens its first connections while the instance takes its lease.
            Effect.flatMap(handle, (handle) => Effect.retry(journal.register(engine, handle), untilLeased))
  )
