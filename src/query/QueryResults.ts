/**
 * Where the rows of a query are kept until its retention is over.
 *
 * A result lives as long as the scope it was opened in; closing the scope frees its space. While the query runs its rows
 * are added in order; any page of what was added can be read again and again, in any order.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { Column, Row, RowSink } from "./QueryDriver.ts"
import { QueryError, ResultsUnavailable } from "./QueryError.ts"
import type { QueryId } from "./QueryId.ts"
import type { Claim, Rows } from "./QueryJournal.ts"
import * as QueryRoom from "./internal/QueryRoom.ts"
import { sizeOf } from "./internal/QuerySizes.ts"

/** Part of a result. */
export interface Page {
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Row>
  /** The offset of the row after the last of this page, if there is one. */
  readonly next: number | undefined
}

/** Part of a result as JSON text, for a reader that sends it on as it is. It is read as it is pulled. */
export interface PageText {
  readonly columns: ReadonlyArray<Column>
  /**
   * The next bytes of the rows, about 64 KiB at most: JSON in UTF-8, separated by commas, as between the brackets of a list.
   * Nothing after the last.
   */
  readonly pull: Effect.Effect<Uint8Array | undefined, QueryError>
  /** The offset of the row after the last of this page, if there is one. Known when all bytes were pulled. */
  readonly next: () => number | undefined
}

/** The rows of one query. */
export interface QueryResult {
  readonly sink: RowSink
  /** Reads up to `limit` rows from the row at `offset`, counted from 0. */
  readonly page: (offset: number, limit: number) => Effect.Effect<Page, QueryError>
  /** As `page`, with the rows as text. Default: the text of `page`. */
  readonly text?: ((offset: number, limit: number) => Effect.Effect<PageText, QueryError>) | undefined
  /** The bytes that its rows take up where they are kept. */
  readonly bytes: Effect.Effect<number>
  /**
   * Makes what was added last, and outlive the scope. Tells what a reader on another instance needs. Default: the rows are gone
   * with the scope.
   */
  readonly seal?: Effect.Effect<Pick<Rows, "columns" | "inline">, QueryError> | undefined
}

/** Whose rows they are. */
export interface Owner {
  readonly id: QueryId
  readonly principal: string
  /** By which right they are written, where there is a shared journal. */
  readonly claim?: Claim | undefined
}

/** Rows of a query that another instance ran, or an earlier life of this one. */
export interface Sealed extends Rows {
  readonly id: QueryId
  readonly rowCount: number
}

export class QueryResults extends Context.Service<
  QueryResults,
  {
    /** Opens the result of a query, which is empty yet; closing the scope frees its space. */
    readonly open: (query: Owner) => Effect.Effect<QueryResult, never, Scope.Scope>
    /** Reads rows that were sealed. Default: they can be read on the instance only that ran the query, while it lives. */
    readonly sealed?: ((rows: Sealed) => Pick<QueryResult, "page" | "text">) | undefined
    /** Whether rows can be kept now. Puts in order what can be. */
    readonly ready: Effect.Effect<void, QueryError>
  }
>()("holdfast/query/QueryResults") {}

/** Why a result whose scope is closed takes no more rows. */
export const removed = (): QueryError =>
  new QueryError({ reason: new ResultsUnavailable({ problem: "The query was given up, and its rows with it." }) })

/** What memory may be used for rows, in bytes. */
export interface MemoryOptions {
  /** For the rows of one query; more fails it with `ResultTooLarge`. Default: 64 MiB. */
  readonly limitBytes?: number | undefined
  /** For the rows of one principal's; more fails the one that adds them with `ResultsFull`. Default: half of all. */
  readonly principalBytes?: number | undefined
  /** For the rows of all queries together; more fails the one that adds them with `ResultsFull`. Default: 256 MiB. */
  readonly totalBytes?: number | undefined
  /**
   * How many principals each find room for a share, whatever the others keep: together they have what one principal may not
   * take, up to a quarter of all. Beyond a share, each may have twice as much as is then left of the rest. What is kept already
   * is never taken away for others. Default: 16.
   */
  readonly shares?: number | undefined
}

const makeMemory = (options: MemoryOptions): QueryResults["Service"] => {
  const room = new QueryRoom.Room({
    limitBytes: options.limitBytes ?? 64 * 1024 * 1024,
    principalBytes: options.principalBytes,
    shares: options.shares,
    totalBytes: options.totalBytes ?? 256 * 1024 * 1024
  })
  const open = ({ principal }: Owner) =>
    Effect.flatMap(Effect.scope, (scope) => {
      let columns: ReadonlyArray<Column> = []
      let kept: Array<Row> = []
      let bytes = 0
      const free = () => {
        room.leave(principal, bytes)
        bytes = 0
        kept = []
      }
      const result: QueryResult = {
        sink: {
          columns: (found) =>
            Effect.sync(() => {
              columns = found
            }),
          rows: (rows) =>
            Effect.suspend(() => {
              // A driver that cannot be stopped may go on when its query is given up.
              if (scope.state._tag === "Closed") return Effect.fail(removed())
              const more = rows.reduce((sum, row) => sum + sizeOf(row), 0)
              const refused = room.take(principal, bytes, more)
              if (refused !== undefined) return Effect.fail(refused)
              bytes += more
              for (const row of rows) kept.push(row)
              return Effect.void
            })
        },
        page: (offset, limit) =>
          Effect.sync(() => ({
            columns,
            rows: kept.slice(offset, offset + limit),
            next: offset + limit < kept.length ? offset + limit : undefined
          })),
        bytes: Effect.sync(() => bytes)
      }
      return Effect.as(Scope.addFinalizer(scope, Effect.sync(free)), result)
    })
  return QueryResults.of({ open, ready: Effect.void })
}

/** Keeps rows in the memory of this process. */
export const layerMemory = (options: MemoryOptions = {}): Layer.Layer<QueryResults> =>
  Layer.sync(QueryResults, () => makeMemory(options))
