/**
 * Why a query did not run, failed or cannot be read. One error for the area; the `reason` says which case it is.
 */
import * as Schema from "effect/Schema"
import * as ProblemAnswer from "../problem/ProblemAnswer.ts"
import * as QueryAnswers from "./internal/QueryAnswers.ts"
import { QueryId } from "./QueryId.ts"

/**
 * What a query without a result may have written all the same: `committed`, because the server had finished the statement by
 * then; `unknown`, because the server did not say what became of it, or because the statement may have committed on the way. It
 * is not there where nothing was written for certain.
 */
export const Written = Schema.Literals(["committed", "unknown"])
export type Written = typeof Written.Type

const written = Schema.optionalKey(Written)
const noteOf = (written: Written | undefined): string =>
  written === undefined
    ? ""
    : {
        committed: " The server had finished the statement by then: what it wrote, if anything, is committed.",
        unknown: " What the statement had written by then, if anything, may be committed."
      }[written]

/** The server refused the statement or failed while running it; `code` is its SQLSTATE. */
export class StatementFailed extends Schema.TaggedError<StatementFailed>("holdfast/query/QueryError/StatementFailed")(
  "StatementFailed",
  {
    problem: Schema.String,
    code: Schema.optionalKey(Schema.String),
    detail: Schema.optionalKey(Schema.String),
    hint: Schema.optionalKey(Schema.String),
    /** Characters from the start of the statement, counted from 1. */
    position: Schema.optionalKey(Schema.Int),
    /** Only of a statement that may commit on the way, such as `CALL`. */
    written
  }
) {
  override get message(): string {
    return this.problem
  }
}

/** No connection could be had; or it broke while the statement ran, then `written` is `unknown`. */
export class QueriesUnavailable extends Schema.TaggedError<QueriesUnavailable>(
  "holdfast/query/QueryError/QueriesUnavailable"
)("QueriesUnavailable", { problem: Schema.String, written }) {
  override get message(): string {
    return this.problem
  }
}

/** Somebody who may do so cancelled it. */
export class QueryCanceled extends Schema.TaggedError<QueryCanceled>("holdfast/query/QueryError/QueryCanceled")(
  "QueryCanceled",
  { written }
) {
  override get message(): string {
    return `The query was cancelled.${noteOf(this.written)}`
  }
}

/** The session it belonged to ended. */
export class SessionEnded extends Schema.TaggedError<SessionEnded>("holdfast/query/QueryError/SessionEnded")(
  "SessionEnded",
  { written }
) {
  override get message(): string {
    const { written } = this
    return `The session that the query belonged to ended.${noteOf(written)}${written === undefined ? " Log in and submit it again." : ""}`
  }
}

/** It ran longer than its deadline allowed. */
export class QueryDeadlineExceeded extends Schema.TaggedError<QueryDeadlineExceeded>(
  "holdfast/query/QueryError/QueryDeadlineExceeded"
)("QueryDeadlineExceeded", { afterMillis: Schema.Finite, written }) {
  override get message(): string {
    return `The query did not finish within ${this.afterMillis} ms. Give it a longer deadline or less to do.${noteOf(this.written)}`
  }
}

/** The rows exceed what is kept for a query. */
export class ResultTooLarge extends Schema.TaggedError<ResultTooLarge>("holdfast/query/QueryError/ResultTooLarge")(
  "ResultTooLarge",
  { limitBytes: Schema.Int, written }
) {
  override get message(): string {
    return `The result is larger than the ${this.limitBytes} bytes that are kept for a query. Select less.${noteOf(this.written)}`
  }
}

/**
 * The rows that are kept for all queries, or for this principal's, leave no room for more, or the disk that they are kept on has
 * none.
 */
export class ResultsFull extends Schema.TaggedError<ResultsFull>("holdfast/query/QueryError/ResultsFull")(
  "ResultsFull",
  {
    limitBytes: Schema.Int,
    /** What each principal finds room for, whatever the others keep. */
    shareBytes: Schema.optionalKey(Schema.Int),
    ofPrincipal: Schema.optionalKey(Schema.Boolean),
    diskFull: Schema.optionalKey(Schema.Boolean),
    written
  }
) {
  override get message(): string {
    const problem =
      this.diskFull === true
        ? "The disk that rows are kept on is full. Select less, or try again when there is room."
        : this.ofPrincipal === true
          ? `The rows of your queries fill the ${this.limitBytes} bytes that are kept for them. Select less, or try again when some have passed their retention.`
          : this.shareBytes === undefined
            ? `The rows of all queries fill the ${this.limitBytes} bytes that are kept for them. Select less, or try again when some have passed their retention.`
            : `The rows of all queries leave too little of the ${this.limitBytes} bytes that are kept for them: beyond ${this.shareBytes} bytes, each user may have twice what is left. Select less, or try again when some have passed their retention.`
    return problem + noteOf(this.written)
  }
}

/** The place that rows are kept in cannot be written or read. */
export class ResultsUnavailable extends Schema.TaggedError<ResultsUnavailable>(
  "holdfast/query/QueryError/ResultsUnavailable"
)("ResultsUnavailable", { problem: Schema.String, written }) {
  override get message(): string {
    return this.problem + noteOf(this.written)
  }
}

/**
 * There is no room for one more query: too many wait, of all principals or of this one, or their statements are too long
 * together; or too many keys are remembered.
 */
export class QueryRejected extends Schema.TaggedError<QueryRejected>("holdfast/query/QueryError/QueryRejected")(
  "QueryRejected",
  {
    limit: Schema.Literals([
      "waiting",
      "waitingOfPrincipal",
      "waitingBytes",
      "waitingBytesOfPrincipal",
      "keys",
      "keysOfPrincipal"
    ]),
    /** How many there are already: queries that wait, or keys. */
    count: Schema.Int,
    /** When there may be room again. */
    retryAfterSeconds: Schema.Int
  }
) {
  override get message(): string {
    const { count, limit, retryAfterSeconds } = this
    return {
      waiting: `${count} queries are waiting already. Try again in ${retryAfterSeconds} s.`,
      waitingOfPrincipal: `${count} of your queries are waiting already. Try again in ${retryAfterSeconds} s, or cancel some.`,
      waitingBytes: `The statements of the queries that wait and run take up as much memory as they may. Try again in ${retryAfterSeconds} s.`,
      waitingBytesOfPrincipal: `The statements of your queries that wait and run take up as much memory as they may. Try again in ${retryAfterSeconds} s, or cancel some.`,
      keys: `${count} idempotency keys are remembered, and no more can be. Try again in ${retryAfterSeconds} s, or without a key.`,
      keysOfPrincipal: `${count} of your idempotency keys are remembered, and no more can be. Try again in ${retryAfterSeconds} s, or without a key.`
    }[limit]
  }
}

/** The idempotency key was used for another statement. */
export class IdempotencyConflict extends Schema.TaggedError<IdempotencyConflict>(
  "holdfast/query/QueryError/IdempotencyConflict"
)("IdempotencyConflict", { id: QueryId }) {
  override get message(): string {
    return `This idempotency key belongs to query ${this.id}, which has another statement, other parameters, another deadline or another engine. Use a new key for a new query.`
  }
}

/** There is no such query for this principal: unknown, somebody else's, or past its retention. */
export class QueryNotFound extends Schema.TaggedError<QueryNotFound>("holdfast/query/QueryError/QueryNotFound")(
  "QueryNotFound",
  {}
) {
  override get message(): string {
    return "There is no such query. It may have passed its retention; submit it again."
  }
}

/** The registry runs queries on engines of other names. */
export class EngineUnknown extends Schema.TaggedError<EngineUnknown>("holdfast/query/QueryError/EngineUnknown")(
  "EngineUnknown",
  { engines: Schema.Array(Schema.String) }
) {
  override get message(): string {
    return `There is no engine of this name. There are: ${this.engines.join(", ")}.`
  }
}

/** Rows exist only for a query that succeeded. */
export class QueryNotSucceeded extends Schema.TaggedError<QueryNotSucceeded>(
  "holdfast/query/QueryError/QueryNotSucceeded"
)("QueryNotSucceeded", { state: Schema.String }) {
  override get message(): string {
    return `The query is ${this.state}; rows can be read once it has succeeded.`
  }
}

/** The error of everything under `holdfast/query`. A route that it leaves answers with the problem of its reason. */
export class QueryError extends Schema.TaggedError<QueryError>("holdfast/query/QueryError")("QueryError", {
  reason: Schema.Union([
    StatementFailed,
    QueriesUnavailable,
    QueryCanceled,
    SessionEnded,
    QueryDeadlineExceeded,
    ResultTooLarge,
    ResultsFull,
    ResultsUnavailable,
    QueryRejected,
    IdempotencyConflict,
    EngineUnknown,
    QueryNotFound,
    QueryNotSucceeded
  ])
}) {
  override get message(): string {
    return this.reason.message
  }

  [ProblemAnswer.symbol]() {
    return ProblemAnswer.of(QueryAnswers.table, this)
  }
}

/** The error of rows that could not be kept, which also tells what their statement wrote. */
export const andWritten = (error: QueryError, written: Written): QueryError => {
  const { reason } = error
  switch (reason._tag) {
    case "ResultTooLarge":
      return new QueryError({ reason: new ResultTooLarge({ limitBytes: reason.limitBytes, written }) })
    case "ResultsFull": {
      const { diskFull, limitBytes, ofPrincipal, shareBytes } = reason
      return new QueryError({
        reason: new ResultsFull({
          limitBytes,
          ...(shareBytes !== undefined && { shareBytes }),
          ...(ofPrincipal !== undefined && { ofPrincipal }),
          ...(diskFull !== undefined && { diskFull }),
          written
        })
      })
    }
    case "ResultsUnavailable":
      return new QueryError({ reason: new ResultsUnavailable({ problem: reason.problem, written }) })
    default:
      return error
  }
}
