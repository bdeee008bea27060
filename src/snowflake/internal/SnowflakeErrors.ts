/**
 * What became of a statement on Snowflake, as errors of queries.
 */
import * as Exit from "effect/Exit"
import {
  QueriesUnavailable,
  QueryError,
  ResultsUnavailable,
  StatementFailed,
  type Written
} from "../../query/QueryError.ts"
import type { Status } from "./SnowflakeAnswers.ts"
import type { CallFailed } from "./SnowflakeApi.ts"
import * as SnowflakeSql from "./SnowflakeSql.ts"

const noted = (written: Written | undefined) => (written === undefined ? {} : { written })

export const unavailable = (problem: string, written?: Written) =>
  new QueryError({ reason: new QueriesUnavailable({ problem, ...noted(written) }) })

export const failed = (problem: string) => new QueryError({ reason: new StatementFailed({ problem }) })

export const fromCall = ({ problem }: CallFailed, written?: Written) => unavailable(problem, written)

/** The rows of a statement that succeeded could not be had. */
export const rowsUnavailable = (problem: string) =>
  new QueryError({ reason: new ResultsUnavailable({ problem, written: "committed" }) })

export const fromServer = (sql: string, { code, message, sqlState, statementHandle }: Status, written?: Written) => {
  const problem = message ?? "Snowflake failed the statement and said nothing about why."
  const position = SnowflakeSql.positionOf(sql, problem)
  const detail = [
    code ? `Snowflake calls it ${code}.` : undefined,
    statementHandle ? `The statement's handle is ${statementHandle}.` : undefined
  ]
  return new QueryError({
    reason: new StatementFailed({
      problem,
      ...(sqlState && { code: sqlState }),
      ...(detail.some(Boolean) && { detail: detail.filter(Boolean).join(" ") }),
      ...(position !== undefined && { position }),
      ...noted(written)
    })
  })
}

export const rowsLost = Exit.fail(
  rowsUnavailable(
    "The statement took effect before it was cancelled, but not all its rows were kept. Look at what it wrote."
  )
)

export const gone = unavailable(
  "Snowflake does not know the statement any more: its handle expired, or it belongs to another user or role. Look at what it wrote before you try again.",
  "unknown"
)
