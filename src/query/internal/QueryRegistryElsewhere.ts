/**
 * What a registry tells of queries over a journal that several instances share: of its own from its memory while they are under
 * way, and of all others from the journal.
 *
 * It lives as long as the registry.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { inParallel } from "../../lifetime/internal/Entry.ts"
import { QueryError, QueryNotFound, QueryNotSucceeded, ResultsUnavailable } from "../QueryError.ts"
import type { QueryId } from "../QueryId.ts"
import type * as QueryJournal from "../QueryJournal.ts"
import type { QueryRecord } from "../QueryRecord.ts"
import type { QueryResult, QueryResults } from "../QueryResults.ts"
import * as QueryState from "../QueryState.ts"
import { type Range, readText } from "./QueryPages.ts"
import type { Entries, Listing, ListOptions } from "./QueryRegistryEntries.ts"
import type { Entry } from "./QueryRegistryEntry.ts"
import { eventsOf } from "./QueryRegistryEvents.ts"

type Failed<A> = Effect.Effect<A, QueryError>

const fail = (reason: QueryError["reason"]) => Effect.fail(new QueryError({ reason }))

/** What is waited for is looked up so often where no news arrives. */
const backstop = Duration.seconds(5)

/** Rows that are read at a time. */
const pageSize = 1000

const isOver = ({ state }: QueryRecord) => QueryState.isTerminal(state)

/** What is written may lag behind what is known here, until the outcome is written: then others know more. */
const further = (written: QueryRecord, here: QueryRecord) =>
  written.transitions.length < here.transitions.length ? here : written

/** Over a shared journal; `end` ends a query of this instance's. */
export const make = (
  journal: QueryJournal.Shared,
  results: QueryResults["Service"],
  entries: Entries,
  end: (entry: Entry) => Effect.Effect<void>
) => {
  /** One that this instance may speak for. */
  const own = (principal: string, id: QueryId): Entry | undefined => {
    const entry = entries.find(principal, id)
    return entry !== undefined && (entry.isOver || journal.isValid()) ? entry : undefined
  }

  const known = (principal: string, id: QueryId): Failed<QueryJournal.Known> =>
    Effect.flatMap(journal.find(principal, id), (found) =>
      found === undefined ? fail(new QueryNotFound({})) : Effect.succeed(found)
    )

  /** Waits until a record is as it should be. It listens first and looks then, so that nothing is missed. */
  const until = (principal: string, id: QueryId, isRight: (record: QueryRecord) => boolean): Failed<QueryRecord> =>
    Effect.flatMap(
      Effect.scoped(
        Effect.flatMap(journal.news(id), (news) =>
          Effect.flatMap(known(principal, id), ({ record }) =>
            isRight(record) ? Effect.succeed(record) : Effect.as(Effect.timeoutOption(news, backstop), undefined)
          )
        )
      ),
      (record) => (record === undefined ? until(principal, id, isRight) : Effect.succeed(record))
    )

  /** The record with the outcome; undefined of one that is another instance's by now. */
  const outcome = (entry: Entry) =>
    entry.when(() => (entry.isOver ? entry.record : entries.has(entry) ? undefined : null))

  const status = (principal: string, id: QueryId): Failed<QueryRecord> =>
    Effect.suspend(() => {
      const entry = own(principal, id)
      const elsewhere = Effect.map(known(principal, id), ({ record }) => record)
      if (entry === undefined) return elsewhere
      return entry.isOver || entry.sharing?.isEnding !== true
        ? Effect.succeed(entry.record)
        : Effect.match(elsewhere, {
            onFailure: () => entry.record,
            onSuccess: (record) => further(record, entry.record)
          })
    })

  const awaited = (principal: string, id: QueryId): Failed<QueryRecord> =>
    Effect.suspend(() => {
      const entry = own(principal, id)
      const elsewhere = until(principal, id, isOver)
      return entry === undefined
        ? elsewhere
        : Effect.flatMap(outcome(entry), (record) => (record === null ? elsewhere : Effect.succeed(record)))
    })

  const cancel = (principal: string, id: QueryId): Failed<QueryRecord> =>
    Effect.suspend(() => {
      const entry = entries.find(principal, id)
      const asked = entry === undefined ? Effect.asVoid(journal.cancel({ principal, id })) : end(entry)
      return Effect.andThen(asked, awaited(principal, id))
    })

  const cancelAll = (of: { readonly principal: string } | { readonly session: string }) =>
    Effect.flatMap(Effect.result(journal.cancel(of)), (asked): Failed<ReadonlyArray<QueryRecord>> => {
      const theirs = ({ record }: Entry) =>
        "principal" in of ? record.principal === of.principal : record.session === of.session
      const here = entries.all().filter((entry) => !entry.isOver && theirs(entry))
      // Those of this instance end also where the journal is away.
      return Effect.flatMap(inParallel(here, end), () =>
        Effect.flatMap(Effect.fromResult(asked), (all) =>
          Effect.forEach(all, ({ id, principal }) => awaited(principal, id), { concurrency: "unbounded" })
        )
      )
    })

  const list = (principal: string, { after, limit = 100, state }: ListOptions = {}): Failed<Listing> =>
    Effect.map(journal.list(principal, { state, limit, after }), ({ next, records }) => ({ queries: records, next }))

  /** Rows that only this instance has are gone with it; all others are read where they are kept. */
  const read = <A>(
    principal: string,
    id: QueryId,
    read: (result: Pick<QueryResult, "page" | "text">) => Failed<A>
  ): Failed<A> =>
    Effect.suspend(() => {
      const entry = own(principal, id)
      if (entry?.result !== undefined && entry.isOver && entry.sharing?.isElsewhere !== true) return read(entry.result)
      return Effect.flatMap(known(principal, id), ({ record, rows }) => {
        if (record.state !== "Succeeded") return fail(new QueryNotSucceeded({ state: record.state }))
        if (rows === undefined || results.sealed === undefined) {
          // Written a moment ago, by this instance.
          if (entry?.result !== undefined) return read(entry.result)
          return fail(
            new ResultsUnavailable({
              problem: `The rows were kept by the instance that ran the query (${record.instance ?? "unknown"}), and can be read there only.`
            })
          )
        }
        return read(results.sealed({ ...rows, id, rowCount: record.rowCount ?? 0 }))
      })
    })

  const page = (principal: string, id: QueryId, { limit, offset }: Range) =>
    read(principal, id, (result) => result.page(offset, limit))

  const rows = (principal: string, id: QueryId) =>
    Stream.paginate(0, (offset) =>
      Effect.map(
        page(principal, id, { offset, limit: pageSize }),
        ({ next, rows }) => [rows, Option.fromUndefinedOr(next)] as const
      )
    )

  /** The record once it has more than those states, or its last one. */
  const more = (principal: string, id: QueryId, seen: number): Failed<QueryRecord> => {
    const isMore = (record: QueryRecord) => record.transitions.length > seen || isOver(record)
    const entry = own(principal, id)
    const elsewhere = until(principal, id, isMore)
    return entry === undefined
      ? elsewhere
      : Effect.flatMap(
          entry.when(() => (isMore(entry.record) ? entry.record : entries.has(entry) ? undefined : null)),
          (record) => (record === null ? elsewhere : Effect.succeed(record))
        )
  }

  const events = (principal: string, id: QueryId, { after = 0 }: { readonly after?: number | undefined } = {}) =>
    Stream.unwrap(
      Effect.as(
        status(principal, id),
        Stream.paginate(after, (seen) =>
          Effect.map(
            Effect.suspend(() => more(principal, id, seen)),
            (record) => eventsOf(record, seen)
          )
        )
      )
    )

  return {
    status,
    await: awaited,
    cancel,
    cancelAll,
    list,
    page,
    pageText: (principal: string, id: QueryId, range: Range) =>
      read(principal, id, (result) => readText(result, range)),
    rows,
    events
  }
}
