/**
 * What became of a statement, as errors of queries.
 */
import * as Exit from "effect/Exit"
import type { ConnectionError } from "../../connection/ConnectionError.ts"
import * as ConnectionAnswers from "../../connection/internal/ConnectionAnswers.ts"
import {
  QueriesUnavailable,
  QueryError,
  ResultsUnavailable,
  ResultTooLarge,
  StatementFailed,
  type Written
} from "../../query/QueryError.ts"
import type * as PgFrames from "./PgFrames.ts"
import * as PgStatement from "./PgStatement.ts"
import type * as PgWire from "./PgWire.ts"

export const unavailable = (problem: string, written?: Written) =>
  new QueryError({ reason: new QueriesUnavailable({ problem, ...(written !== undefined && { written }) }) })

export const failed = (problem: string, written?: Written) =>
  new QueryError({ reason: new StatementFailed({ problem, ...(written !== undefined && { written }) }) })

/** A remote caller learns that there is no connection, but neither where the server is nor who holds them. */
export const fromConnectionError = ({ reason }: ConnectionError) => unavailable(ConnectionAnswers.sentence(reason))

/** The server counts `ahead` characters that who wrote the statement does not know of. */
export const fromServerError = (
  { code, detail, hint, message, position }: PgFrames.ServerError,
  ahead: number,
  written?: Written
) =>
  new QueryError({
    reason: new StatementFailed({
      problem: message,
      ...(code !== undefined && { code }),
      ...(detail !== undefined && { detail }),
      ...(hint !== undefined && { hint }),
      ...(position !== undefined && { position: position - ahead }),
      ...(written !== undefined && { written })
    })
  })

export const notSent = () => unavailable("The connection broke before the statement was sent. Submit it again.")

const noCopy = "COPY is not supported. Use SELECT or INSERT."

export const fromBroken: Record<PgStatement.Broken, () => QueryError> = {
  lost: () =>
    unavailable("The connection broke while the statement ran. Look at what it wrote before you try again.", "unknown"),
  "copy in": () => failed(noCopy),
  // The server may have sent all of it by then.
  "copy out": () => failed(noCopy, "unknown"),
  "too large": () => new QueryError({ reason: new ResultTooLarge({ limitBytes: PgStatement.maxMessageBytes }) })
}

/** What is refused here was chosen by the operator or the app, not by who wrote the statement. */
export const refused = (error: PgWire.ExchangeFailed) =>
  error.code === undefined
    ? notSent()
    : unavailable(`A setting of the query was refused: ${error.message}. Correct the settings of the statement.`)

export const rowsLost = Exit.fail(
  new QueryError({
    reason: new ResultsUnavailable({
      problem:
        "The statement took effect before it was cancelled, but not all its rows were kept. Look at what it wrote."
    })
  })
)

export const notUtf8 =
  "A value of the result is not UTF-8, and cannot be told in JSON. Select its bytes: convert_to(…) or encode(…)."

export const leftOpen =
  "The statement left a transaction open, and it was rolled back. Each query is a transaction of its own: leave BEGIN out."
