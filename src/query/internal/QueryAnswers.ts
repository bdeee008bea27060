/**
 * What the errors of queries answer over HTTP: the codes, statuses and titles of their problems.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"

export const notFound = ProblemAnswer.kind("QueryNotFound", 404, "There is no such query")
export const notSucceeded = ProblemAnswer.kind("QueryNotSucceeded", 409, "Only a query that succeeded has rows")
export const conflict = ProblemAnswer.kind("IdempotencyConflict", 409, "The idempotency key belongs to another query")
export const rejected = ProblemAnswer.kind("QueryRejected", 429, "Too many queries are waiting")
export const engineUnknown = ProblemAnswer.kind("EngineUnknown", 422, "There is no such engine")
export const unavailable = ProblemAnswer.kind("QueriesUnavailable", 503, "Queries cannot be run at the moment")
const canceled = ProblemAnswer.kind("QueryCanceled", 409, "The query was cancelled")
const late = ProblemAnswer.kind("QueryDeadlineExceeded", 504, "The query took longer than it may")
const sessionEnded = ProblemAnswer.kind("SessionRevoked", 401, "The session was ended")

/** By the tag of the reason. What is wrong with the route's own statement is the program's: the caller learns nothing of it. */
export const table = {
  QueryNotFound: { kind: notFound },
  QueryNotSucceeded: { kind: notSucceeded },
  IdempotencyConflict: { kind: conflict },
  QueryRejected: { kind: rejected },
  EngineUnknown: { kind: engineUnknown },
  QueriesUnavailable: { kind: unavailable, detail: "The database of queries does not answer. Try again later." },
  QueryCanceled: { kind: canceled },
  QueryDeadlineExceeded: { kind: late },
  SessionEnded: { kind: sessionEnded },
  StatementFailed: undefined,
  ResultTooLarge: undefined,
  ResultsFull: undefined,
  ResultsUnavailable: undefined
}
