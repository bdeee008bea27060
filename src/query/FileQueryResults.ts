/**
 * Keeps the rows of queries in memory while they are few, and in files from then on.
 *
 * The files lie in one directory, which lives as long as the layer. A result lives as long as the scope it was opened in:
 * then its memory is free and its file is gone. The program's death leaves the directory behind, which the next start
 * removes.
 *
 * **Details**
 *
 * Rows are encoded as lines of JSON when they come. The last of them are in memory; when they exceed `memoryBytes`, or
 * those of all queries exceed `memoryTotalBytes`, they go to the end of the query's file, and the statement waits until
 * they are there. Pages are read by an index of bounded size. A page ends early when it has about 4 MiB of
 * rows; its `next` tells.
 *
 * **Gotchas**
 *
 * On many systems the default directory is itself in memory. Give one on a disk where results may be large.
 */
import * as Os from "node:os"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Directory from "./FileQueryResultsDirectory.ts"
import * as File from "./FileQueryResultsFile.ts"
import * as Index from "./FileQueryResultsIndex.ts"
import type { Column, Row } from "./QueryDriver.ts"
import { QueryError, ResultsFull, ResultTooLarge } from "./QueryError.ts"
import type { QueryId } from "./QueryId.ts"
import { type QueryResult, QueryResults, removed } from "./QueryResults.ts"

/** Where rows are kept, and how many. Bytes are those of the rows' JSON text. */
export interface Options {
  /** An existing directory to make ours in. Default: the operating system's for temporary files. */
  readonly directory?: string | undefined
  /** How much of one query is kept in memory before it goes to its file. Default: 1 MiB. */
  readonly memoryBytes?: number | undefined
  /** How much of all queries together; then rows go to files at once. Default: 64 MiB. */
  readonly memoryTotalBytes?: number | undefined
  /** For the rows of one query; more fails it with `ResultTooLarge`. Default: 1 GiB. */
  readonly limitBytes?: number | undefined
  /** For the rows of all queries together; more fails the one that adds them with `ResultsFull`. Default: 8 GiB. */
  readonly totalBytes?: number | undefined
}

const kibibyte = 1024
const mebibyte = 1024 * kibibyte

/** What is gathered for one write once a query has a file. */
const writeBytes = 256 * kibibyte
const pageBytes = 4 * mebibyte

/** Two places are as far apart as one read goes; at the default limit none is ever dropped. */
const indexOptions = { span: 64 * kibibyte, capacity: 16 * kibibyte }

const noBytes = Buffer.alloc(0)

/** Makes a store whose directory is removed with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const memoryBytes = options.memoryBytes ?? mebibyte
  const memoryTotalBytes = options.memoryTotalBytes ?? 64 * mebibyte
  const limitBytes = options.limitBytes ?? 1024 * mebibyte
  const totalBytes = options.totalBytes ?? 8 * 1024 * mebibyte
  const directory = yield* Directory.make(options.directory ?? Os.tmpdir())
  // Files are opened by whoever writes first; they stand in the account of this store, not under a statement.
  const context = yield* Effect.context<never>()
  let total = 0
  let memory = 0

  const open = Effect.fnUntraced(function* (id: QueryId) {
    const scope = yield* Effect.scope
    const index = Index.make(indexOptions)
    let columns: ReadonlyArray<Column> = []
    let rowCount = 0
    let file: File.File | undefined
    // The rows are first the bytes of the file, then those in memory. Both always end with a whole row.
    let written = 0
    let recent = noBytes
    let used = 0

    const resize = (bytes: number) => {
      memory += bytes - recent.length
      const resized = bytes === 0 ? noBytes : Buffer.allocUnsafeSlow(bytes)
      recent.copy(resized, 0, 0, used)
      recent = resized
    }
    yield* Scope.addFinalizer(
      scope,
      Effect.sync(() => {
        total -= written + used
        written = used = rowCount = 0
        resize(0)
      })
    )

    const append = (row: Row): QueryError | undefined => {
      // A driver that cannot be stopped may go on when its query is given up.
      if (scope.state._tag === "Closed") return removed()
      const text = JSON.stringify(row)
      const size = Buffer.byteLength(text) + 1
      if (written + used + size > limitBytes) return new QueryError({ reason: new ResultTooLarge({ limitBytes }) })
      if (total + size > totalBytes) return new QueryError({ reason: new ResultsFull({ limitBytes: totalBytes }) })
      if (used + size > recent.length) resize(Math.max(used + size, recent.length * 2))
      index.add(rowCount, written + used)
      recent.write(text, used)
      used += size
      recent[used - 1] = File.newline
      total += size
      rowCount++
      return undefined
    }
    const isCrowded = () => memory > memoryTotalBytes
    const isFull = () => used >= (file === undefined ? memoryBytes : writeBytes)

    const flush = Effect.uninterruptible(
      Effect.gen(function* () {
        file ??= yield* File.make(directory, id, totalBytes).pipe(Scope.provide(scope), Effect.provideContext(context))
        yield* file.write(recent.subarray(0, used), written)
        written += used
        used = 0
        if (recent.length > 2 * writeBytes || isCrowded()) resize(0)
      })
    )

    const add = (rows: ReadonlyArray<Row>, from: number): Effect.Effect<void, QueryError> =>
      Effect.suspend(() => {
        for (let next = from; next < rows.length; next++) {
          const refused = append(rows[next] as Row)
          if (refused !== undefined) return Effect.fail(refused)
          if (isFull()) return Effect.andThen(flush, add(rows, next + 1))
        }
        return isCrowded() && used > 0 ? flush : Effect.void
      })

    const page = Effect.fnUntraced(function* (offset: number, limit: number) {
      const count = rowCount
      const start = index.before(offset)
      const found = File.collector({ skip: offset - start.row, limit, maxBytes: pageBytes })
      const end = Math.min(index.after(offset + limit)?.byte ?? Number.POSITIVE_INFINITY, written + used)
      // What is in memory now may be in the file when that part has been read.
      for (let at = start.byte; at < end && !found.enough();) {
        const to = Math.min(end, written)
        if (at < to && file !== undefined) {
          yield* file.read(at, to, found.take)
          at = to
        } else {
          found.take(recent.subarray(at - written, end - written))
          at = end
        }
      }
      const rows = yield* found.expect(Math.min(limit, count - offset))
      const next = offset + rows.length
      return { columns, rows, next: next < rowCount ? next : undefined }
    })

    return {
      sink: {
        columns: (described) =>
          Effect.sync(() => {
            columns = described
          }),
        rows: (rows) => add(rows, 0)
      },
      page,
      bytes: Effect.sync(() => written + used)
    } satisfies QueryResult
  })
  return QueryResults.of({ open })
})

/** Rows in memory and files. Fails with `ResultsUnavailable` when there can be no directory. */
export const layer = (options?: Options): Layer.Layer<QueryResults, QueryError> =>
  Layer.effect(QueryResults, make(options))
