/**
 * What queries occupy, roughly, and how much of a text is kept of one that is over.
 */
import type * as Schema from "effect/Schema"
import { cut, jsonBytes } from "../../lifetime/internal/KeptText.ts"
import type { Column, Statement } from "../QueryDriver.ts"
import type { QueryError } from "../QueryError.ts"
import type { Notice, QueryRecord } from "../QueryRecord.ts"

/** Roughly what a value occupies, in bytes. Not by recursion: it may be nested deeply. */
export const sizeOf = (value: Schema.Json): number => {
  let size = 0
  const rest: Array<Schema.Json> = [value]
  for (let value = rest.pop(); value !== undefined; value = rest.pop()) {
    if (typeof value === "string") size += 16 + value.length * 2
    else if (value === null || typeof value !== "object") size += 8
    else {
      size += 32
      if (Array.isArray(value)) for (const part of value) rest.push(part)
      else {
        for (const [name, part] of Object.entries(value)) {
          size += 16 + name.length * 2
          rest.push(part)
        }
      }
    }
  }
  return size
}

/** Roughly what a statement occupies while it waits and runs, in bytes. */
export const sizeOfStatement = ({ params, settings, sql }: Statement): number =>
  sizeOf(sql) + sizeOf(params) + sizeOf(settings ?? {})

type Reason = QueryError["reason"]

const textsOf = ({ code = "", detail = "", hint = "" }: { code?: string; detail?: string; hint?: string }) =>
  code.length + detail.length + hint.length

/** Characters of a notice, and what it takes besides. */
export const sizeOfNotice = (notice: Notice): number => 64 + notice.message.length + textsOf(notice)

/** A notice whose texts are cut. */
export const cutNotice = ({ code, detail, hint, message, severity }: Notice): Notice => ({
  severity: cut(severity),
  message: cut(message),
  ...(code !== undefined && { code: cut(code) }),
  ...(detail !== undefined && { detail: cut(detail) }),
  ...(hint !== undefined && { hint: cut(hint) })
})

/** Characters of columns, and what they take besides. */
export const sizeOfColumns = (columns: ReadonlyArray<Column>): number =>
  columns.reduce((sum, { name, type }) => sum + 64 + name.length + type.length, 0)

/** Characters of an error. */
export const sizeOfReason = (reason: Reason | null): number =>
  reason === null ? 0 : reason.message.length + (reason._tag === "StatementFailed" ? textsOf(reason) : 0)

/** Characters that a record has, without its columns, which are not part of it. */
export const sizeOfRecord = ({ error, notices, sql }: QueryRecord): number =>
  sql.length + sizeOfReason(error) + notices.reduce((sum, notice) => sum + sizeOfNotice(notice), 0)

const told = new WeakMap<QueryRecord, number>()

/** Bytes of JSON that a record is told with, roughly. They are counted once. */
export const jsonBytesOfRecord = (record: QueryRecord): number => {
  const known = told.get(record)
  if (known !== undefined) return known
  const { error, notices, sql } = record
  const bytes =
    1000 +
    jsonBytes(sql) +
    (error === null ? 0 : jsonBytes(JSON.stringify(error))) +
    (notices.length === 0 ? 0 : jsonBytes(JSON.stringify(notices)))
  told.set(record, bytes)
  return bytes
}
