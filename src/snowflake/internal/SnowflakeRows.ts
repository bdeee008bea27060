/**
 * Hands the rows of a statement that succeeded to their sink, partition by partition, as fast as the sink takes them.
 *
 * A partition is fetched whole and lies in memory until its rows are taken, so that a slow reader holds up no connection. While one is
 * taken the next one is fetched, where both together stay below the limit.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Buffer } from "node:buffer"
import * as Turns from "../../lifetime/internal/Turns.ts"
import type { Row, RowSink } from "../../query/QueryDriver.ts"
import type { QueryError } from "../../query/QueryError.ts"
import type { Finished, ResultSet } from "./SnowflakeAnswers.ts"
import type { CallFailed } from "./SnowflakeApi.ts"
import * as SnowflakeBody from "./SnowflakeBody.ts"
import * as SnowflakeErrors from "./SnowflakeErrors.ts"
import * as SnowflakeRowText from "./SnowflakeRowText.ts"
import * as SnowflakeValues from "./SnowflakeValues.ts"

/** How a partition is had. */
export type Fetch = (partition: number, expectedBytes: number) => Effect.Effect<SnowflakeBody.Body, CallFailed>

const columnsOf = ({ resultSetMetaData }: ResultSet) =>
  resultSetMetaData.rowType.map((column) => ({ name: column.name, type: SnowflakeValues.typeName(column) }))

/** Where the server lists none, all rows are in the first one. */
const partitionsOf = ({ resultSetMetaData: { numRows, partitionInfo } }: ResultSet) =>
  partitionInfo === undefined || partitionInfo.length === 0 ? [{ rowCount: numRows }] : partitionInfo

/** Whether all rows came with the answer that says that the statement is over. */
export const isWhole = ({ result }: Finished): boolean => partitionsOf(result).length === 1

const unreadable = SnowflakeErrors.rowsUnavailable(
  "Snowflake sent rows that are no JSON. Submit the statement again, and report it to Snowflake if it stays so."
)

const notAll = (partition: number, expected: number, found: number) =>
  SnowflakeErrors.rowsUnavailable(
    `Partition ${partition} of the result has ${found} rows, and Snowflake said that it has ${expected}. Submit the statement again.`
  )

/** How the values of each column are read. */
interface Reading {
  readonly columns: ReadonlyArray<SnowflakeValues.ColumnType>
  readonly decoders: ReadonlyArray<(text: string) => Row[number]>
}

/** A row of more bytes is not read at once. */
const largeBytes = 128 * 1024

const isLarge = ({ from, rows, to }: SnowflakeBody.Piece): boolean => rows === 1 && to - from > largeBytes

/** The row of a text whose pieces are made slice by slice. It is decoded in one go, as fast as JavaScript can. */
function* gather(pieces: SnowflakeRowText.Pieces): Generator<void, Row> {
  const parts: Array<Uint8Array> = []
  for (const piece of pieces) {
    parts.push(piece)
    yield
  }
  return JSON.parse(Buffer.concat(parts).toString("utf8")) as Row
}

const largeRow = (
  sink: RowSink,
  { columns }: Reading,
  { bytes }: SnowflakeBody.Body,
  { from, to }: SnowflakeBody.Piece
) => {
  const pieces = SnowflakeRowText.of(bytes, from, to, columns)
  return sink.text?.(pieces) ?? Effect.flatMap(Turns.run(gather(pieces)), (row) => sink.rows([row]))
}

/** Reads the values of rows, in place: there are millions, and none of what is made on the way is to be kept. */
const decode = (
  rows: ReadonlyArray<Array<Row[number]>>,
  decoders: Reading["decoders"]
): ReadonlyArray<ReadonlyArray<Row[number]>> => {
  for (const row of rows) {
    for (let index = 0; index < row.length; index++) {
      const text = row[index]
      if (text !== null) row[index] = (decoders[index] ?? SnowflakeValues.text)(text as string)
    }
  }
  return rows
}

/** Hands over the rows of a piece. */
const piece = (sink: RowSink, reading: Reading, body: SnowflakeBody.Body, found: SnowflakeBody.Piece) =>
  Effect.suspend(() => {
    const { rows } = found
    if (isLarge(found)) return largeRow(sink, reading, body, found)
    let decoded: ReadonlyArray<Row>
    try {
      decoded = decode(SnowflakeBody.rowsOf(body, found), reading.decoders)
    } catch {
      return Effect.fail(unreadable)
    }
    return decoded.length === rows ? sink.rows(decoded) : Effect.fail(unreadable)
  })

/** Hands over the rows of a partition. */
const take = (
  sink: RowSink,
  reading: Reading,
  body: SnowflakeBody.Body,
  at: number
): Effect.Effect<void, QueryError> => {
  const next = body.pieces[at]
  return next === undefined
    ? // Of a large row a sink has the bytes themselves.
      Effect.sync(() => (body.pieces.some(isLarge) ? undefined : SnowflakeBody.release(body)))
    : Turns.next.pipe(
        Effect.andThen(piece(sink, reading, body, next)),
        Effect.andThen(Effect.suspend(() => take(sink, reading, body, at + 1)))
      )
}

/** What of a result is in memory at once, in bytes, where one partition alone does not have more. */
export interface Limit {
  readonly bytes: number
}

/** Hands over all rows. */
export const deliver = (
  { body, result }: Finished,
  sink: RowSink,
  fetch: Fetch,
  limit: Limit
): Effect.Effect<void, QueryError> => {
  const partitions = partitionsOf(result)
  const columns = result.resultSetMetaData.rowType
  const reading = { columns, decoders: columns.map(SnowflakeValues.decoderOf) }
  const sizeOf = (partition: number) => partitions[partition]?.uncompressedSize ?? limit.bytes
  const rowsOf = (partition: number) =>
    Effect.mapError(fetch(partition, Math.min(sizeOf(partition), limit.bytes)), ({ problem }) =>
      SnowflakeErrors.rowsUnavailable(problem)
    )
  const checked = (partition: number, found: SnowflakeBody.Body) => {
    const expected = partitions[partition]?.rowCount ?? 0
    return found.rows === expected ? Effect.void : Effect.fail(notAll(partition, expected, found.rows))
  }
  const isAheadOf = (partition: number) =>
    partition + 1 < partitions.length && sizeOf(partition) + sizeOf(partition + 1) <= limit.bytes
  const all = (partition: number, found: SnowflakeBody.Body): Effect.Effect<void, QueryError> =>
    Effect.flatMap(
      isAheadOf(partition) ? Effect.forkChild(rowsOf(partition + 1), { startImmediately: true }) : Effect.undefined,
      (ahead) =>
        Effect.andThen(checked(partition, found), take(sink, reading, found, 0)).pipe(
          Effect.onError(() => (ahead === undefined ? Effect.void : Fiber.interrupt(ahead))),
          Effect.as(ahead)
        )
    ).pipe(
      Effect.flatMap((ahead) => {
        if (partition + 1 >= partitions.length) return Effect.void
        return Effect.flatMap(
          ahead === undefined
            ? rowsOf(partition + 1)
            : Effect.onInterrupt(Fiber.join(ahead), () => Fiber.interrupt(ahead)),
          (next) => all(partition + 1, next)
        )
      })
    )
  return Effect.andThen(sink.columns(columnsOf(result)), all(0, body))
}
