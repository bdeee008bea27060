/**
 * The events of a query for somebody who watches it.
 *
 * The stream lasts until the query is over, the watcher's session is, or the service drains; it stands in the ledger under
 * the session, as `event stream`.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Ledger from "../lifetime/Ledger.ts"
import type * as Lifetime from "../lifetime/Lifetime.ts"
import type { QueryId } from "../query/QueryId.ts"
import type { Event, QueryRegistry } from "../query/QueryRegistry.ts"

/** Who watches what. */
export interface Watch {
  readonly principal: string
  readonly id: QueryId
  /** The number of the last event that the watcher has. */
  readonly after: number
  readonly session: Lifetime.Lifetime
  /** Ends the stream, as the end of the session does. */
  readonly end: Effect.Effect<void>
}

/** How long the stream waits for a query that is being ended. */
const lastWords = "2 seconds"

/** The events after those that the watcher has. What has happened by the end of the stream is told, whatever ended it. */
export const watch = (
  queries: Pick<QueryRegistry["Service"], "await" | "events" | "status">,
  { after, end, id, principal, session }: Watch
): Stream.Stream<Event> => {
  let seen = after
  const live = queries.events(principal, id, { after }).pipe(
    Stream.interruptWhen(Effect.raceFirst(session.ended, end)),
    Stream.tap(({ seq }) =>
      Effect.sync(() => {
        seen = seq
      })
    )
  )
  // The end of a session is over after that of its queries, and may be heard of before it. One that ends is over in a moment.
  const last = Effect.flatMap(queries.status(principal, id), (record) =>
    record.state === "Canceling"
      ? Effect.map(Effect.timeoutOption(queries.await(principal, id), lastWords), (over) =>
          Option.getOrElse(over, () => record)
        )
      : Effect.succeed(record)
  )
  const rest = Effect.map(last, ({ transitions }) =>
    transitions.length > seen
      ? Stream.take(queries.events(principal, id, { after: seen }), transitions.length - seen)
      : Stream.empty
  )
  const events = Stream.concat(
    live,
    Stream.suspend(() => Stream.unwrap(rest))
  )
  const held = Ledger.hold({ kind: "event stream", id, releaseLimit: "none" }, Effect.void, () => Effect.void)
  return Stream.unwrap(Effect.as(Effect.provideService(held, Ledger.Parent, session.entry), events)).pipe(
    // It was forgotten meanwhile: there is nothing more to tell.
    Stream.catch(() => Stream.empty)
  )
}
