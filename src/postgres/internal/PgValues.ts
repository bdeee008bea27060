/**
 * PostgreSQL's text form of a value as JSON, by the type of its column.
 *
 * | type | JSON |
 * |---|---|
 * | `bool`, `int2`, `int4`, `oid` | as they are |
 * | `json`, `jsonb` | as they are; numbers that JavaScript would not give back unchanged as strings, and what is nested deeper than 500 levels as text |
 * | `float4`, `float8` | number; `"NaN"`, `"Infinity"`, `"-Infinity"` as strings |
 * | `int8`, `numeric` | string, every digit kept |
 * | `timestamptz`, `timestamp` | ISO 8601 with microseconds, with offset or without; `"infinity"`, years BC and from 10000 on, and offsets with seconds as PostgreSQL writes them |
 * | `bytea` | base64 |
 * | arrays | arrays, nested as they are |
 * | everything else | the server's text |
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as PostgresArray from "postgres-array"

type Decode = (text: string) => Schema.Json

const { OID } = PgTypes

const float: Decode = (text) => {
  const value = Number(text)
  return Number.isFinite(value) ? value : text
}
/** As it is. */
export const text: Decode = (text) => text
const timestampPattern = /^(\d{4})-(\d\d)-(\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(?:([+-]\d\d)(:\d\d)?)?$/

const timestamp: Decode = (text) => {
  const match = timestampPattern.exec(text)
  if (match === null) return text
  const [, year, month, day, time, hours, minutes = ":00"] = match
  const offset = hours === undefined ? "" : hours === "+00" && minutes === ":00" ? "Z" : `${hours}${minutes}`
  return `${year}-${month}-${day}T${time}${offset}`
}

/** As `bytea_output` says: hexadecimal, or with `\\` and octal escapes. */
const bytea: Decode = (text) => {
  const bytes = text.startsWith("\\x")
    ? Buffer.from(text.slice(2), "hex")
    : Buffer.from(
        text.replace(/\\(\\|[0-3][0-7]{2})/g, (_, code: string) =>
          code === "\\" ? "\\" : String.fromCharCode(Number.parseInt(code, 8))
        ),
        "latin1"
      )
  return bytes.toString("base64")
}

/** The digits that count and the power of ten of the last one. */
const magnitudeOf = (number: string): string => {
  const [, whole = "", fraction = "", exponent = "0"] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(number) ?? []
  const digits = `${whole}${fraction}`.replace(/^0+/, "")
  const kept = digits.replace(/0+$/, "")
  return kept === "" ? "0" : `${kept}e${Number(exponent) - fraction.length + digits.length - kept.length}`
}

/** Whether JavaScript writes the number as it was; integers beyond 53 bits may do so by chance. */
const isExact = (value: number, source: string): boolean =>
  /^-?\d+$/.test(source)
    ? Number.isSafeInteger(value)
    : Number.isFinite(value) && magnitudeOf(String(value)) === magnitudeOf(source)

const keepDigits = (_: string, value: unknown, context?: { readonly source?: string }): unknown =>
  typeof value === "number" && context?.source !== undefined && !isExact(value, context.source) ? context.source : value

const deepest = 500
const isDeep = (text: string): boolean => {
  let depth = 0
  for (let at = 0; at < text.length; at++) {
    const sign = text[at]
    if (sign === "[" || sign === "{") {
      if (++depth > deepest) return true
    } else if (sign === "]" || sign === "}") depth--
    else if (sign === '"') {
      for (at++; text[at] !== '"' && at < text.length; at++) if (text[at] === "\\") at++
    }
  }
  return false
}

const json: Decode = (text) => (isDeep(text) ? text : (JSON.parse(text, keepDigits) as Schema.Json))

const scalars = new Map<number, Decode>([
  [OID.bool, (text) => text === "t"],
  [OID.int2, Number],
  [OID.int4, Number],
  [OID.oid, Number],
  [OID.float4, float],
  [OID.float8, float],
  [OID.json, json],
  [OID.jsonb, json],
  [OID.bytea, bytea],
  [OID.timestamp, timestamp],
  [OID.timestamptz, timestamp]
])

const names = new Map<number, string>()
const arrays = new Map<number, Decode>()
for (const [name, id] of Object.entries(OID)) {
  names.set(id, name.endsWith("Array") ? `${name.slice(0, -"Array".length)}[]` : name)
  const array = PgTypes.arrayOidFor(id)
  if (array === undefined) continue
  const element = scalars.get(id) ?? text
  arrays.set(array, (text) => PostgresArray.parse(text, element) as Schema.Json)
}

/** The name of a type as PostgreSQL's catalogue has it, or `oid 12345` for a type that is not built in. */
export const typeName = (typeId: number): string => names.get(typeId) ?? `oid ${typeId}`

/** How values of a type are read. */
export const decoderOf = (typeId: number): Decode => scalars.get(typeId) ?? arrays.get(typeId) ?? text

/**
 * A JSON value as a parameter: text that the server reads as whatever type the statement asks for; arrays as PostgreSQL
 * writes them, objects as JSON.
 */
export const encodeParameter = (value: Schema.Json): string | null => {
  if (value === null || typeof value === "string") return value
  if (Array.isArray(value)) return `{${value.map(encodeElement).join(",")}}`
  return typeof value === "object" ? JSON.stringify(value) : String(value)
}

const encodeElement = (value: Schema.Json): string => {
  const encoded = encodeParameter(value)
  if (encoded === null) return "NULL"
  return Array.isArray(value) ? encoded : `"${encoded.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`
}
