/**
 * A file of rows, one line of JSON each.
 *
 * The file lives as long as the scope it was created in. A descriptor lives only as long as one call: however many
 * results are kept, those that nobody reads or writes hold none, and an interruption finds none to lose.
 */
import { promises as Fs } from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Ledger from "../../lifetime/Ledger.ts"
import type { Row } from "../../query/QueryDriver.ts"
import type { Directory } from "./FileQueryResultsDirectory.ts"
import { QueryError, ResultsFull, ResultsUnavailable } from "../../query/QueryError.ts"

/** What is wrong with a path is for the log; the reader of the record may be anybody. */
const complain = (doing: string, cause: unknown, reason: QueryError["reason"]) =>
  Effect.andThen(
    LogEvent.error({ event: "results.failed", doing }, `Rows cannot be ${doing}: ${String(cause)}`),
    Effect.fail(new QueryError({ reason }))
  )

const codeOf = (cause: unknown): string =>
  Predicate.hasProperty(cause, "code") && typeof cause.code === "string" ? cause.code : "no code"

/** Disk full, quota of the user used up, file larger than the system or its limits allow. */
const noRoom: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"])

/** The promise as an effect; `limitBytes` is what a full disk is reported with. */
const onDisk = <A>(doing: "written" | "read", limitBytes: number, run: (signal: AbortSignal) => Promise<A>) =>
  Effect.tryPromise({ try: run, catch: (cause) => cause }).pipe(
    Effect.catch((cause) => {
      const code = codeOf(cause)
      return complain(
        doing,
        cause,
        noRoom.has(code)
          ? new ResultsFull({ limitBytes, diskFull: true })
          : new ResultsUnavailable({ problem: `Rows cannot be ${doing} at the moment (${code}). Try again later.` })
      )
    })
  )

const withHandle = async <A>(path: string, flags: string, use: (handle: Fs.FileHandle) => Promise<A>): Promise<A> => {
  const handle = await Fs.open(path, flags, 0o600)
  try {
    return await use(handle)
  } finally {
    await handle.close()
  }
}

/** A file that only we may read or write. */
export interface File {
  /** Writes at a byte. Not to be interrupted: the operating system would go on behind the back of the next write. */
  readonly write: (bytes: Uint8Array, at: number) => Effect.Effect<void, QueryError>
  /** Gives the bytes from `from` to before `to` to `visit`, piece by piece until it has enough, and keeps none. */
  readonly read: (from: number, to: number, visit: (piece: Buffer) => Enough) => Effect.Effect<void, QueryError>
  /** Reads some of the bytes from `from` to before `to`, which are one at least. */
  readonly piece: (from: number, to: number) => Effect.Effect<Buffer, QueryError>
}

/** Whether the reader has what it wanted. */
export type Enough = boolean

/** What is read at once. */
export const pieceBytes = 64 * 1024

/** Creates an empty file, which is removed with the current scope. `limitBytes` goes into the report of a full disk. */
export const make = (
  directory: Directory,
  id: string,
  limitBytes: number
): Effect.Effect<File, QueryError, Scope.Scope> =>
  Effect.map(
    Ledger.hold(
      { kind: "result file", id },
      Effect.flatMap(directory.ensure, () => {
        const path = Path.join(directory.path(), `${id}.jsonl`)
        return Effect.as(
          onDisk("written", limitBytes, () => withHandle(path, "wx", () => Promise.resolve())),
          path
        )
      }),
      (path) => Effect.promise(() => Fs.rm(path, { force: true }))
    ),
    (path) => fileAt(path, limitBytes)
  )

const fileAt = (path: string, limitBytes: number): File => ({
  write: (bytes, at) =>
    onDisk("written", limitBytes, () =>
      withHandle(path, "r+", async (handle) => {
        for (let done = 0; done < bytes.length;) {
          done += (await handle.write(bytes, done, bytes.length - done, at + done)).bytesWritten
        }
      })
    ),
  read: (from, to, visit) =>
    onDisk("read", limitBytes, (signal) =>
      withHandle(path, "r", async (handle) => {
        const buffer = Buffer.allocUnsafe(Math.min(pieceBytes, to - from))
        for (let at = from; at < to && !signal.aborted;) {
          const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, to - at), at)
          if (bytesRead === 0) throw cutOff(path, at, to)
          if (visit(buffer.subarray(0, bytesRead))) return
          at += bytesRead
        }
      })
    ),
  piece: (from, to) =>
    onDisk("read", limitBytes, () =>
      withHandle(path, "r", async (handle) => {
        const buffer = Buffer.allocUnsafe(Math.min(pieceBytes, to - from))
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, from)
        if (bytesRead === 0) throw cutOff(path, from, to)
        return buffer.subarray(0, bytesRead)
      })
    )
})

const cutOff = (path: string, at: number, to: number) =>
  Object.assign(new Error(`${path} ends at ${at}, not ${to}`), { code: "cut off" })

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

const damaged = (cause: string) =>
  complain(
    "read",
    cause,
    new ResultsUnavailable({ problem: "The rows that were kept are damaged. Submit the query again." })
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
