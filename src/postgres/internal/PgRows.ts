/**
 * Hands the rows of a statement to their sink, as they come, in turns of the event loop that leave room for others.
 *
 * It lives as long as the statement. Rows are decoded a few at a time; one that is too large to be decoded at once goes as the
 * pieces of its text to a sink that takes them, and to any other decoded, in a turn of its own.
 */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import * as Turns from "../../lifetime/internal/Turns.ts"
import type { Row, RowSink } from "../../query/QueryDriver.ts"
import type { QueryError } from "../../query/QueryError.ts"
import * as PgRowText from "./PgRowText.ts"
import { type Arrived, LargeRow, type PgStatement } from "./PgStatement.ts"
import * as PgValues from "./PgValues.ts"

/** Characters of rows that are decoded in one slice. */
const maxDecoded = 32 * 1024

/** The row of a text whose pieces are made slice by slice. It is decoded in one go, as fast as JavaScript can. */
function* gather(pieces: PgRowText.Pieces): Generator<void, Row> {
  const parts: Array<Uint8Array> = []
  for (const piece of pieces) {
    parts.push(piece)
    yield
  }
  return JSON.parse(Buffer.concat(parts).toString("utf8")) as Row
}

/** How the values of each column are read. */
export type Decoders = ReadonlyArray<{
  readonly typeId: number
  readonly decode: ReturnType<typeof PgValues.decoderOf>
}>

export const decodersOf = (columns: PgStatement["columns"]): Decoders =>
  columns.map(({ typeId }) => ({ typeId, decode: PgValues.decoderOf(typeId) }))

/** Takes rows whose columns are known; `onTaken` is told how many the sink has taken. */
export const taking = (
  sink: RowSink,
  decoders: Decoders,
  onTaken: (rows: number) => void
): ((rows: ReadonlyArray<Arrived>) => Effect.Effect<void, QueryError>) => {
  const decode = (rows: ReadonlyArray<Arrived>, from: number): Array<Row> => {
    const decoded: Array<Row> = []
    let length = 0
    const value = (text: string | null, index: number) => {
      length += 8 + (text?.length ?? 0)
      return text === null ? null : (decoders[index]?.decode ?? PgValues.text)(text)
    }
    for (let at = from; at < rows.length; at++) {
      const row = rows[at]
      if (row === undefined || row instanceof LargeRow) break
      decoded.push(row.map(value))
      if (length >= maxDecoded) break
    }
    return decoded
  }
  const large = ({ values }: LargeRow) => {
    const pieces = PgRowText.of(
      values,
      decoders.map(({ typeId }) => typeId)
    )
    return sink.text?.(pieces) ?? Effect.flatMap(Turns.run(gather(pieces)), (row) => sink.rows([row]))
  }
  const take = (rows: ReadonlyArray<Arrived>, from: number): Effect.Effect<void, QueryError> =>
    Effect.andThen(
      Turns.next,
      Effect.suspend(() => {
        const first = rows[from]
        const decoded = first instanceof LargeRow ? [] : decode(rows, from)
        const to = from + Math.max(decoded.length, 1)
        return Effect.flatMap(first instanceof LargeRow ? large(first) : sink.rows(decoded), () => {
          onTaken(to - from)
          return to < rows.length ? take(rows, to) : Effect.void
        })
      })
    )
  return (rows) => take(rows, 0)
}
