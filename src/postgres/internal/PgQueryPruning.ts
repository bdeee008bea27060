/**
 * Removes records that are past their retention, their rows and old keys, in bounded steps.
 *
 * It lives as long as its scope. Nobody sees what is due, so nothing depends on when it goes.
 */
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Schema from "effect/Schema"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import type { QueryError } from "../../query/QueryError.ts"
import { QueryId } from "../../query/QueryId.ts"
import type * as QueryJournal from "../../query/QueryJournal.ts"
import type { PgQuerySql } from "./PgQuerySql.ts"
import * as PgQueryRow from "./PgQueryRow.ts"

/** What one statement removes. */
const maxRecords = 500
const maxChunks = 100
/** Between two of them, so that others come in between. */
const pause = "20 millis"

export interface Options {
  readonly statements: PgQuerySql
  readonly ask: (
    sql: string,
    params: ReadonlyArray<unknown>
  ) => Effect.Effect<ReadonlyArray<PgQueryRow.Row>, QueryError>
  /** What of one principal's may stay. */
  readonly bounds: () => QueryJournal.Registry["keptOfPrincipal"] | undefined
}

const decodeDue = PgQueryRow.decode(Schema.Tuple([QueryId, Schema.NullOr(Schema.Boolean)]))

export const make = Effect.fnUntraced(function* ({ ask, bounds, statements }: Options) {
  /** Whose queries have ended, and how many. */
  const touched = new Map<string, number>()
  const worker = yield* FiberHandle.make()

  const excess = Effect.suspend(() => {
    const of = bounds()
    if (of === undefined || touched.size === 0) return Effect.void
    const principals = JSON.stringify(Array.from(touched.keys()))
    touched.clear()
    return Effect.asVoid(ask(statements.excess, [principals, of.count, of.text]))
  })

  const removeRows = (ids: string): Effect.Effect<void, QueryError> =>
    Effect.flatMap(ask(statements.pruneRows, [ids, maxChunks]), (gone) =>
      gone.length < maxChunks ? Effect.void : Effect.andThen(Effect.sleep(pause), removeRows(ids))
    )

  const removeRecords: Effect.Effect<void, QueryError> = Effect.gen(function* () {
    const due = yield* Effect.forEach(yield* ask(statements.due, [maxRecords]), decodeDue)
    if (due.length === 0) return
    // The rows first: of a record that is gone, nobody would know that there are some.
    const withRows = due.filter(([, hasRows]) => hasRows !== false).map(([id]) => id)
    if (withRows.length > 0) yield* removeRows(JSON.stringify(withRows))
    yield* ask(statements.prune, [JSON.stringify(due.map(([id]) => id))])
    if (due.length < maxRecords) return
    yield* Effect.sleep(pause)
    yield* removeRecords
  })

  const removeKeys: Effect.Effect<unknown, QueryError> = Effect.andThen(
    ask(statements.pruneKeys, [maxRecords]),
    ask(statements.pruneInstances, [])
  )

  const now = Effect.andThen(excess, Effect.andThen(removeRecords, removeKeys))
  const later = Effect.catchCause(now, (cause) =>
    LogEvent.debug({ event: "records.kept" }, "Records of queries cannot be pruned", cause)
  )
  return {
    /** A query of a principal's has ended. */
    touched: (principal: string): void => void touched.set(principal, (touched.get(principal) ?? 0) + 1),
    now: Effect.asVoid(now),
    begin: Effect.asVoid(FiberHandle.run(worker, later, { onlyIfMissing: true }))
  }
})
