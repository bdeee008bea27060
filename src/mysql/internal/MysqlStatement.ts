/**
 * What a statement of MySQL is, by its first words, and what the server said about it.
 *
 * The benefit of doubt is never given: what is not known to be undone by a rollback may have been written.
 */
import type { SqlError } from "effect/sql/SqlError"
import type { Failure } from "../../sql/internal/SqlErrors.ts"

/** What may stand before the first word; a comment that the server executes is none. */
const before = /^(?:\s+|--\s[^\n]*(?:\n|$)|#[^\n]*(?:\n|$)|\/\*(?![!M])[\s\S]*?\*\/|[(;])+/

const firstWords = (sql: string): ReadonlyArray<string> =>
  (/^[a-z_]+(?:\s+[a-z_]+)?/i.exec(sql.replace(before, ""))?.[0] ?? "").toUpperCase().split(/\s+/)

/** Such as `SELECT` or `INSERT`. */
export const commandOf = (sql: string): string => firstWords(sql)[0] ?? ""

/** They commit nothing by themselves ("Statements That Cause an Implicit Commit"). */
const plain: ReadonlySet<string> = new Set(
  "SELECT INSERT UPDATE DELETE REPLACE WITH VALUES TABLE SHOW EXPLAIN DESCRIBE DESC DO SET HELP USE HANDLER CHECKSUM".split(
    " "
  )
)

/** Whether a rollback undoes all of it. */
export const isUndone = (sql: string): boolean => plain.has(commandOf(sql))

const controls: ReadonlySet<string> = new Set(["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "XA"])

/** Why a statement is not sent: it would end the transaction that the query is. */
export const refused = (sql: string): string | undefined => {
  const [first = "", second = ""] = firstWords(sql)
  if (first === "BEGIN" && second === "NOT") return undefined
  return controls.has(first) || (first === "START" && second === "TRANSACTION")
    ? "Each query is a transaction of its own: leave BEGIN, COMMIT, ROLLBACK and SAVEPOINT out."
    : undefined
}

/** Refused before anything was done: not parsed, not allowed, no such thing, or there already. */
const early: ReadonlySet<number> = new Set([
  1007, 1008, 1044, 1045, 1046, 1049, 1050, 1051, 1054, 1064, 1109, 1142, 1143, 1146, 1210, 1227, 1305
])

/** Whether a `KILL` ended it (ER_QUERY_INTERRUPTED). */
export const isInterrupted = ({ reason }: SqlError): boolean =>
  (reason.cause as { errno?: number } | undefined)?.errno === 1317

/** What the server said. */
export const failureOf = ({ reason }: SqlError): Failure => {
  const cause = reason.cause as { message?: string; sqlMessage?: string; sqlState?: string; errno?: number } | undefined
  return {
    problem: cause?.sqlMessage ?? cause?.message ?? reason.message,
    code: cause?.sqlState,
    isLost: reason._tag === "ConnectionError",
    isRefused: cause?.errno !== undefined && early.has(cause.errno)
  }
}
