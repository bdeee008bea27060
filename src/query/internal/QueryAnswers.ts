/**
 * What the errors of queries answer over HTTP: the codes, statuses and titles of their problems.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"
import type { QueryError } from "../QueryError.ts"

export const notFound = ProblemAnswer.kind("QueryNotFound", 404, "There is no such query")
export const notSucceeded = ProblemAnswer.kind("QueryNotSucceeded", 409, "Only a query that succeeded has rows")
export const conflict = ProblemAnswer.kind("IdempotencyConflict", 409, "The idempotency key belongs to another query")
export const rejected = ProblemAnswer.kind("QueryRejected", 429, "Too many queries are waiting")
export const unavailable = ProblemAnswer.kind("QueriesUnavailable", 503, "Queries cannot be run at the moment")
const canceled = ProblemAnswer.kind("QueryCanceled", 409, "The query was cancelled")
const late = ProblemAnswer.kind("QueryDeadlineExceeded", 504, "The query took longer than it may")
const sessionEnded = ProblemAnswer.kind("SessionRevoked", 401, "The session was ended")

/**
 * The answer of a route that a query error leaves. What is wrong with the route's own statement is the program's: the caller
 * learns nothing of it.
 */
export const of = (error: QueryError) => {
  const { reason } = error
  const detail = reason.message
  switch (reason._tag) {
    case "QueryNotFound":
      return ProblemAnswer.make(notFound, { detail })
    case "QueryNotSucceeded":
      return ProblemAnswer.make(notSucceeded, { detail })
    case "IdempotencyConflict":
      return ProblemAnswer.make(conflict, { detail })
    case "QueryRejected":
      return ProblemAnswer.make(rejected, { detail, retryAfterSeconds: reason.retryAfterSeconds })
    case "QueriesUnavailable":
      return ProblemAnswer.make(unavailable, { detail: "The database of queries does not answer. Try again later." })
    case "QueryCanceled":
      return ProblemAnswer.make(canceled, { detail })
    case "QueryDeadlineExceeded":
      return ProblemAnswer.make(late, { detail })
    case "SessionEnded":
      return ProblemAnswer.make(sessionEnded, { detail })
    case "StatementFailed":
    case "ResultTooLarge":
    case "ResultsFull":
    case "ResultsUnavailable":
      return ProblemAnswer.none(error)
  }
}
