/**
 * Values of MySQL as JSON, by the rules of `Row` in `QueryDriver`.
 *
 * Sessions are in UTC, so a `TIMESTAMP` is told as UTC without an offset: the server reads the same text as the same moment.
 */
import { Buffer } from "node:buffer"
import type { FieldPacket } from "mysql2"
import type * as Schema from "effect/Schema"

/** A column as the driver tells it. */
export type Field = Pick<FieldPacket, "name" | "flags"> & {
  readonly columnType?: number
  readonly characterSet?: number
  readonly columnLength?: number
  readonly extendedTypeName?: string
  readonly extendedFormat?: string
}

/** "Field types" and "column definition flags" of the protocol (MySQL Internals, `Protocol::ColumnDefinition`). */
const binary = 63
const unsigned = 32

const names: Readonly<Record<number, string>> = {
  0x00: "decimal",
  0x01: "tinyint",
  0x02: "smallint",
  0x03: "int",
  0x04: "float",
  0x05: "double",
  0x06: "null",
  0x07: "timestamp",
  0x08: "bigint",
  0x09: "mediumint",
  0x0a: "date",
  0x0b: "time",
  0x0c: "datetime",
  0x0d: "year",
  0x0e: "date",
  0x0f: "varchar",
  0x10: "bit",
  0xf2: "vector",
  0xf5: "json",
  0xf6: "decimal",
  0xf7: "enum",
  0xf8: "set",
  0xff: "geometry"
}
const texts: Readonly<Record<number, readonly [text: string, bytes: string]>> = {
  0xf9: ["tinytext", "tinyblob"],
  0xfa: ["mediumtext", "mediumblob"],
  0xfb: ["longtext", "longblob"],
  0xfc: ["text", "blob"],
  0xfd: ["varchar", "varbinary"],
  0xfe: ["char", "binary"]
}

/** The server's name of a column's type. */
export const typeName = ({
  characterSet,
  columnType = 0xfd,
  extendedFormat,
  extendedTypeName,
  flags
}: Field): string => {
  if (extendedFormat === "json") return "json"
  if (extendedTypeName !== undefined) return extendedTypeName
  const [text, bytes] = texts[columnType] ?? []
  if (text !== undefined && bytes !== undefined) return characterSet === binary ? bytes : text
  const name = names[columnType] ?? "unknown"
  const isUnsigned = (Number(flags) & unsigned) !== 0
  return isUnsigned && name.endsWith("int") ? `${name} unsigned` : name
}

type Decode = (value: unknown) => Schema.Json

const number: Decode = (value) => {
  const it = Number(value)
  return Object.is(it, -0) ? "-0" : it
}

/** The shortest decimal that is the same single-precision number. */
const single: Decode = (value) => {
  const it = Math.fround(Number(value))
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(it.toPrecision(digits))
    if (Math.fround(short) === it) return number(short)
  }
  return number(it.toPrecision(9))
}

/** ISO 8601 in place of the blank. */
const moment: Decode = (value) => String(value).replace(" ", "T")
const text: Decode = (value) => String(value)
const any: Decode = (value) => {
  if (typeof value === "string" || typeof value === "boolean") return value
  if (typeof value === "number") return number(value)
  if (typeof value === "bigint") return String(value)
  if (Buffer.isBuffer(value)) return value.toString("base64")
  return JSON.stringify(value) ?? null
}

const decoders: Readonly<Record<number, Decode>> = {
  0x01: number,
  0x02: number,
  0x03: number,
  0x04: single,
  0x05: number,
  0x07: moment,
  0x08: text,
  0x09: number,
  0x0c: moment,
  0x0d: number
}

/** How the values of a column are told. JSON is its text; `int unsigned` may be beyond 32 bits and is a string in every row. */
export const decoderOf = (field: Field): Decode => {
  const { columnType = 0xfd, extendedFormat, flags } = field
  const decode =
    extendedFormat === "json" || columnType === 0xf5
      ? text
      : columnType === 0x03 && (Number(flags) & unsigned) !== 0
        ? text
        : (decoders[columnType] ?? any)
  return (value) => (value === null || value === undefined ? null : decode(value))
}
