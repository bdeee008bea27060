/**
 * Hands the rows of a statement that succeeded to their sink, partition by partition, as fast as the sink takes them.
 *
 * A partition is fetched whole and lies in memory until its rows are taken, so that a slow reader holds up no connection. While one is
 * taken the next one is fetched, where both together stay below the limit.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Turns from "../../lifetime/internal/Turns.ts"
import type { Row, RowSink } from "../../query/QueryDriver.ts"
import type { QueryError } from "../../query/QueryError.ts"
import type { Finished, ResultSet } from "./SnowflakeAnswers.ts"
import type { CallFailed } from "./SnowflakeApi.ts"
import * as SnowflakeBody from "./SnowflakeBody.ts"
import * as SnowflakeErrors from "./SnowflakeErrors.ts"
import * as SnowflakeValues from "./SnowflakeValues.ts"

/** How a partition is had. */
export type Fetch = (partition: number) => Effect.Effect<SnowflakeBody.Body, CallFailed>

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
type Decoders = ReadonlyArray<(text: string) => Row[number]>

/** Hands over the rows of a piece. Made anew for each: V8 would move the rows of what lives long to the old generation at once. */
const piece = (sink: RowSink, decoders: Decoders, body: SnowflakeBody.Body, { from, rows, to }: SnowflakeBody.Piece) =>
  Effect.suspend(() => {
    const decode = (row: ReadonlyArray<string | null>): Row =>
      row.map((text, index) => (text === null ? null : (decoders[index] ?? SnowflakeValues.text)(text)))
    let decoded: ReadonlyArray<Row>
    try {
      decoded = SnowflakeBody.rowsOf(body, { from, rows, to }).map(decode)
    } catch {
      return Effect.fail(unreadable)
    }
    return decoded.length === rows ? sink.rows(decoded) : Effect.fail(unreadable)
  })

/** Hands over the rows of a partition. */
const take = (
  sink: RowSink,
  decoders: Decoders,
  body: SnowflakeBody.Body,
  at: number
): Effect.Effect<void, QueryError> => {
  const next = body.pieces[at]
  return next === undefined
    ? Effect.void
    : Turns.next.pipe(
        Effect.andThen(piece(sink, decoders, body, next)),
        Effect.andThen(Effect.suspend(() => take(sink, decoders, body, at + 1)))
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
  const decoders = result.resultSetMetaData.rowType.map(SnowflakeValues.decoderOf)
  const sizeOf = (partition: number) => partitions[partition]?.uncompressedSize ?? limit.bytes
  const rowsOf = (partition: number) =>
    Effect.mapError(fetch(partition), ({ problem }) => SnowflakeErrors.rowsUnavailable(problem))
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
        Effect.andThen(checked(partition, found), take(sink, decoders, found, 0)).pipe(
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
