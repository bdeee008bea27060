/**
 * What is known about a submitted query, until its retention is over.
 */
import * as Schema from "effect/Schema"
import { QueryError } from "./QueryError.ts"
import { QueryId } from "./QueryId.ts"
import { all } from "./QueryState.ts"

export const QueryRecord = Schema.Struct({
  id: QueryId,
  /** Who may see and cancel it. */
  principal: Schema.String,
  sql: Schema.String,
  state: Schema.Literals(all),
  submittedAt: Schema.DateTimeUtc,
  /** When it had its connection. */
  startedAt: Schema.NullOr(Schema.DateTimeUtc),
  /** When its connection was released and the outcome became known. */
  endedAt: Schema.NullOr(Schema.DateTimeUtc),
  /** When record and rows are removed. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Rows returned or affected; null until it succeeded. */
  rowCount: Schema.NullOr(Schema.Int),
  /** Why it failed or was cancelled. */
  error: Schema.NullOr(QueryError.fields.reason)
})
export type QueryRecord = typeof QueryRecord.Type
