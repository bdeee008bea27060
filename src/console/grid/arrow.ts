/**
 * Rows as a stream of Arrow: the columns, then a batch of rows for each page, then the end
 * (Arrow Columnar Format, "IPC Streaming Format"; `Schema.fbs` and `Message.fbs` of version 5).
 *
 * Types of PostgreSQL that Arrow has exactly are Arrow's: integers, floats, booleans, bytes, dates and times in microseconds. Every
 * other value is the text that the grid shows, with every digit.
 */
import { bytesOf, int16, int32, int64, int8, list, type Node, pairs, table, text } from "./flatBuffer.ts"
import { type Column, type Row, textOf, type Value } from "./values.ts"

/** A value that its column's type of Arrow has no place for. */
export class NoPlace extends Error {
  constructor(column: Column, value: Value) {
    super(
      `Arrow has no value for "${textOf(value)}" in the column "${column.name}" of type ${column.type}. ` +
        "Select the column as text, or save as CSV or JSON."
    )
    this.name = "NoPlace"
  }
}

type Numbers = Int16Array | Int32Array | Uint32Array | BigInt64Array | Float32Array | Float64Array

/** Values of one width: undefined is no value of the type. */
interface Fixed<A extends Numbers = Numbers> {
  readonly kind: "fixed"
  readonly make: (length: number) => A
  readonly read: (value: Value) => A[number] | undefined
}
/** A type of Arrow: its number and its table in the schema, and how its values lie in memory. */
interface Kind {
  readonly id: number
  readonly type: Node
  readonly layout: Fixed | { readonly kind: "bits" } | { readonly kind: "bytes"; readonly read: typeof utf8 }
}

const fixed = <A extends Numbers>(make: Fixed<A>["make"], read: (value: Value) => A[number] | undefined): Fixed => ({
  kind: "fixed",
  make,
  read
})
const within = (least: number, most: number) => (value: Value) =>
  typeof value === "number" && Number.isInteger(value) && value >= least && value <= most ? value : undefined
const long = (value: Value): bigint | undefined => {
  const digits = textOf(value)
  if (!/^-?\d{1,19}$/.test(digits)) return undefined
  const all = BigInt(digits)
  return BigInt.asIntN(64, all) === all ? all : undefined
}
const float = (value: Value): number | undefined => {
  const digits = textOf(value)
  const number = Number(digits)
  return digits !== "" && (digits === "NaN" || !Number.isNaN(number)) ? number : undefined
}

const day = 86_400_000
/** Milliseconds of midnight, or undefined where the calendar has no such day. */
const midnight = (date: string): number | undefined => {
  const at = Date.parse(`${date}T00:00:00Z`)
  return Number.isFinite(at) && new Date(at).toISOString().startsWith(date) ? at : undefined
}
const date = (value: Value): number | undefined => {
  const at = typeof value === "string" && /^\d{4}-\d\d-\d\d$/.test(value) ? midnight(value) : undefined
  return at === undefined ? undefined : at / day
}
const moment = /^(\d{4}-\d\d-\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:Z|([+-])(\d\d):(\d\d))?$/
const micros = (value: Value): bigint | undefined => {
  const match = typeof value === "string" ? moment.exec(value) : null
  if (match === null) return undefined
  const [, on = "", hours, minutes, seconds, fraction = "", sign, offHours = 0, offMinutes = 0] = match
  const at = midnight(on)
  if (at === undefined) return undefined
  const off = (Number(offHours) * 60 + Number(offMinutes)) * (sign === "-" ? -1 : 1)
  const whole = at / 1000 + Number(hours) * 3600 + (Number(minutes) - off) * 60 + Number(seconds)
  return BigInt(whole) * 1_000_000n + BigInt(fraction.padEnd(6, "0"))
}

const encoder = new TextEncoder()
const utf8 = (value: Value): Uint8Array | undefined => encoder.encode(textOf(value))
const base64 = (value: Value): Uint8Array | undefined =>
  typeof value === "string" ? Uint8Array.from(atob(value), (character) => character.charCodeAt(0)) : undefined

const integer = (bits: number, isSigned: 0 | 1, layout: Fixed): Kind => ({
  id: 2,
  type: table(int32(bits), int8(isSigned)),
  layout
})
const timestamp = (...zone: ReadonlyArray<Node>): Kind => ({
  id: 10,
  type: table(int16(2), ...zone),
  layout: fixed((length) => new BigInt64Array(length), micros)
})
const asText: Kind = { id: 5, type: table(), layout: { kind: "bytes", read: utf8 } }
const kinds: Readonly<Record<string, Kind>> = {
  bool: { id: 6, type: table(), layout: { kind: "bits" } },
  int2: integer(
    16,
    1,
    fixed((length) => new Int16Array(length), within(-0x8000, 0x7fff))
  ),
  int4: integer(
    32,
    1,
    fixed((length) => new Int32Array(length), within(-0x8000_0000, 0x7fff_ffff))
  ),
  oid: integer(
    32,
    0,
    fixed((length) => new Uint32Array(length), within(0, 0xffff_ffff))
  ),
  int8: integer(
    64,
    1,
    fixed((length) => new BigInt64Array(length), long)
  ),
  float4: { id: 3, type: table(int16(1)), layout: fixed((length) => new Float32Array(length), float) },
  float8: { id: 3, type: table(int16(2)), layout: fixed((length) => new Float64Array(length), float) },
  bytea: { id: 4, type: table(), layout: { kind: "bytes", read: base64 } },
  date: { id: 8, type: table(int16(0)), layout: fixed((length) => new Int32Array(length), date) },
  timestamp: timestamp(),
  timestamptz: timestamp(text("UTC"))
}
const kindOf = ({ type }: Column): Kind => (Object.hasOwn(kinds, type) ? kinds[type] : undefined) ?? asText

const padded = (length: number): number => Math.ceil(length / 8) * 8

/** A message: the mark that it is one, the length of its head, its head, and its body in pieces of eight bytes. */
const message = (kind: 1 | 3, header: Node, body: ReadonlyArray<Uint8Array> = []): Uint8Array<ArrayBuffer> => {
  const length = body.reduce((sum, piece) => sum + padded(piece.byteLength), 0)
  const head = bytesOf(table(int16(4), int8(kind), header, int64(length)))
  const bytes = new Uint8Array(8 + head.length + length)
  const view = new DataView(bytes.buffer)
  view.setUint32(0, 0xffff_ffff, true)
  view.setUint32(4, head.length, true)
  bytes.set(head, 8)
  let at = 8 + head.length
  for (const piece of body) {
    bytes.set(piece, at)
    at += padded(piece.byteLength)
  }
  return bytes
}

const bytesIn = ({ buffer, byteLength, byteOffset }: Numbers) => new Uint8Array(buffer, byteOffset, byteLength)

/** Which of the rows a bit is set for. */
const bits = (rows: ReadonlyArray<Row>, isSet: (row: Row) => boolean): Uint8Array => {
  const set = new Uint8Array(Math.ceil(rows.length / 8))
  for (const [index, row] of rows.entries()) {
    if (isSet(row)) set[index >> 3] = (set[index >> 3] ?? 0) | (1 << (index & 7))
  }
  return set
}

/** A column of a batch: how many nulls it has, and its buffers, of which the first says which rows have a value. */
const columnOf = (column: Column, place: number, rows: ReadonlyArray<Row>) => {
  const { layout } = kindOf(column)
  const fits = <A>(value: Value, read: A | undefined): A => {
    if (read === undefined) throw new NoPlace(column, value)
    return read
  }
  const isThere = (row: Row) => row[place] !== null && row[place] !== undefined
  const valid = bits(rows, isThere)
  const nulls = rows.reduce((sum, row) => sum + (isThere(row) ? 0 : 1), 0)
  if (layout.kind === "bits") {
    const isTrue = (value: Value) => fits(value, typeof value === "boolean" ? value : undefined)
    return { nulls, buffers: [valid, bits(rows, (row) => isThere(row) && isTrue(row[place]))] }
  }
  if (layout.kind === "fixed") {
    const values = layout.make(rows.length)
    for (const [index, row] of rows.entries()) {
      if (isThere(row)) values[index] = fits(row[place], layout.read(row[place]))
    }
    return { nulls, buffers: [valid, bytesIn(values)] }
  }
  const ends = new Int32Array(rows.length + 1)
  const pieces: Array<Uint8Array> = []
  let end = 0
  for (const [index, row] of rows.entries()) {
    if (isThere(row)) {
      const piece = fits(row[place], layout.read(row[place]))
      pieces.push(piece)
      end += piece.length
    }
    ends[index + 1] = end
  }
  const all = new Uint8Array(end)
  let at = 0
  for (const piece of pieces) {
    all.set(piece, at)
    at += piece.length
  }
  return { nulls, buffers: [valid, bytesIn(ends), all] }
}

/** What a stream begins with. */
export const schema = (columns: ReadonlyArray<Column>, names: ReadonlyArray<string>): Uint8Array<ArrayBuffer> => {
  const fields = columns.map((column, index) => {
    const { id, type } = kindOf(column)
    return table(text(names[index] ?? column.name), int8(1), int8(id), type, undefined, list([]))
  })
  return message(1, table(int16(0), list(fields)))
}

/** A page of rows. Fails with {@link NoPlace}. */
export const batch = (columns: ReadonlyArray<Column>, rows: ReadonlyArray<Row>): Uint8Array<ArrayBuffer> => {
  const made = columns.map((column, place) => columnOf(column, place, rows))
  const body = made.flatMap(({ buffers }) => buffers)
  let at = 0
  const places = body.map(({ byteLength }) => {
    const place = [at, byteLength] as const
    at += padded(byteLength)
    return place
  })
  const nodes = made.map(({ nulls }) => [rows.length, nulls] as const)
  return message(3, table(int64(rows.length), pairs(nodes), pairs(places)), body)
}

/** What a stream ends with. */
export const end = new Uint8Array([255, 255, 255, 255, 0, 0, 0, 0])
