/**
 * Keeps the rows of queries in memory while they are few, and in files from then on.
 *
 * The files lie in one directory, which lives as long as the layer; where it is removed by somebody else, another one is made. A result lives as long as the scope it was opened in:
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
import * as Config from "effect/Config"
import * as Os from "node:os"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Scope from "effect/Scope"
import * as Directory from "./internal/FileQueryResultsDirectory.ts"
import * as File from "./internal/FileQueryResultsFile.ts"
import * as Index from "./internal/FileQueryResultsIndex.ts"
import type { Column, Row, RowSink } from "../query/QueryDriver.ts"
import type { QueryError } from "../query/QueryError.ts"
import type { QueryId } from "../query/QueryId.ts"
import { type Owner, type Page, type PageText, type QueryResult, QueryResults, removed } from "../query/QueryResults.ts"
import * as Turns from "../lifetime/internal/Turns.ts"
import * as QueryRoom from "../query/internal/QueryRoom.ts"

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
  /** For the rows of one principal's queries; more fails the one that adds them with `ResultsFull`. Default: half of all. */
  readonly principalBytes?: number | undefined
  /** For the rows of all queries together; more fails the one that adds them with `ResultsFull`. Default: 8 GiB. */
  readonly totalBytes?: number | undefined
  /**
   * How many principals each find room for a share, whatever the others keep: together they have what one principal may not
   * take, up to a quarter of all. Beyond a share, each may have twice as much as is then left of the rest. What is kept already
   * is never taken away for others. Default: 16.
   */
  readonly shares?: number | undefined
}

const kibibyte = 1024
const mebibyte = 1024 * kibibyte

/** What is gathered for one write once a query has a file. */
const writeBytes = 256 * kibibyte
const pageBytes = 4 * mebibyte

/** Two places are as far apart as one read goes; at the default limit none is ever dropped. */
const indexOptions = { span: 64 * kibibyte, capacity: 16 * kibibyte }

const heldBytes = Metric.gauge("holdfast_results_bytes", {
  description: "Bytes of rows that are kept, in memory and files"
})
const heldFiles = Metric.gauge("holdfast_results_files", { description: "Results of queries that have a file" })

/** A gauge that is read when somebody asks. */
const observe = (context: Context.Context<never>, gauge: Metric.Gauge<number>, value: () => number) =>
  Metric.registerUnsafe(gauge, context, {
    get: () => ({ value: value() }),
    update: () => undefined,
    modify: () => undefined
  })

const noBytes = Buffer.alloc(0)

/** What the results of one store have in common. */
interface Store {
  readonly limits: Required<{ readonly [Name in "memoryBytes" | "memoryTotalBytes" | "totalBytes"]: number }>
  readonly room: QueryRoom.Room
  readonly directory: Directory.Directory
  /** The first writer opens the files; they stand in the account of the store, not under a statement. */
  readonly context: Context.Context<never>
  /** Bytes of memory set aside for rows. */
  memory: number
  /** Results that have a file. */
  files: number
}

const isCrowded = ({ limits, memory }: Store) => memory > limits.memoryTotalBytes

/** A result. There may be very many of which nobody has added a row yet: one of those is as small as can be. */
class FileQueryResult implements QueryResult {
  private columns: ReadonlyArray<Column> = []
  private rowCount = 0
  private index: Index.Index | undefined
  private file: File.File | undefined
  // The rows are first the bytes of the file, then those in memory. What is behind the whole rows is the beginning of one that
  // comes in pieces.
  private whole = 0
  private written = 0
  private recent = noBytes
  private used = 0
  private readonly store: Store
  private readonly id: QueryId
  private readonly principal: string
  private readonly scope: Scope.Scope

  constructor(store: Store, { id, principal }: Owner, scope: Scope.Scope) {
    this.store = store
    this.id = id
    this.principal = principal
    this.scope = scope
  }

  get sink(): RowSink {
    return {
      columns: (columns) =>
        Effect.sync(() => {
          this.columns = columns
        }),
      rows: (rows) => this.add(rows, 0),
      text: (pieces) => this.addText(pieces)
    }
  }

  get page(): QueryResult["page"] {
    return (offset, limit) => this.read(offset, limit)
  }

  get text(): NonNullable<QueryResult["text"]> {
    return (offset, limit) => this.readText(offset, limit)
  }

  get bytes(): Effect.Effect<number> {
    return Effect.sync(() => this.whole)
  }

  free(): void {
    this.store.room.leave(this.principal, this.written + this.used)
    this.whole = this.written = this.used = this.rowCount = 0
    if (this.file !== undefined) this.store.files--
    this.resize(0)
  }

  private resize(bytes: number): void {
    this.store.memory += bytes - this.recent.length
    const resized = bytes === 0 ? noBytes : Buffer.allocUnsafeSlow(bytes)
    this.recent.copy(resized, 0, 0, this.used)
    this.recent = resized
  }

  /** Drops what there is of a row whose text did not come to its end. */
  private begin(): void {
    this.store.room.leave(this.principal, this.written + this.used - this.whole)
    this.used = Math.max(this.whole - this.written, 0)
    this.written = Math.min(this.whole, this.written)
  }

  /** Makes room for bytes of a row. */
  private extend(size: number): QueryError | undefined {
    // A driver that cannot be stopped may go on when its query is given up.
    if (this.scope.state._tag === "Closed") return removed()
    const refused = this.store.room.take(this.principal, this.written + this.used, size)
    if (refused !== undefined) return refused
    if (this.used + size > this.recent.length) this.resize(Math.max(this.used + size, this.recent.length * 2))
    this.used += size
    return undefined
  }

  /** The row that ends here is whole. */
  private end(): void {
    if (this.whole >= indexOptions.span) (this.index ??= Index.make(indexOptions)).add(this.rowCount, this.whole)
    this.recent[this.used - 1] = File.newline
    this.whole = this.written + this.used
    this.rowCount++
  }

  private append(row: Row): QueryError | undefined {
    const text = JSON.stringify(row)
    const at = this.used
    const refused = this.extend(Buffer.byteLength(text) + 1)
    if (refused !== undefined) return refused
    this.recent.write(text, at)
    this.end()
    return undefined
  }

  private get isMuch(): boolean {
    return this.used >= (this.file === undefined ? this.store.limits.memoryBytes : writeBytes)
  }

  private add(rows: ReadonlyArray<Row>, from: number): Effect.Effect<void, QueryError> {
    return Effect.suspend(() => {
      this.begin()
      for (let next = from; next < rows.length; next++) {
        const refused = this.append(rows[next] as Row)
        if (refused !== undefined) return Effect.fail(refused)
        if (this.isMuch) return Effect.andThen(this.flush(), this.add(rows, next + 1))
      }
      return isCrowded(this.store) && this.used > 0 ? this.flush() : Effect.void
    })
  }

  private addText(pieces: Iterator<Uint8Array, void>): Effect.Effect<void, QueryError> {
    const slice: Effect.Effect<void, QueryError> = Effect.andThen(
      Turns.next,
      Effect.suspend(() => {
        do {
          const { done, value } = pieces.next()
          const at = this.used
          const refused = this.extend(done === true ? 1 : value.length)
          if (refused !== undefined) return Effect.fail(refused)
          if (done === true) {
            this.end()
            return this.isMuch || isCrowded(this.store) ? this.flush() : Effect.void
          }
          this.recent.set(value, at)
          if (this.isMuch) return Effect.andThen(this.flush(), slice)
        } while (!Turns.isSpent())
        return slice
      })
    )
    return Effect.suspend(() => {
      this.begin()
      return slice
    })
  }

  private flush(): Effect.Effect<void, QueryError> {
    const { context, directory, limits } = this.store
    const create = Effect.suspend(() =>
      File.make(directory, this.id, limits.totalBytes).pipe(
        Scope.provide(this.scope),
        Effect.provideContext(context),
        Effect.map((file) => {
          this.store.files++
          return (this.file = file)
        })
      )
    )
    return Effect.flatMap(this.file === undefined ? create : Effect.succeed(this.file), (file) =>
      Effect.map(file.write(this.recent.subarray(0, this.used), this.written), () => {
        this.written += this.used
        this.used = 0
        if (this.recent.length > 2 * writeBytes || isCrowded(this.store)) this.resize(0)
      })
    ).pipe(Effect.uninterruptible)
  }

  private read(offset: number, limit: number): Effect.Effect<Page, QueryError> {
    return Effect.gen({ self: this }, function* () {
      const count = this.rowCount
      const start = this.index?.before(offset) ?? { row: 0, byte: 0 }
      const found = File.collector({ skip: offset - start.row, limit, maxBytes: pageBytes })
      const end = Math.min(this.index?.after(offset + limit)?.byte ?? Number.POSITIVE_INFINITY, this.whole)
      // What is in memory now may be in the file when that part has been read.
      for (let at = start.byte; at < end && !found.enough();) {
        const to = Math.min(end, this.written)
        if (at < to && this.file !== undefined) {
          yield* this.file.read(at, to, found.take)
          at = to
        } else {
          const to = Math.min(end, at + File.pieceBytes)
          yield* Turns.next
          found.take(this.recent.subarray(at - this.written, to - this.written))
          at = to
        }
      }
      const rows = yield* found.expect(Math.min(limit, count - offset))
      const next = offset + rows.length
      return { columns: this.columns, rows, next: next < this.rowCount ? next : undefined }
    })
  }

  private readText(offset: number, limit: number): Effect.Effect<PageText, QueryError> {
    return Effect.sync(() => {
      const start = this.index?.before(offset) ?? { row: 0, byte: 0 }
      const end = this.whole
      const count = Math.max(Math.min(limit, this.rowCount - offset), 0)
      const lines = File.lines({ skip: offset - start.row, limit: count, maxBytes: pageBytes })
      let at = start.byte
      const pull: PageText["pull"] = Effect.suspend(() => {
        if (lines.enough()) return Effect.succeed(undefined)
        if (at >= end) return File.missing(count - lines.count())
        return Effect.flatMap(this.piece(at, end), (piece) => {
          at += piece.length
          const text = lines.take(piece)
          if (lines.isBroken()) return File.broken
          return text.length === 0 ? pull : Effect.succeed(text)
        })
      })
      return {
        columns: this.columns,
        pull,
        next: () => (offset + lines.count() < this.rowCount ? offset + lines.count() : undefined)
      }
    })
  }

  /** Some of the bytes between two places. */
  private piece(from: number, to: number): Effect.Effect<Buffer, QueryError> {
    const { file, recent, written } = this
    if (from < written && file !== undefined) return file.piece(from, Math.min(to, written))
    return Effect.as(
      Turns.next,
      recent.subarray(from - written, Math.min(to - written, from - written + File.pieceBytes))
    )
  }
}

/** Makes a store whose directory is removed with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const totalBytes = options.totalBytes ?? 8 * 1024 * mebibyte
  const store: Store = {
    limits: {
      memoryBytes: options.memoryBytes ?? mebibyte,
      memoryTotalBytes: options.memoryTotalBytes ?? 64 * mebibyte,
      totalBytes
    },
    room: new QueryRoom.Room({
      limitBytes: options.limitBytes ?? 1024 * mebibyte,
      principalBytes: options.principalBytes,
      shares: options.shares,
      totalBytes
    }),
    directory: yield* Directory.make(options.directory ?? Os.tmpdir()),
    context: yield* Effect.context<never>(),
    memory: 0,
    files: 0
  }
  yield* Effect.acquireRelease(
    Effect.sync(() => [
      observe(store.context, heldBytes, () => store.room.bytes),
      observe(store.context, heldFiles, () => store.files)
    ]),
    (observed) => Effect.sync(() => observed.forEach((it) => it.remove()))
  )
  const open = (owner: Owner) =>
    Effect.flatMap(Effect.scope, (scope) => {
      const result = new FileQueryResult(store, owner, scope)
      return Effect.as(
        Scope.addFinalizer(
          scope,
          Effect.sync(() => result.free())
        ),
        result
      )
    })
  return QueryResults.of({ open, ready: store.directory.ensure })
})

/** Rows in memory and files. Fails with `ResultsUnavailable` when there can be no directory. */
export const layer = (options?: Options): Layer.Layer<QueryResults, QueryError> =>
  Layer.effect(QueryResults, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ directory: Config.String("RESULTS_DIR") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<QueryResults, QueryError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
