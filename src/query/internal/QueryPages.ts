/**
 * Pages of a result as text, also of a store that keeps no texts. A page lives as long as its reader.
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import type { QueryError } from "../QueryError.ts"
import type { Page, PageText, QueryResult } from "../QueryResults.ts"

/** Which rows of a result: from `offset`, counted from 0, up to `limit`. */
export interface Range {
  readonly offset: number
  readonly limit: number
}

/** The text of a page that was read. */
const textOf = ({ columns, next, rows }: Page): PageText => {
  let at = 0
  return {
    columns,
    pull: Effect.sync(() => {
      const row = rows[at]
      return row === undefined ? undefined : Buffer.from(`${at++ === 0 ? "" : ","}${JSON.stringify(row)}`)
    }),
    next: () => next
  }
}

/** Reads a page of a result as text. */
export const readText = (
  result: Pick<QueryResult, "page" | "text">,
  { limit, offset }: Range
): Effect.Effect<PageText, QueryError> => result.text?.(offset, limit) ?? Effect.map(result.page(offset, limit), textOf)
