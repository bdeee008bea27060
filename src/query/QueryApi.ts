/**
 * The query calls of the HTTP API: schemas only, shared by server, client and documentation. All of them need a session.
 */
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { QueryId } from "./QueryId.ts"
import * as QueryProblem from "./QueryProblem.ts"
import { all } from "./QueryState.ts"

const Time = Schema.NullOr(Schema.DateTimeUtcFromString)

/** Why a query failed or was cancelled. */
export const QueryFailure = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  /** The server's SQLSTATE, where the server refused the statement. */
  sqlState: Schema.optionalKey(Schema.String),
  detail: Schema.optionalKey(Schema.String),
  hint: Schema.optionalKey(Schema.String),
  /** Characters from the start of the statement, counted from 1. */
  position: Schema.optionalKey(Schema.Int)
})

export const QueryStateName = Schema.Literals(all)

/** A query as its principal sees it. */
export const QueryInfo = Schema.Struct({
  id: QueryId,
  state: QueryStateName,
  sql: Schema.String,
  submittedAt: Schema.DateTimeUtcFromString,
  startedAt: Time,
  endedAt: Time,
  /** When record and rows are removed. */
  expiresAt: Time,
  rowCount: Schema.NullOr(Schema.Int),
  error: Schema.NullOr(QueryFailure)
})
export type QueryInfo = typeof QueryInfo.Type

/** A statement to run. */
export const QuerySubmission = Schema.Struct({
  sql: Schema.String.check(Schema.isMinLength(1)),
  /** Values for `$1`, `$2`, … */
  params: Schema.optionalKey(Schema.Array(Schema.Json)),
  /** Milliseconds from now until the query fails with `QueryDeadlineExceeded`; at most a day. */
  timeoutMs: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 86_400_000 })))
})

const Submitted = HttpApiSchema.WithHeaders(
  Schema.Struct({ id: QueryId, state: QueryStateName }).pipe(HttpApiSchema.status(202)),
  { location: Schema.String }
)

/** A page of rows. */
export const RowsPage = Schema.Struct({
  columns: Schema.Array(Schema.Struct({ name: Schema.String, type: Schema.String })),
  rows: Schema.Array(Schema.Array(Schema.Json)),
  /** The cursor of the next page; null after the last. */
  next: Schema.NullOr(Schema.String)
})

const byId = { params: { id: Schema.String } }
const look = [QueryProblem.QueryNotFound, QueryProblem.QueriesUnavailable, QueryProblem.QueriesNotConfigured] as const

export class QueryApi extends HttpApiGroup.make("queries").add(
  HttpApiEndpoint.post("submit", "/queries", {
    payload: QuerySubmission,
    success: Submitted,
    error: [QueryProblem.QueryRejected, QueryProblem.QueriesUnavailable, QueryProblem.QueriesNotConfigured]
  }),
  HttpApiEndpoint.get("list", "/queries", {
    success: Schema.Array(QueryInfo),
    error: QueryProblem.QueriesNotConfigured
  }),
  HttpApiEndpoint.get("status", "/queries/:id", { ...byId, success: QueryInfo, error: look }),
  HttpApiEndpoint.get("rows", "/queries/:id/rows", {
    ...byId,
    query: {
      cursor: Schema.optionalKey(Schema.String),
      limit: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10_000 })))
    },
    success: RowsPage,
    error: [...look, QueryProblem.QueryNotSucceeded, QueryProblem.CursorInvalid]
  }),
  HttpApiEndpoint.delete("cancel", "/queries/:id", { ...byId, success: QueryInfo, error: look })
) {}
