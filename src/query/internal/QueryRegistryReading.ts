/**
 * What a registry tells of the rows and the states of its queries. It lives as long as the registry.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { QueryError, QueryNotFound, QueryNotSucceeded } from "../QueryError.ts"
import type { QueryId } from "../QueryId.ts"
import type { QueryResult } from "../QueryResults.ts"
import { type Range, readText } from "./QueryPages.ts"
import type { Entries } from "./QueryRegistryEntries.ts"
import type { Entry } from "./QueryRegistryEntry.ts"
import { eventsOf } from "./QueryRegistryEvents.ts"

type Failed<A> = Effect.Effect<A, QueryError>

const fail = (reason: QueryError["reason"]) => Effect.fail(new QueryError({ reason }))

/** Rows that are read at a time. */
const pageSize = 1000

/** Over the entries of a registry, and what finds one that a principal may see. */
export const make = (find: (principal: string, id: QueryId) => Failed<Entry>, entries: Pick<Entries, "has">) => {
  const read = <A>(principal: string, id: QueryId, read: (result: QueryResult) => Failed<A>): Failed<A> =>
    Effect.flatMap(find(principal, id), (entry) =>
      entry.record.state !== "Succeeded" || entry.result === undefined
        ? fail(new QueryNotSucceeded({ state: entry.record.state }))
        : Effect.flatMap(Effect.exit(read(entry.result)), (read) =>
            // What was freed in the meantime reads like the end, or like a broken store.
            entries.has(entry) ? read : fail(new QueryNotFound({}))
          )
    )

  const page = (principal: string, id: QueryId, { limit, offset }: Range) =>
    read(principal, id, (result) => result.page(offset, limit))

  const rows = (principal: string, id: QueryId) =>
    Stream.paginate(0, (offset) =>
      Effect.map(
        page(principal, id, { offset, limit: pageSize }),
        ({ next, rows }) => [rows, Option.fromUndefinedOr(next)] as const
      )
    )

  const events = (principal: string, id: QueryId, { after = 0 }: { readonly after?: number | undefined } = {}) =>
    Stream.unwrap(
      Effect.map(find(principal, id), (entry) =>
        Stream.paginate(after, (seen) =>
          Effect.flatMap(
            entry.when(() => {
              const { record } = entry
              if (record.transitions.length > seen) return record
              // Who saw the end must not wait for another one.
              return entries.has(entry) ? (entry.isOver ? record : undefined) : "gone"
            }),
            (record) => (record === "gone" ? fail(new QueryNotFound({})) : Effect.succeed(eventsOf(record, seen)))
          )
        )
      )
    )

  return {
    page,
    pageText: (principal: string, id: QueryId, range: Range) =>
      read(principal, id, (result) => readText(result, range)),
    rows,
    events
  }
}
