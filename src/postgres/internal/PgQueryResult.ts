/**
 * The rows of a query that runs, on their way into PostgreSQL. It lives as long as the scope of the result.
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as Turns from "../../lifetime/internal/Turns.ts"
import type { Column, Row, RowSink } from "../../query/QueryDriver.ts"
import { QueryError, ResultsUnavailable } from "../../query/QueryError.ts"
import { type Owner, type QueryResult, removed } from "../../query/QueryResults.ts"
import * as RowLines from "../../query/internal/RowLines.ts"
import { asBuffer, type Lines, pageOf, piecesOf, type Store, tableOf, textOf } from "./PgQueryLines.ts"

const kibibyte = 1024

/** Of a result that is written with the outcome of its query. */
const inlineBytes = 8 * kibibyte
const chunkBytes = 256 * kibibyte

const unavailable = (problem: string) => new QueryError({ reason: new ResultsUnavailable({ problem }) })

export const notKept = unavailable("Rows cannot be kept at the moment. Try again later.")
export const notRead = unavailable("Rows cannot be read at the moment. Try again later.")

const noBytes = Buffer.alloc(0)

/** A result that is being written. */
export class PgQueryResult implements QueryResult {
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
