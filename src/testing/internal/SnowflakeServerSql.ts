/**
 * Statements for Snowflake as PostgreSQL takes them: placeholders with the types of their bindings, and errors back.
 */
import type { Statement } from "../../query/QueryDriver.ts"
import type { StatementFailed } from "../../query/QueryError.ts"
import * as SnowflakeTimes from "../../snowflake/internal/SnowflakeTimes.ts"

/** A binding as it was sent. */
export interface Binding {
  readonly type: string
  readonly value?: string | null | undefined
}

interface Bound {
  readonly cast: string
  readonly text: (value: string) => string
}

const same = (value: string) => value

/** Nanoseconds of the epoch as decimals of a second. */
const decimals = (nanos: string): string => {
  const digits = nanos.replace("-", "").padStart(10, "0")
  return `${nanos.startsWith("-") ? "-" : ""}${digits.slice(0, -9)}.${digits.slice(-9)}`
}

const types: Readonly<Record<string, Bound>> = {
  TEXT: { cast: "", text: same },
  FIXED: { cast: "numeric", text: same },
  REAL: { cast: "float8", text: same },
  BOOLEAN: { cast: "bool", text: same },
  BINARY: { cast: "bytea", text: (value) => `\\x${value}` },
  DATE: { cast: "date", text: (millis) => SnowflakeTimes.date(String(Number(millis) / 86_400_000)) },
  TIME: { cast: "time", text: (nanos) => SnowflakeTimes.time(decimals(nanos)) },
  TIMESTAMP_NTZ: { cast: "timestamp", text: (nanos) => SnowflakeTimes.timestampNtz(decimals(nanos)) },
  TIMESTAMP_LTZ: { cast: "timestamptz", text: (nanos) => SnowflakeTimes.timestampLtz(decimals(nanos)) },
  TIMESTAMP_TZ: {
    cast: "timestamptz",
    text: (value) => SnowflakeTimes.timestampLtz(decimals(value.split(" ")[0] ?? "0"))
  }
}

const part = /'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[\s\S]*?\*\/|\$([A-Za-z_]*)\$[\s\S]*?\$\1\$|\?/g

/** A statement with `?`, as PostgreSQL numbers and reads its parameters; a text where something is wrong with it. */
export const toPostgres = (sql: string, bindings: Readonly<Record<string, Binding>>): Statement | string => {
  const params: Array<string | null> = []
  let problem: string | undefined
  const numbered = sql.replace(part, (found) => {
    if (found !== "?") return found
    const number = params.length + 1
    const binding = bindings[String(number)]
    const type = types[binding?.type.toUpperCase() ?? ""]
    if (binding === undefined || type === undefined) {
      problem ??= `SQL compilation error: error line 0 at position -1\nBind variable ? not set.`
      return found
    }
    params.push(binding.value === null || binding.value === undefined ? null : type.text(binding.value))
    return type.cast === "" ? `$${number}` : `$${number}::${type.cast}`
  })
  return problem ?? { sql: numbered, params }
}

/** What Snowflake would say about an error of PostgreSQL's. */
export interface Failure {
  readonly code: string
  readonly sqlState: string
  readonly message: string
}

const where = (sql: string, position: number): string => {
  const before = sql.slice(0, position - 1).split("\n")
  return `error line ${before.length} at position ${before.at(-1)?.length ?? 0}`
}

const compilation: Readonly<Record<string, readonly [code: string, sqlState: string]>> = {
  "42601": ["001003", "42000"],
  "42703": ["000904", "42000"],
  "42P01": ["002003", "42S02"]
}

export const failureOf = (sql: string, { code = "XX000", position, problem }: StatementFailed): Failure => {
  const known = compilation[code]
  if (known === undefined) return { code: "100183", sqlState: code, message: problem }
  const at = position === undefined ? "" : `${where(sql, position)}\n`
  return { code: known[0], sqlState: known[1], message: `SQL compilation error: ${at}${problem}` }
}

export const canceled: Failure = { code: "000604", sqlState: "57014", message: "SQL execution canceled" }

export const timedOut: Failure = {
  code: "000630",
  sqlState: "57014",
  message: "Statement reached its statement or warehouse timeout and was canceled."
}

/** The statement that ends another one. */
export const canceledIn = (sql: string): string | undefined =>
  /^\s*select\s+system\$cancel_query\(\s*'([0-9a-f-]+)'\s*\)/i.exec(sql)?.[1]
