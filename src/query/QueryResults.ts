/**
 * Where the rows of a query are kept until its retention is over.
 *
 * A result lives as long as the scope it was opened in; closing the scope frees its space. While the query runs its rows
 * are added in order; any page of what was added can be read again and again, in any order.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Column, Row, RowSink } from "./QueryDriver.ts"
import { QueryError, ResultTooLarge } from "./QueryError.ts"

/** Part of a result. */
export interface Page {
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Row>
  /** The offset of the row after the last of this page, if there is one. */
  readonly next: number | undefined
}

/** The rows of one query. */
export interface QueryResult {
  readonly sink: RowSink
  /** Reads up to `limit` rows from the row at `offset`, counted from 0. */
  readonly page: (offset: number, limit: number) => Effect.Effect<Page, QueryError>
}

export class QueryResults extends Context.Service<
  QueryResults,
  {
    readonly open: Effect.Effect<QueryResult, never, Scope.Scope>
  }
>()("holdfast/query/QueryResults") {}

/** Roughly what a value occupies, in bytes. */
const sizeOf = (value: Schema.Json): number => {
  if (typeof value === "string") return 16 + value.length * 2
  if (value === null || typeof value !== "object") return 8
  return Object.values(value).reduce((total: number, part: Schema.Json) => total + sizeOf(part), 32)
}

const openMemory = (limitBytes: number) =>
  Effect.acquireRelease(
    Effect.sync(() => ({ columns: [] as ReadonlyArray<Column>, rows: [] as Array<Row>, bytes: 0 })),
    (kept) =>
      Effect.sync(() => {
        kept.rows = []
      })
  ).pipe(
    Effect.map((kept): QueryResult => ({
      sink: {
        columns: (columns) =>
          Effect.sync(() => {
            kept.columns = columns
          }),
        rows: (rows) =>
          Effect.suspend(() => {
            kept.bytes += rows.reduce((total, row) => total + sizeOf(row), 0)
            if (kept.bytes > limitBytes) {
              return Effect.fail(new QueryError({ reason: new ResultTooLarge({ limitBytes }) }))
            }
            for (const row of rows) kept.rows.push(row)
            return Effect.void
          })
      },
      page: (offset, limit) =>
        Effect.sync(() => ({
          columns: kept.columns,
          rows: kept.rows.slice(offset, offset + limit),
          next: offset + limit < kept.rows.length ? offset + limit : undefined
        }))
    }))
  )

/** Keeps rows in memory, up to `limitBytes` for each query (default: 64 MiB); more fails the query. */
export const layerMemory = (options?: { readonly limitBytes?: number | undefined }): Layer.Layer<QueryResults> =>
  Layer.succeed(QueryResults, QueryResults.of({ open: openMemory(options?.limitBytes ?? 64 * 1024 * 1024) }))
