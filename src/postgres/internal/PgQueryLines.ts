/**
 * Reads rows that lie in PostgreSQL as chunks of lines of JSON. What reads lives as long as one page.
 */
import { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Turns from "../../lifetime/internal/Turns.ts"
import type { Column } from "../../query/QueryDriver.ts"
import type { QueryError } from "../../query/QueryError.ts"
import type { Page, PageText, QueryResult, Sealed } from "../../query/QueryResults.ts"
import * as RowLines from "../../query/internal/RowLines.ts"
import * as PgQueryRow from "./PgQueryRow.ts"
import type { PgQuerySql } from "./PgQuerySql.ts"

/** A page ends early when it has so many bytes. */
const pageBytes = 4 * 1024 * 1024
/** Chunks that one statement reads, and what is given to a reader at a time. */
const readChunks = 2
const pieceBytes = 64 * 1024

export type Ask = (
  sql: string,
  params: ReadonlyArray<unknown>
) => Effect.Effect<ReadonlyArray<PgQueryRow.Row>, QueryError>

/** What the results of one store have in common. */
export interface Store {
  readonly statements: PgQuerySql
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
const decodePlace = PgQueryRow.decode(Schema.Tuple([Schema.Int, Schema.Finite, Schema.Uint8Array]))

export const asBuffer = (data: Uint8Array) => Buffer.from(data.buffer, data.byteOffset, data.length)

/** The lines of a result, from some row on. */
export interface Lines {
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

export const pageOf =
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

export const textOf =
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
export const piecesOf = (
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

/** The chunks in the table. */
export const tableOf = (
  { read, statements }: Pick<Store, "read" | "statements">,
  { attempt, columns, id, rowCount }: Pick<Sealed, "attempt" | "columns" | "id" | "rowCount">
): Lines => ({
  rowCount,
  columns,
  from: (row) =>
    Effect.flatMap(read(statements.chunkOf, [id, attempt, 2 * row]), ([found]) =>
      found === undefined
        ? RowLines.missing(rowCount - row)
        : Effect.map(decodePlace(found), ([first, place, data]) => {
            let chunk = first
            // Most pages end within the chunk that they begin in.
            const more = () => {
              if (chunk === first) {
                chunk++
                return Effect.succeed([asBuffer(data)])
              }
              return Effect.flatMap(read(statements.readRows, [id, attempt, chunk, readChunks]), (rows) => {
                chunk += rows.length
                return Effect.forEach(rows, (row) => Effect.map(decodeData(row), ([data]) => asBuffer(data)))
              })
            }
            return { skip: row - Math.floor(place / 2), next: piecesOf(more) }
          })
    )
})

/** Rows that were written with the outcome of their query. */
export const inlineOf = (inline: string, { columns, rowCount }: Sealed): Lines => ({
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
