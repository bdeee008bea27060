/**
 * Keeps the rows of queries in PostgreSQL, beside the journal of `PgQueryJournal`: any instance reads them, also when the one that
 * ran the query is gone.
 *
 * Connections live as long as the layer. Rows live as long as the record of their query, whatever becomes of the instance; those
 * of a query that fails go with it.
 *
 * **Details**
 *
 * Rows are encoded as lines of JSON when they come. Results of up to 8 KiB are written with the outcome of their query and cost no
 * statement. Longer ones go to the table in chunks of 256 KiB, one of which is on its way while the next is gathered; a
 * statement that produces more waits. A page ends early when it has about 4 MiB of rows; its `next` tells.
 *
 * Limits count what all instances keep. How much that is, is asked once a second while rows come, so that for a second of
 * writing there may be more.
 *
 * **Gotchas**
 *
 * The write-ahead log grows by about three times the bytes of the rows. They need the same database and schema as the journal.
 *
 * Install `@effect/sql-pg` beside Holdfast.
 */
import { Buffer } from "node:buffer"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { isSqlError } from "effect/sql/SqlError"
import * as Ledger from "../lifetime/Ledger.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as Timers from "../lifetime/internal/Timers.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import * as Turns from "../lifetime/internal/Turns.ts"
import type { Column, Row, RowSink } from "../query/QueryDriver.ts"
import { QueryError, ResultsUnavailable } from "../query/QueryError.ts"
import { type Owner, type Page, type PageText, type QueryResult, QueryResults, removed } from "../query/QueryResults.ts"
import type { Sealed } from "../query/QueryResults.ts"
import * as QueryRoom from "../query/internal/QueryRoom.ts"
import * as RowLines from "../query/internal/RowLines.ts"
import * as PgQueryRow from "./internal/PgQueryRow.ts"
import * as PgQuerySql from "./internal/PgQuerySql.ts"
import { connectionOf } from "./internal/PgSessionConfig.ts"
import * as PgSiblings from "./internal/PgSiblings.ts"
import * as PgTarget from "./internal/PgTarget.ts"
import { schemaOf } from "./PgQueryJournal.ts"

/** Where rows are kept, and how many. Bytes are those of the rows' JSON text. */
export interface Options {
  /** That of the journal. */
  readonly url: Redacted.Redacted<string>
  /** That of the journal. Default: `holdfast`. */
  readonly schema?: string | undefined
  /** At least 2: half for writing, half for reading. Default: 6. */
  readonly maxConnections?: number | undefined
  /** How long an operation may take, waiting for a connection included; at most 24 days. Default: 10 seconds. */
  readonly operationTimeout?: Duration.Input | undefined
  /** For the rows of one query; more fails it with `ResultTooLarge`. Default: 1 GiB. */
  readonly limitBytes?: number | undefined
  /** For the rows of one principal's queries; more fails the one that adds them with `ResultsFull`. Default: half of all. */
  readonly principalBytes?: number | undefined
  /** For the rows of all queries together; more fails the one that adds them with `ResultsFull`. Default: 8 GiB. */
  readonly totalBytes?: number | undefined
  /** As of `FileQueryResults`. Default: 16. */
  readonly shares?: number | undefined
  /** Shown by the server to operators. Default: `holdfast-queries-rows`. */
  readonly applicationName?: string | undefined
}

const kibibyte = 1024
const mebibyte = 1024 * kibibyte
const gibibyte = 1024 * mebibyte

/** Of a result that is written with the outcome of its query. */
const inlineBytes = 8 * kibibyte
const chunkBytes = 256 * kibibyte
const pageBytes = 4 * mebibyte
/** Chunks that one statement reads, and what is given to a reader at a time. */
const readChunks = 2
const pieceBytes = 64 * kibibyte

/** How old it may be what is known of the room that is taken, in milliseconds. */
const roomAge = 1000

const unavailable = (problem: string) => new QueryError({ reason: new ResultsUnavailable({ problem }) })

const notKept = unavailable("Rows cannot be kept at the moment. Try again later.")
const notRead = unavailable("Rows cannot be read at the moment. Try again later.")

type Ask = (sql: string, params: ReadonlyArray<unknown>) => Effect.Effect<ReadonlyArray<PgQueryRow.Row>, QueryError>

/** What the results of one store have in common. */
interface Store {
  readonly statements: PgQuerySql.PgQuerySql
  readonly read: Ask
  readonly write: Ask
  /** Takes room for more rows of a query, or says why there is not enough. */
  readonly take: (principal: string, has: number, bytes: number) => QueryError | undefined
  /** Gives it back; what lies in the table is found there when that is looked at next. */
  readonly leave: (principal: string, bytes: number) => void
  /** What is known of the room, brought up to date where it is old. */
  readonly look: Effect.Effect<void, QueryError>
}

const decodeData = PgQueryRow.decode(Schema.Tuple([Schema.Uint8Array]))
const decodePlace = PgQueryRow.decode(Schema.Tuple([Schema.Int, Schema.Finite]))
const decodeKept = PgQueryRow.decode(Schema.Tuple([Schema.String, Schema.Finite]))

const asBuffer = (data: Uint8Array) => Buffer.from(data.buffer, data.byteOffset, data.length)

/** The lines of a result, from some row on. */
interface Lines {
  readonly columns: ReadonlyArray<Column>
  readonly rowCount: number
  /** Finds a row: how many lines are before it in the first piece, and what reads the pieces, one after the other; none after the last. */
  readonly from: (
    row: number
  ) => Effect.Effect<
    { readonly skip: number; readonly next: Effect.Effect<Buffer | undefined, QueryError> },
    QueryError
  >
}

const pageOf =
  ({ columns, from, rowCount }: Lines): QueryResult["page"] =>
  (offset, limit): Effect.Effect<Page, QueryError> => {
    const wanted = Math.max(Math.min(limit, rowCount - offset), 0)
    if (wanted === 0) return Effect.succeed({ columns, rows: [], next: undefined })
    return Effect.flatMap(from(offset), ({ next, skip }) => {
      const found = RowLines.collector({ skip, limit: wanted, maxBytes: pageBytes })
      const take: Effect.Effect<void, QueryError> = Effect.flatMap(Effect.andThen(Turns.next, next), (piece) =>
        piece === undefined || found.take(piece) ? Effect.void : take
      )
      return Effect.map(
        Effect.andThen(
          take,
          Effect.suspend(() => found.expect(wanted))
        ),
        (rows) => {
          const next = offset + rows.length
          return { columns, rows, next: next < rowCount ? next : undefined }
        }
      )
    })
  }

const textOf =
  ({ columns, from, rowCount }: Lines): NonNullable<QueryResult["text"]> =>
  (offset, limit): Effect.Effect<PageText, QueryError> => {
    const wanted = Math.max(Math.min(limit, rowCount - offset), 0)
    if (wanted === 0) return Effect.succeed({ columns, pull: Effect.succeed(undefined), next: () => undefined })
    return Effect.map(from(offset), ({ next, skip }) => {
      const lines = RowLines.lines({ skip, limit: wanted, maxBytes: pageBytes })
      const pull: PageText["pull"] = Effect.suspend(() => {
        if (lines.enough()) return Effect.succeed(undefined)
        return Effect.flatMap(Effect.andThen(Turns.next, next), (piece) => {
          if (piece === undefined) return RowLines.missing(wanted - lines.count())
          const text = lines.take(piece)
          if (lines.isBroken()) return RowLines.broken
          return text.length === 0 ? pull : Effect.succeed(text)
        })
      })
      const after = () => offset + lines.count()
      return { columns, pull, next: () => (after() < rowCount ? after() : undefined) }
    })
  }

/** Gives buffers one after the other, in pieces, and then what comes after them. */
const piecesOf = (
  more: () => Effect.Effect<ReadonlyArray<Buffer>, QueryError>
): Effect.Effect<Buffer | undefined, QueryError> => {
  let waiting: Array<Buffer> = []
  let isOver = false
  const next: Effect.Effect<Buffer | undefined, QueryError> = Effect.suspend(() => {
    const [first] = waiting
    if (first !== undefined) {
      const piece = first.subarray(0, pieceBytes)
      if (piece.length < first.length) waiting[0] = first.subarray(pieceBytes)
      else waiting.shift()
      return Effect.succeed(piece)
    }
    if (isOver) return Effect.succeed(undefined)
    return Effect.flatMap(more(), (found) => {
      waiting = [...found]
      isOver = found.length === 0
      return next
    })
  })
  return next
}

const noBytes = Buffer.alloc(0)

/** A result that is being written. */
class PgQueryResult implements QueryResult {
  private columns: ReadonlyArray<Column> = []
  private rowCount = 0
  private buffer = noBytes
  private used = 0
  /** Bytes of the row that is being added, those that were sent included. */
  private partial = 0
  /** Rows before the buffer, and whether it begins within one. */
  private rowsBefore = 0
  private isWithin = false
  private chunks = 0
  private written = 0
  private isSealed = false
  /** A row did not come to its end, and a part of it was sent. */
  private isTorn = false
  private writing: Fiber.Fiber<void, QueryError> | undefined
  private readonly store: Store
  private readonly owner: Owner
  private readonly scope: Scope.Scope

  constructor(store: Store, owner: Owner, scope: Scope.Scope) {
    this.store = store
    this.owner = owner
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

  get bytes(): Effect.Effect<number> {
    return Effect.sync(() => this.written + this.used)
  }

  get page(): QueryResult["page"] {
    return (offset, limit) =>
      Effect.andThen(
        this.settle(),
        Effect.suspend(() => pageOf(this.lines())(offset, limit))
      )
  }

  get text(): NonNullable<QueryResult["text"]> {
    return (offset, limit) =>
      Effect.andThen(
        this.settle(),
        Effect.suspend(() => textOf(this.lines())(offset, limit))
      )
  }

  get seal(): NonNullable<QueryResult["seal"]> {
    return Effect.gen({ self: this }, function* () {
      this.begin()
      const { columns } = this
      if (this.isTorn) return yield* notKept
      if (this.chunks === 0 && this.used <= inlineBytes) {
        this.isSealed = true
        return { columns, inline: this.buffer.toString("utf8", 0, this.used) }
      }
      yield* this.flush()
      yield* this.settle()
      this.isSealed = true
      return { columns, inline: undefined }
    })
  }

  /** Frees what is not sealed. */
  get free(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { claim, principal } = this.owner
      this.store.leave(principal, this.written + this.used)
      this.buffer = noBytes
      this.used = 0
      if (this.isSealed || claim === undefined || this.chunks === 0) return Effect.void
      const remove = this.store.write(this.store.statements.removeRows, [claim.id, claim.attempt])
      // What was on its way is given up, and may have arrived.
      const { writing } = this
      return Effect.ignore(Effect.andThen(writing === undefined ? Effect.void : Fiber.await(writing), remove))
    })
  }

  /** What is in the table, and then what is in the buffer. */
  private lines(): Lines {
    const { claim, id } = this.owner
    const { chunks, columns, isWithin, rowCount, rowsBefore } = this
    const buffered = asBuffer(new Uint8Array(this.buffer.subarray(0, this.used - this.partial)))
    const table = tableOf(this.store, { id, attempt: claim?.attempt ?? 1, columns, rowCount })
    const inBuffer = (row: number) => row > rowsBefore || (row === rowsBefore && !isWithin)
    const rest = () => {
      let isGiven = buffered.length === 0
      return Effect.suspend(() => {
        if (isGiven) return Effect.succeed([])
        isGiven = true
        return Effect.succeed([buffered])
      })
    }
    return {
      columns,
      rowCount,
      from: (row) => {
        const own = rest()
        if (chunks === 0 || inBuffer(row)) {
          return Effect.succeed({ skip: row - rowsBefore, next: piecesOf(() => own) })
        }
        return Effect.map(table.from(row), ({ next, skip }) => {
          const after = piecesOf(() => own)
          return {
            skip,
            next: Effect.flatMap(next, (piece) => (piece === undefined ? after : Effect.succeed(piece)))
          }
        })
      }
    }
  }

  /** Drops what there is of a row whose text did not come to its end. */
  private begin(): void {
    if (this.partial > this.used) this.isTorn = true
    this.used = Math.max(this.used - this.partial, 0)
    this.partial = 0
  }

  private extend(size: number): QueryError | undefined {
    // A driver that cannot be stopped may go on when its query is given up.
    if (this.scope.state._tag === "Closed") return removed()
    const refused = this.store.take(this.owner.principal, this.written + this.used, size)
    if (refused !== undefined) return refused
    if (this.used + size > this.buffer.length) {
      const larger = Buffer.allocUnsafeSlow(
        Math.max(this.used + size, Math.min(this.buffer.length * 2, 2 * chunkBytes), 1024)
      )
      this.buffer.copy(larger, 0, 0, this.used)
      this.buffer = larger
    }
    this.used += size
    this.partial += size
    return undefined
  }

  private end(): void {
    this.buffer[this.used - 1] = RowLines.newline
    this.partial = 0
    this.rowCount++
  }

  private append(row: Row): QueryError | undefined {
    const text = JSON.stringify(row)
    const at = this.used
    const refused = this.extend(Buffer.byteLength(text) + 1)
    if (refused !== undefined) return refused
    this.buffer.write(text, at)
    this.end()
    return undefined
  }

  private add(rows: ReadonlyArray<Row>, from: number): Effect.Effect<void, QueryError> {
    return Effect.suspend(() => {
      this.begin()
      for (let next = from; next < rows.length; next++) {
        const refused = this.append(rows[next] as Row)
        if (refused !== undefined) return Effect.fail(refused)
        if (this.used >= chunkBytes) return Effect.andThen(this.flush(), this.add(rows, next + 1))
      }
      return Effect.void
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
            return this.used >= chunkBytes ? this.flush() : Effect.void
          }
          this.buffer.set(value, at)
          if (this.used >= chunkBytes) return Effect.andThen(this.flush(), slice)
        } while (!Turns.isSpent())
        return slice
      })
    )
    return Effect.suspend(() => {
      this.begin()
      return slice
    })
  }

  /** Sends what was gathered, once what was sent before has arrived. */
  private flush(): Effect.Effect<void, QueryError> {
    return Effect.suspend(() => {
      const { claim } = this.owner
      if (this.used === 0) return Effect.void
      if (claim === undefined) return Effect.fail(notKept)
      const data = new Uint8Array(this.buffer.subarray(0, this.used))
      const place = 2 * this.rowsBefore + (this.isWithin ? 1 : 0)
      const { incarnation, attempt, id } = claim
      const params = [id, incarnation, attempt, this.chunks, place, data, data.length]
      this.chunks++
      this.written += this.used
      this.used = 0
      this.rowsBefore = this.rowCount
      this.isWithin = this.partial > 0
      const insert = Effect.flatMap(this.store.write(this.store.statements.addRows, params), (rows) =>
        rows.length === 0 ? Effect.fail(removed()) : Effect.void
      )
      return Effect.andThen(
        Effect.andThen(this.settle(), this.store.look),
        Effect.map(Effect.forkIn(insert, this.scope, { startImmediately: true }), (fiber) => {
          this.writing = fiber
        })
      )
    }).pipe(Effect.uninterruptible)
  }

  /** Waits until what was sent has arrived. */
  private settle(): Effect.Effect<void, QueryError> {
    return Effect.suspend(() => (this.writing === undefined ? Effect.void : Fiber.join(this.writing)))
  }
}

/** The chunks in the table. */
const tableOf = (
  { read, statements }: Store,
  { attempt, columns, id, rowCount }: Pick<Sealed, "attempt" | "columns" | "id" | "rowCount">
): Lines => ({
  rowCount,
  columns,
  from: (row) =>
    Effect.flatMap(read(statements.chunkOf, [id, attempt, 2 * row]), ([found]) =>
      found === undefined
        ? RowLines.missing(rowCount - row)
        : Effect.map(decodePlace(found), ([first, place]) => {
            let chunk = first
            const more = () =>
              Effect.flatMap(read(statements.readRows, [id, attempt, chunk, readChunks]), (rows) => {
                chunk += rows.length
                return Effect.forEach(rows, (row) => Effect.map(decodeData(row), ([data]) => asBuffer(data)))
              })
            return { skip: row - Math.floor(place / 2), next: piecesOf(more) }
          })
    )
})

/** Rows that were written with the outcome of their query. */
const inlineOf = (inline: string, { columns, rowCount }: Sealed): Lines => ({
  rowCount,
  columns,
  from: (row) => {
    let isGiven = false
    const all = Effect.sync(() => {
      if (isGiven) return []
      isGiven = true
      return [Buffer.from(inline)]
    })
    return Effect.succeed({ skip: row, next: piecesOf(() => all) })
  }
})

/** Makes a store whose connections close with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const schema = yield* schemaOf(options)
  const statements = PgQuerySql.make(schema, PgQuerySql.channelOf(schema))
  const limit = Timers.clamp(Duration.fromInputUnsafe(options.operationTimeout ?? "10 seconds"))
  const max = Math.max(options.maxConnections ?? 6, 2)
  const connection = {
    ...connectionOf(
      { ...options, applicationName: options.applicationName ?? "holdfast-queries-rows" },
      Duration.min(limit, Duration.seconds(3)),
      limit
    ),
    url: options.url
  }
  const scope = yield* Ledger.hold(
    { kind: "query results", id: PgTarget.whereOf(options.url) },
    Effect.sync(() => Scope.makeUnsafe("parallel")),
    Scope.close
  )
  const siblings = yield* Scope.provide(PgSiblings.make("queries", limit), scope)
  const open: PgSiblings.Siblings = (name, config) => Scope.provide(Effect.orDie(siblings(name, config)), scope)
  const readers = yield* Effect.orDie(open("rows read", { ...connection, maxConnections: Math.floor(max / 2) }))
  const writers = yield* Effect.orDie(open("rows written", { ...connection, maxConnections: Math.ceil(max / 2) }))
  const within = yield* Scope.provide(TimeLimit.make(limit, PgQueryRow.late), scope)
  const asked =
    (pool: PgSiblings.Connections, problem: QueryError): Ask =>
    (sql, params) =>
      within(pool.use((connection) => connection.queryValues(sql, params))).pipe(
        // Why is in the log of outages; the reader of the record may be anybody.
        Effect.tapError((error) => (isSqlError(error) ? Effect.logDebug("Rows in PostgreSQL", error) : Effect.void)),
        Effect.mapError(() => problem)
      )
  const read = asked(readers, notRead)

  const totalBytes = options.totalBytes ?? 8 * gibibyte
  const limits = {
    limitBytes: options.limitBytes ?? gibibyte,
    principalBytes: options.principalBytes,
    shares: options.shares,
    totalBytes
  }
  const clock = yield* Clock.Clock
  let room = new QueryRoom.Room(limits)
  let lookedAt = Number.NEGATIVE_INFINITY
  const look = Effect.suspend(() => {
    const at = SteadyClock.millis(clock)
    if (at - lookedAt < roomAge) return Effect.void
    lookedAt = at
    return Effect.flatMap(read(statements.kept, []), (rows) =>
      Effect.map(Effect.forEach(rows, decodeKept), (kept) => {
        const known = new QueryRoom.Room(limits)
        for (const [principal, bytes] of kept) known.leave(principal, -bytes)
        room = known
      })
    )
  })
  const store: Store = {
    statements,
    read,
    write: asked(writers, notKept),
    take: (principal, has, bytes) => room.take(principal, has, bytes),
    leave: (principal, bytes) => room.leave(principal, bytes),
    look
  }

  const openResult = (owner: Owner) =>
    Effect.flatMap(Effect.scope, (scope) => {
      const result = new PgQueryResult(store, owner, scope)
      return Effect.as(
        Scope.addFinalizer(
          scope,
          Effect.suspend(() => result.free)
        ),
        result
      )
    })
  return QueryResults.of({
    open: openResult,
    sealed: (sealed) => {
      const lines = sealed.inline === undefined ? tableOf(store, sealed) : inlineOf(sealed.inline, sealed)
      return { page: pageOf(lines), text: textOf(lines) }
    },
    ready: Effect.asVoid(read(statements.ping, []))
  })
})

/** Rows in a database that has, or will have, the tables of `PgQueryJournal.migrate`. */
export const layer = (options: Options): Layer.Layer<QueryResults> => Layer.effect(QueryResults, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ url: Config.Redacted("DATABASE_URL") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<QueryResults, Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
