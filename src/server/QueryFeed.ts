/**
 * The states of all queries of a principal on one stream: HTTP/1.1 gives a browser six connections to a service, for all its
 * tabs.
 *
 * The stream lasts until the watcher's session is over, the client is gone or the service drains; it stands in the ledger under
 * the session, as `event stream`.
 *
 * **Details**
 *
 * It begins with the queries as they are, the oldest first, and goes on with every state that they come to. A reader that is slow
 * holds up nobody and loses none: nothing is buffered for it but a few events. Queries that were submitted here are followed at
 * once, others when the list has them, which is looked at every two seconds.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Ledger from "../lifetime/Ledger.ts"
import type * as Lifetime from "../lifetime/Lifetime.ts"
import type { QueryId } from "../query/QueryId.ts"
import type { QueryRecord } from "../query/QueryRecord.ts"
import type { QueryRegistry } from "../query/QueryRegistry.ts"
import * as QueryState from "../query/QueryState.ts"
import type { QueryNews } from "./QueryNews.ts"

/** Who watches. */
export interface Watch {
  readonly principal: string
  /** What was over a minute before this moment is left out: milliseconds, 0 for everything. */
  readonly since: number
  readonly session: Lifetime.Lifetime
  /** Ends the stream, as the end of the session does. */
  readonly end: Effect.Effect<void>
}

/** Events that wait for the reader. */
const bufferSize = 16

/** Queries of a page of the list, and those that are remembered as told. */
const pageSize = 100
const remembered = 8000

/** How often the list is looked at for queries that were submitted elsewhere. */
const every = Duration.seconds(2)

/** Clocks of instances differ: what is told twice is harmless, what is not told is lost. */
const margin = 60_000

/** When a query came to the state that it has. */
export const momentOf = ({ transitions }: QueryRecord): number =>
  Math.max(...transitions.map(({ at }) => DateTime.toEpochMillis(at)))

/** The queries as they are, then every state that they come to. */
export const watch = (
  queries: Pick<QueryRegistry["Service"], "events" | "list">,
  news: QueryNews["Service"],
  { end, principal, session, since }: Watch
): Stream.Stream<QueryRecord> => {
  const follow = Effect.fnUntraced(function* (queue: Queue.Enqueue<QueryRecord>) {
    const followers = yield* FiberMap.make<QueryId>()
    const run = yield* FiberMap.runtime(followers)<never>()
    /** Those that were told, the latest of them. */
    const known = new Set<QueryId>()
    const remember = (id: QueryId) => {
      known.add(id)
      if (known.size <= remembered) return
      for (const oldest of Array.from(known).slice(0, remembered / 2)) known.delete(oldest)
    }

    const begin = (id: QueryId, after: number) =>
      run(
        id,
        queries.events(principal, id, { after }).pipe(
          Stream.runForEach(({ record }) => Queue.offer(queue, record)),
          // It was forgotten meanwhile: there is nothing more to tell.
          Effect.ignore
        )
      )

    /** What the list has and nobody was told of, the oldest first. A page without any is the last that is looked at. */
    const found = Effect.gen(function* () {
      const unknown: Array<QueryRecord> = []
      for (let after: number | undefined; ;) {
        const page = yield* queries.list(principal, { limit: pageSize, after })
        const before = unknown.length
        unknown.push(...page.queries.filter(({ id }) => !known.has(id)))
        if (page.next === undefined || unknown.length === before || unknown.length >= remembered / 2) break
        after = page.next
      }
      return unknown.toReversed()
    })

    const isOld = (record: QueryRecord) => QueryState.isTerminal(record.state) && momentOf(record) < since - margin

    const look = Effect.flatMap(found, (records) =>
      Effect.forEach(
        records,
        (record) => {
          if (known.has(record.id)) return Effect.void
          remember(record.id)
          if (isOld(record)) return Effect.void
          return Effect.map(Queue.offer(queue, record), () => {
            if (!QueryState.isTerminal(record.state)) begin(record.id, record.transitions.length)
          })
        },
        { discard: true }
      )
    )
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        news.listen(principal, (id) => {
          if (known.has(id)) return
          remember(id)
          begin(id, 0)
        })
      ),
      (leave) => Effect.sync(leave)
    )
    yield* Effect.repeat(look, Schedule.spaced(every))
  })

  const told = Stream.callback<QueryRecord>(follow, { bufferSize, strategy: "suspend" }).pipe(
    Stream.interruptWhen(Effect.raceFirst(session.ended, end))
  )
  const held = Ledger.hold(
    { kind: "event stream", id: "queries", releaseLimit: "none" },
    Effect.void,
    () => Effect.void
  )
  return Stream.unwrap(Effect.as(Effect.provideService(held, Ledger.Parent, session.entry), told))
}
