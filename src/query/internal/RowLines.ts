/**
 * Rows as lines of JSON in UTF-8, one line each, wherever those are kept.
 *
 * What reads lines lives as long as one page of rows.
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import type { Row } from "../QueryDriver.ts"
import { QueryError, ResultsUnavailable } from "../QueryError.ts"

/** Whether the reader has what it wanted. */
export type Enough = boolean

/** What is taken out of lines: after `skip` of them up to `limit`, and no more once they have `maxBytes`, but one at least. */
export interface Wanted {
  readonly skip: number
  readonly limit: number
  readonly maxBytes: number
}

/** What ends a line. No other byte of JSON in UTF-8 is like it. */
export const newline = 10

/**
 * Makes rows of lines that come in pieces of any size. What is passed to `take` may be overwritten afterwards. `expect`
 * gives what was taken, and fails when a line was no row or when there were fewer than expected.
 */
export const collector = ({ limit, maxBytes, skip }: Wanted) => {
  const rows: Array<Row> = []
  let skipped = 0
  let bytes = 0
  let broken = false
  let begun: Array<Buffer> = []
  const enough = (): Enough => broken || rows.length >= limit || bytes >= maxBytes
  const lineOf = (end: Buffer): string =>
    begun.length === 0 ? end.toString("utf8") : Buffer.concat([...begun, end]).toString("utf8")
  const take = (piece: Buffer): Enough => {
    let at = 0
    while (!enough()) {
      const end = piece.indexOf(newline, at)
      if (end === -1) {
        if (skipped === skip && at < piece.length) begun.push(Buffer.from(piece.subarray(at)))
        break
      }
      if (skipped < skip) skipped++
      else {
        const line = lineOf(piece.subarray(at, end))
        const row = rowOf(line)
        begun = []
        bytes += line.length
        if (row === undefined) broken = true
        else rows.push(row)
      }
      at = end + 1
    }
    return enough()
  }
  const expect = (count: number): Effect.Effect<ReadonlyArray<Row>, QueryError> =>
    Effect.suspend(() => {
      if (broken) return damaged("a line is not JSON, or no array")
      return !enough() && rows.length < count ? missing(count - rows.length) : Effect.succeed(rows)
    })
  return { take, enough, expect }
}

const openBracket = 91
const closeBracket = 93
const comma = 44

/**
 * Makes JSON of lines that come in pieces of any size: the rows that are wanted, separated by commas. There are as many as `limit`
 * says. What is passed to `take` stays as it is.
 */
export const lines = ({ limit, maxBytes, skip }: Wanted) => {
  let skipped = 0
  let count = 0
  let bytes = 0
  let last = 0
  let isBroken = false
  let isFull = false
  const enough = (): Enough => isBroken || isFull || count >= limit
  const take = (piece: Buffer): Buffer => {
    let at = 0
    while (skipped < skip) {
      const end = piece.indexOf(newline, at)
      if (end === -1) return noBytes
      skipped++
      at = end + 1
    }
    const text = Buffer.from(piece.subarray(at))
    for (let from = 0; from < text.length;) {
      if (last === 0 && text[from] !== openBracket) isBroken = true
      const end = text.indexOf(newline, from)
      if (end === -1) {
        bytes += text.length - from
        last = text[text.length - 1] ?? 0
        break
      }
      if ((end === from ? last : text[end - 1]) !== closeBracket) isBroken = true
      bytes += end - from
      count++
      isFull = bytes >= maxBytes
      last = 0
      if (enough()) return text.subarray(0, end)
      text[end] = comma
      from = end + 1
    }
    return text
  }
  return { take, enough, count: () => count, isBroken: () => isBroken }
}

const noBytes = Buffer.alloc(0)

/** Rows that were counted are not there. */
export const missing = (count: number) => damaged(`${count} are missing`)

/** What is wrong with a line is for the log; the reader of the record may be anybody. */
const damaged = (cause: string) =>
  Effect.andThen(
    LogEvent.error({ event: "results.damaged" }, `Rows cannot be read: ${cause}`),
    Effect.fail(
      new QueryError({
        reason: new ResultsUnavailable({ problem: "The rows that were kept are damaged. Submit the query again." })
      })
    )
  )

/** Something that was kept is no row. */
export const broken = damaged("a line is no array")

/** A row is written as JSON and was JSON before: that it is an array is all there is to check. */
const rowOf = (line: string): Row | undefined => {
  try {
    const row: unknown = JSON.parse(line)
    return Array.isArray(row) ? row : undefined
  } catch {
    return undefined
  }
}
