/**
 * The query calls of the HTTP API: schemas only, shared by server, client and documentation. All of them need a session.
 */
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { QueryCapabilities } from "../query/QueryCapabilities.ts"
import { Written } from "../query/QueryError.ts"
import { about, aboutLimited, limit, Timestamp } from "./internal/Wire.ts"
import { QueryId } from "../query/QueryId.ts"
import { Notice } from "../query/QueryRecord.ts"
import * as Problem from "./Problem.ts"
import { OriginRefused } from "./SameOrigin.ts"
import * as QueryProblem from "./QueryProblem.ts"
import { all } from "../query/QueryState.ts"

const Time = Schema.NullOr(Timestamp)

/** Why a query failed or was cancelled. */
export const QueryFailure = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  /** The server's SQLSTATE, where the server refused the statement. */
  sqlState: Schema.optionalKey(Schema.String),
  detail: Schema.optionalKey(Schema.String),
  hint: Schema.optionalKey(Schema.String),
  /** Characters from the start of the statement, counted from 1. */
  position: Schema.optionalKey(Schema.Int),
  /** What it may have written all the same; not there where nothing was written for certain. */
  written: Schema.optionalKey(Written)
})

export const QueryStateName = Schema.Literals(all)

/** A query as its principal sees it. */
export const QueryInfo = Schema.Struct({
  id: QueryId,
  /** The public id of the session that submitted it and whose end ends it. */
  session: Schema.NullOr(Schema.String),
  state: QueryStateName,
  /** The engine that it runs on. */
  engine: Schema.String,
  /** The instance of the service that runs it, or ran it last; null where each instance knows its own queries only. */
  instance: Schema.NullOr(Schema.String),
  sql: Schema.String,
  submittedAt: Timestamp,
  startedAt: Time,
  endedAt: Time,
  /** When record and rows are removed. */
  expiresAt: Time,
  rowCount: Schema.NullOr(Schema.Int),
  /** What the rows take up where they are kept; null until it succeeded. */
  bytes: Schema.NullOr(Schema.Int),
  /** What the server remarked while it ran, such as `raise notice`; about 32,000 characters at most. */
  notices: Schema.Array(Notice),
  /** How many more the server remarked. */
  noticesDropped: Schema.Int,
  error: Schema.NullOr(QueryFailure),
  /** Every state so far and when it began, the first one first. */
  transitions: Schema.Array(Schema.Struct({ state: QueryStateName, at: Timestamp }))
})
export type QueryInfo = typeof QueryInfo.Type

/** A statement to run. */
export const QuerySubmission = Schema.Struct({
  sql: Schema.String.check(Schema.isMinLength(1)),
  /** The name of the engine to run it on, see `GET /engines`. Default: the first one. */
  engine: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(100))),
  /** Values for `$1`, `$2`, …, or as the engine writes its placeholders. */
  params: Schema.optionalKey(Schema.Array(Schema.Unknown)),
  /**
   * Milliseconds from now until the query fails with `QueryDeadlineExceeded`; at most a day, or less where the operator says so.
   * Default: what the operator says, usually an hour.
   */
  timeoutMs: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 86_400_000 }))),
  /**
   * Whether the statement may run again where the instance that runs it is gone, and nobody knows how far it came. It counts only
   * where instances share their queries. Default: no; such a query is `Failed`, and its error says `written: "unknown"`.
   */
  rerun: Schema.optionalKey(Schema.Boolean)
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

/** Makes submitting again harmless. */
const idempotencyKey = Schema.String.check(
  Schema.isPattern(/^[\x21-\x7e]{1,255}$/u, { message: "Expected 1 to 255 visible ASCII characters" })
)

const Listed = HttpApiSchema.WithHeaders(Schema.Array(QueryInfo), {
  /** The next page, `rel="next"` (RFC 8288); not there after the last. */
  link: Schema.optionalKey(Schema.String)
})

/** A state that the query came to, and the query at that moment. */
export const QueryEvent = Schema.Struct({
  /** Send the last one seen as `Last-Event-ID` to go on after it. */
  id: Schema.String,
  event: Schema.Literal("state"),
  data: Schema.fromJsonString(QueryInfo)
})

/** An engine that queries run on. */
export const EngineInfo = Schema.Struct({
  name: Schema.String,
  /** Such as `postgres`. */
  kind: Schema.String,
  /** What it can do for a query. */
  capabilities: QueryCapabilities,
  /** Whether queries can run on it now, give or take a second. */
  ready: Schema.Boolean,
  /**
   * Whether a statement that an instance has left running which is gone can be ended by another one. If not, it may run to its end,
   * and its query is `Failed` with `written: "unknown"`. Null where each instance knows its own queries only.
   */
  endsElsewhere: Schema.NullOr(Schema.Boolean),
  /** How many queries run on it at a time, and how many of one user. */
  limits: Schema.Struct({ running: Schema.Int, runningPerUser: Schema.Int })
})

const byId = { params: { id: Schema.String } }
const look = [
  QueryProblem.QueryNotFound,
  Problem.NotFound,
  QueryProblem.QueriesUnavailable,
  QueryProblem.QueriesNotConfigured
] as const

export class QueryApi extends HttpApiGroup.make("queries").add(
  HttpApiEndpoint.post("submit", "/queries", {
    headers: { "idempotency-key": Schema.optionalKey(idempotencyKey) },
    payload: QuerySubmission,
    success: Submitted,
    error: [
      Problem.RequestInvalid,
      QueryProblem.EngineUnknown,
      QueryProblem.IdempotencyConflict,
      QueryProblem.QueryRejected,
      QueryProblem.QueriesUnavailable,
      QueryProblem.QueriesNotConfigured,
      OriginRefused,
      ...Problem.body
    ]
  }).annotateMerge(
    about(
      "Run a statement",
      "202 says that the query was taken in, not that it runs. Whether the database of queries answers is asked at most once a second: queries submitted within a second of its loss are taken in and end as Failed with QueriesUnavailable, later ones are refused with 503."
    )
  ),
  HttpApiEndpoint.get("engines", "/engines", {
    success: Schema.Array(EngineInfo),
    error: [QueryProblem.QueriesNotConfigured]
  }).annotateMerge(
    about(
      "The engines",
      "Where queries run: each with what it can do, and whether it can be used now. The first one is that of a query that names none."
    )
  ),
  HttpApiEndpoint.get("list", "/queries", {
    query: {
      state: Schema.optionalKey(QueryStateName),
      cursor: Schema.optionalKey(Schema.String),
      /** Default: 100. */
      limit: limit(1000)
    },
    success: Listed,
    error: [
      QueryProblem.CursorInvalid,
      QueryProblem.TooManyAnswers,
      QueryProblem.QueriesUnavailable,
      QueryProblem.QueriesNotConfigured
    ]
  }).annotateMerge(
    aboutLimited(
      "One's own queries",
      "The newest first. The header Link leads to the next page. A page ends early with about 4 MiB of JSON.",
      1000,
      100
    )
  ),
  HttpApiEndpoint.get("feed", "/queries/events", {
    headers: {
      "last-event-id": Schema.optionalKey(
        Schema.String.check(Schema.isPattern(/^\d{1,16}$/u, { message: "Expected the id of an event" }))
      )
    },
    success: HttpApiSchema.StreamSse({ events: QueryEvent }),
    error: [QueryProblem.QueriesNotConfigured, QueryProblem.TooManyStreams]
  }).annotateMerge(
    about(
      "Watch one's own queries",
      "Server-sent events: the queries as they are, the oldest first, then every state that they come to. With Last-Event-ID, those that were over a minute before that event are left out; an event may be told twice, and none is lost. The stream ends with the session, and when the service stops."
    )
  ),
  HttpApiEndpoint.get("status", "/queries/:id", {
    ...byId,
    success: QueryInfo,
    error: [...look, QueryProblem.TooManyAnswers]
  }).annotateMerge(about("A query", "Its state, when it came to each state, and why it failed, if it did.")),
  HttpApiEndpoint.get("events", "/queries/:id/events", {
    ...byId,
    headers: {
      "last-event-id": Schema.optionalKey(
        Schema.String.check(Schema.isPattern(/^\d{1,9}$/u, { message: "Expected the id of an event" }))
      )
    },
    // Nothing (204) is for a client that has seen the last one: a browser then stops asking (HTML Standard 9.2.3).
    success: [HttpApiSchema.StreamSse({ events: QueryEvent }), HttpApiSchema.NoContent],
    error: [...look, QueryProblem.EventUnknown, QueryProblem.TooManyStreams]
  }).annotateMerge(
    about(
      "Watch a query",
      "Server-sent events, one for each state that the query came to and comes to. 204 where the last one has been seen. The stream ends with the query, with the session, and when the service stops."
    )
  ),
  HttpApiEndpoint.get("rows", "/queries/:id/rows", {
    ...byId,
    query: {
      cursor: Schema.optionalKey(Schema.String),
      /** Rows to leave out, instead of a cursor. Default: none. */
      offset: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }))),
      limit: limit(10_000)
    },
    success: RowsPage,
    error: [...look, QueryProblem.QueryNotSucceeded, QueryProblem.CursorInvalid, QueryProblem.TooManyAnswers]
  }).annotateMerge(
    aboutLimited(
      "The rows of a query",
      "A page of them; next leads to the following one. offset leads anywhere else; a cursor, where there is one, counts. A page ends early with about 4 MiB, and has one row at least, however long that is. It is sent as it is read, in chunks where it is long: it is whole when its JSON is. A connection whose reader takes nothing for 30 seconds is closed.",
      10_000,
      1000
    )
  ),
  HttpApiEndpoint.delete("cancel", "/queries/:id", {
    ...byId,
    success: QueryInfo,
    error: [...look, QueryProblem.TooManyAnswers, OriginRefused]
  }).annotateMerge(
    about("Cancel a query", "Answers after the server has said how the query ended, which may be that it succeeded.")
  )
) {}
