/**
 * What became of a statement, as errors of queries.
 */
import type { SqlError } from "effect/sql/SqlError"
import type { ConnectionError } from "../../connection/ConnectionError.ts"
import * as ConnectionAnswers from "../../connection/internal/ConnectionAnswers.ts"
import { QueriesUnavailable, QueryError, StatementFailed, type Written } from "../../query/QueryError.ts"

/** What a server said about a statement. */
export interface Failure {
  readonly problem: string
  /** Its SQLSTATE, or the engine's own name for it. */
  readonly code?: string | undefined
  /** Whether the connection is lost, so that the statement is not to blame. */
  readonly isLost?: boolean | undefined
  /** Whether the statement was refused before it did anything. */
  readonly isRefused?: boolean | undefined
}

export const failed = (problem: string, written?: Written) =>
  new QueryError({ reason: new StatementFailed({ problem, ...(written !== undefined && { written }) }) })

export const unavailable = (problem: string, written?: Written) =>
  new QueryError({ reason: new QueriesUnavailable({ problem, ...(written !== undefined && { written }) }) })

/** A remote caller learns that there is no connection, but neither where the server is nor who holds them. */
export const fromConnectionError = ({ reason }: ConnectionError) => unavailable(ConnectionAnswers.sentence(reason))

/** Of an engine that nobody told more about. */
export const failureOf = ({ reason }: SqlError): Failure => {
  const { cause } = reason
  const problem = cause instanceof Error && cause.message !== "" ? cause.message : reason.message
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : undefined
  return {
    problem: problem === "" ? `The statement failed (${reason._tag})` : problem,
    code,
    isLost: reason._tag === "ConnectionError"
  }
}

/** What a server said, as the outcome of a query. */
export const fromFailure = ({ code, isLost, problem }: Failure, written?: Written): QueryError =>
  isLost === true
    ? unavailable(
        written === undefined
          ? "The connection broke while the statement ran, and nothing was written. Submit it again."
          : "The connection broke while the statement ran. Look at what it wrote before you try again.",
        written
      )
    : new QueryError({
        reason: new StatementFailed({
          problem,
          ...(code !== undefined && { code }),
          ...(written !== undefined && { written })
        })
      })
