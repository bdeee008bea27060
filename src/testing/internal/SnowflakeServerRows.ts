/**
 * Rows of PostgreSQL as Snowflake sends them: every value a text, numbers of days and seconds for times, in partitions of which all
 * but the first are compressed.
 */
import * as Effect from "effect/Effect"
import { promisify } from "node:util"
import { constants, gzip } from "node:zlib"
import type { Column, Row, RowSink } from "../../query/QueryDriver.ts"
import * as SnowflakeTimes from "../../snowflake/internal/SnowflakeTimes.ts"

/** A column as Snowflake describes it. */
export interface RowType {
  readonly name: string
  readonly database: string
  readonly schema: string
  readonly table: string
  readonly type: string
  readonly nullable: boolean
  readonly precision: number | null
  readonly scale: number | null
  readonly length: number | null
  readonly byteLength: number | null
  readonly collation: null
}

/** A part of a result. */
export interface Partition {
  readonly rowCount: number
  readonly uncompressedSize: number
  readonly compressedSize?: number
  /** The rows in JSON, without the brackets around them, for the first; `{"data":[…]}`, compressed, for the others. */
  readonly bytes: Buffer
}

/** Everything that a statement returned. */
export interface Rows {
  readonly rowType: ReadonlyArray<RowType>
  readonly partitions: ReadonlyArray<Partition>
  readonly count: number
}

type Value = Row[number]
type Encode = (value: Value) => string

const plain: Encode = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value))

const seconds = (nanos: string | undefined, text: string): string => {
  if (nanos === undefined) return text
  const digits = nanos.replace("-", "").padStart(10, "0")
  return `${nanos.startsWith("-") ? "-" : ""}${digits.slice(0, -9)}.${digits.slice(-9)}`
}

const timestampTz: Encode = (value) => {
  const [nanos, offset] = (SnowflakeTimes.timestampTzBinding(String(value)) ?? "").split(" ")
  return offset === undefined ? String(value) : `${seconds(nanos, "")} ${offset}`
}

const days: Encode = (value) => {
  const millis = SnowflakeTimes.dateBinding(String(value))
  return millis === undefined ? String(value) : String(Number(millis) / 86_400_000)
}

const real: Encode = (value) => {
  const text = String(value)
  return text === "Infinity" ? "inf" : text === "-Infinity" ? "-inf" : text
}

interface Kind {
  readonly type: string
  readonly precision?: number
  readonly encode: Encode
}

const kinds: Readonly<Record<string, Kind>> = {
  bool: { type: "BOOLEAN", encode: plain },
  int2: { type: "FIXED", precision: 5, encode: plain },
  int4: { type: "FIXED", precision: 10, encode: plain },
  oid: { type: "FIXED", precision: 10, encode: plain },
  int8: { type: "FIXED", precision: 19, encode: plain },
  numeric: { type: "FIXED", precision: 38, encode: plain },
  float4: { type: "REAL", encode: real },
  float8: { type: "REAL", encode: real },
  date: { type: "DATE", encode: days },
  time: { type: "TIME", encode: (value) => seconds(SnowflakeTimes.timeBinding(String(value)), String(value)) },
  timestamp: {
    type: "TIMESTAMP_NTZ",
    encode: (value) => seconds(SnowflakeTimes.timestampNtzBinding(String(value)), String(value))
  },
  timestamptz: { type: "TIMESTAMP_TZ", encode: timestampTz },
  bytea: { type: "BINARY", encode: (value) => Buffer.from(String(value), "base64").toString("hex").toUpperCase() },
  json: { type: "VARIANT", encode: plain },
  jsonb: { type: "VARIANT", encode: plain }
}

const text: Kind = { type: "TEXT", encode: plain }
const array: Kind = { type: "ARRAY", encode: plain }

const kindOf = ({ type }: Column): Kind => kinds[type] ?? (type.endsWith("[]") ? array : text)

const compress = promisify(gzip)

/** Rows of one column, such as the one that tells how many were inserted. */
export const single = (name: string, type: "FIXED" | "TEXT", value: string): Rows => {
  const bytes = Buffer.from(JSON.stringify([value]))
  const precision = type === "FIXED" ? 19 : null
  return {
    rowType: [rowTypeOf({ name, type }, { type, ...(precision !== null && { precision }), encode: plain }, 0)],
    partitions: [{ rowCount: 1, uncompressedSize: bytes.length, bytes }],
    count: 1
  }
}

const rowTypeOf = ({ name }: Column, { precision, type }: Kind, scale: number): RowType => {
  const isTime = type.startsWith("TIME")
  const isText = type === "TEXT"
  return {
    name,
    database: "",
    schema: "",
    table: "",
    type: type.toLowerCase(),
    nullable: true,
    precision: precision ?? (isTime ? 0 : null),
    scale: type === "FIXED" ? scale : isTime ? 9 : null,
    length: isText ? 16_777_216 : null,
    byteLength: isText ? 16_777_216 : null,
    collation: null
  }
}

/** Collects what a statement returns. */
export const collect = (partitionBytes: number): { readonly sink: RowSink; readonly rows: Effect.Effect<Rows> } => {
  let columns: ReadonlyArray<Column> = []
  let described: ReadonlyArray<Kind> = []
  let scales: Array<number> = []
  const partitions: Array<Partition> = []
  let pending: Array<string> = []
  const ready: Array<Array<string>> = []
  let size = 0
  let count = 0

  const scaled = (value: Value, column: number): void => {
    const digits = typeof value === "string" ? value.length - 1 - value.indexOf(".") : 0
    if (typeof value === "string" && value.includes(".") && digits > (scales[column] ?? 0)) scales[column] = digits
  }
  const encode = (row: Row): string =>
    JSON.stringify(
      row.map((value, column) => {
        const kind = described[column] ?? text
        if (value === null) return null
        if (kind.precision === 38) scaled(value, column)
        return kind.encode(value)
      })
    )
  const cut = () => {
    ready.push(pending)
    pending = []
    size = 0
  }
  const compressed = Effect.promise(async () => {
    for (const rows of ready.splice(0)) {
      const rowCount = rows.length
      const text = rows.join(",")
      if (partitions.length === 0) {
        const bytes = Buffer.from(text)
        partitions.push({ rowCount, uncompressedSize: bytes.length, bytes })
      } else {
        const whole = Buffer.from(`{"data":[${text}]}`)
        const bytes = await compress(whole, { level: constants.Z_BEST_SPEED })
        partitions.push({ rowCount, uncompressedSize: whole.length, compressedSize: bytes.length, bytes })
      }
    }
  })
  return {
    sink: {
      columns: (found) =>
        Effect.sync(() => {
          if (columns.length > 0) return
          columns = found
          described = found.map(kindOf)
          scales = found.map(() => 0)
        }),
      rows: (rows) =>
        Effect.suspend(() => {
          for (const row of rows) {
            const line = encode(row)
            pending.push(line)
            size += line.length + 1
            count++
            if (size >= partitionBytes) cut()
          }
          return ready.length > 0 ? compressed : Effect.void
        })
    },
    rows: Effect.map(
      Effect.suspend(() => {
        if (pending.length > 0 || partitions.length === 0) cut()
        return compressed
      }),
      () => ({
        rowType: columns.map((column, index) => rowTypeOf(column, described[index] ?? text, scales[index] ?? 0)),
        partitions,
        count
      })
    )
  }
}
