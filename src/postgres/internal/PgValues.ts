/**
 * Values of PostgreSQL's as JSON, in rows and in parameters: what a row shows is the same value when it is sent back.
 *
 * | type | JSON |
 * |---|---|
 * | `bool` | boolean |
 * | `int2`, `int4`, `oid`, `float4`, `float8` | number; `"NaN"`, `"Infinity"`, `"-Infinity"`, `"-0"` as strings |
 * | `int8`, `numeric` | string, every digit kept |
 * | `json`, `jsonb` | objects, arrays, numbers and booleans as they are; strings, null, and what JavaScript does not keep as a string that is their JSON text |
 * | `timestamptz`, `timestamp` | ISO 8601 with microseconds, with offset or without; `"infinity"`, years BC and from 10000 on, and offsets with seconds as PostgreSQL writes them |
 * | `bytea` | base64 |
 * | arrays of built-in types | arrays, nested as they are; those whose bounds do not begin at 1 are the server's text |
 * | everything else | the server's text |
 *
 * A parameter is read as the type that the statement asks for. A string is what a row would show, or the server's text.
 */
import type * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as ExactJson from "../../query/internal/ExactJson.ts"
import * as PgArrays from "./PgArrays.ts"
import { builtIn, type PgType } from "./PgBuiltInTypes.ts"

type Decode = (text: string) => Schema.Json

/** Object ids of types that are JSON of another kind than a string. */
export const id = {
  bool: 16,
  bytea: 17,
  int2: 21,
  int4: 23,
  oid: 26,
  json: 114,
  jsonb: 3802,
  float4: 700,
  float8: 701
} as const
const timestamps = [1114, 1184]

const float: Decode = (text) => {
  const value = Number(text)
  return Number.isFinite(value) && !Object.is(value, -0) ? value : text
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

/** A string is always JSON text, so that the string `"1"` and the number 1 stay apart, and JSON's null and SQL's. */
const json: Decode = (text) => {
  if (ExactJson.lossOf(text) !== undefined) return text
  const value = JSON.parse(text) as Schema.Json
  return value === null || typeof value === "string" ? text : value
}

const scalars = new Map<number, Decode>([
  [id.bool, (text) => text === "t"],
  [id.int2, Number],
  [id.int4, Number],
  [id.oid, Number],
  [id.float4, float],
  [id.float8, float],
  [id.json, json],
  [id.jsonb, json],
  [id.bytea, bytea],
  ...timestamps.map((id) => [id, timestamp] as const)
])

/** An array within an array is a dimension, so that an element that is one in JSON stays text. */
const elementOf =
  (decode: Decode): Decode =>
  (text) => {
    const value = decode(text)
    return Array.isArray(value) ? text : value
  }

/** How the elements of an array are read. */
export const elementDecoderOf = (element: number): Decode => elementOf(scalars.get(element) ?? text)

const arrayOf = (element: number): Decode => {
  const decode = elementDecoderOf(element)
  const delimiter = builtIn.get(element)?.delimiter ?? ","
  return (text) => PgArrays.parse(text, delimiter, decode) ?? text
}

const arrays = new Map(
  Array.from(builtIn).flatMap(([id, { element }]) => (element === undefined ? [] : [[id, arrayOf(element)] as const]))
)

/** How values of a type are read. */
export const decoderOf = (typeId: number): Decode => scalars.get(typeId) ?? arrays.get(typeId) ?? text

/** What is known of types. */
export type Types = (typeId: number) => PgType | undefined

/** The name of a type as PostgreSQL's catalogue has it, or `oid 12345` for one that is not known. */
export const typeName = (types: Types, typeId: number): string => types(typeId)?.name ?? `oid ${typeId}`

/** A parameter that is not sent: the server would read another value, or none. */
export class Refused extends Error {
  override readonly name = "Refused"
}

/** Deep values would exhaust the stack. */
const jsonText = (value: Schema.Json): string => {
  try {
    return ExactJson.stringify(value, (part) => {
      throw new Refused(`holds ${part}, which JSON cannot tell. Pass a string or null`)
    })
  } catch (error) {
    if (error instanceof RangeError) throw new Refused("is nested too deeply. Pass a string of JSON")
    throw error
  }
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

const bytesText = (value: Schema.Json): string => {
  if (typeof value === "string") {
    if (value.startsWith("\\x")) return value
    const bytes = Buffer.from(value, "base64")
    if (base64.test(value) && bytes.toString("base64") === value) return `\\x${bytes.toString("hex")}`
  }
  throw new Refused("is no bytea. Pass base64, or hexadecimal digits after \\x")
}

const kindOf = (value: object): string => (Array.isArray(value) ? "an array" : "an object")

const scalarText = (value: Schema.Json, typeId: number, types: Types): string => {
  if (typeId === id.json || typeId === id.jsonb) return typeof value === "string" ? value : jsonText(value)
  if (typeId === id.bytea) return bytesText(value)
  if (typeof value === "object" && value !== null) {
    throw new Refused(`is ${kindOf(value)}, and the statement takes it as ${typeName(types, typeId)}. Pass a string`)
  }
  return Object.is(value, -0) ? "-0" : String(value)
}

const hasEmptyPart = (values: ReadonlyArray<Schema.Json>): boolean =>
  values.some((value) => Array.isArray(value) && (value.length === 0 || hasEmptyPart(value)))

const textOf = (value: Schema.Json, typeId: number, types: Types): string => {
  const type = types(typeId)
  if (type?.base !== undefined) return textOf(value, type.base, types)
  if (type?.element === undefined || !Array.isArray(value)) return scalarText(value, typeId, types)
  if (hasEmptyPart(value)) throw new Refused("has an empty array within an array, which PostgreSQL cannot tell")
  const { element } = type
  return PgArrays.stringify(value, types(element)?.delimiter ?? ",", (part) => textOf(part, element, types))
}

/** The text of a parameter for the type that the statement asks for. Throws {@link Refused} where there is none. */
export const encode = (value: Schema.Json, typeId: number, types: Types): string | null => {
  if (value === null) return null
  const text = textOf(value, typeId, types)
  const problem = unsendable(text)
  if (problem !== undefined) throw new Refused(`holds ${problem}. Remove it`)
  return text
}

/** What a text holds that would arrive as something else, or not at all. */
export const unsendable = (text: string): string | undefined =>
  text.includes("\0")
    ? "a zero character, which PostgreSQL does not take"
    : text.isWellFormed()
      ? undefined
      : "half of a surrogate pair, which UTF-8 cannot tell"
