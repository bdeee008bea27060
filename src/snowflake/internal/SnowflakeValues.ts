/**
 * Values of Snowflake's as JSON, in rows and in parameters.
 *
 * | type | JSON |
 * |---|---|
 * | `BOOLEAN` | boolean |
 * | `NUMBER` with up to 9 digits and none behind the point | number |
 * | any other `NUMBER`, `DECFLOAT` | string, every digit kept |
 * | `FLOAT` | number; `"NaN"`, `"Infinity"`, `"-Infinity"`, `"-0"` as strings |
 * | `DATE`, `TIME` | `2026-01-02`, `03:04:05.123456789` |
 * | `TIMESTAMP_NTZ`, `TIMESTAMP_LTZ`, `TIMESTAMP_TZ` | ISO 8601 with up to nine decimals, without offset, in UTC, with its offset |
 * | `BINARY` | base64 |
 * | `VARIANT`, `OBJECT`, `ARRAY`, `MAP` | objects, arrays, numbers and booleans as they are; strings, null, and what JavaScript does not keep as a string that is their JSON text |
 * | everything else | the server's text |
 *
 * The server is not asked as what it reads a parameter: a string is `TEXT`, a number `FIXED` or `REAL`, and a parameter that is
 * `{"type": "TIMESTAMP_TZ", "value": …}` is a value of that type in the form that a row shows.
 */
import type * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import * as ExactJson from "../../query/internal/ExactJson.ts"
import * as SnowflakeTimes from "./SnowflakeTimes.ts"

/** A column as the server describes it. */
export interface ColumnType {
  readonly type: string
  readonly precision?: number | null | undefined
  readonly scale?: number | null | undefined
}

type Decode = (text: string) => Schema.Json

export const text: Decode = (text) => text

const infinities: Readonly<Record<string, string>> = { inf: "Infinity", "-inf": "-Infinity", nan: "NaN" }

const float: Decode = (text) => {
  const value = Number(text)
  if (text.trim() !== "" && Number.isFinite(value)) return Object.is(value, -0) ? "-0" : value
  return infinities[text.toLowerCase()] ?? text
}

const boolean: Decode = (text) => {
  const lower = text.toLowerCase()
  if (lower === "true" || lower === "1") return true
  return lower === "false" || lower === "0" ? false : text
}

/** With `BINARY_OUTPUT_FORMAT` set to `HEX`, which is sent with every statement. */
const binary: Decode = (text) => (/^(?:[0-9a-f]{2})*$/i.test(text) ? Buffer.from(text, "hex").toString("base64") : text)

/** A string is always JSON text. What is no JSON, such as the `undefined` of a list, is the server's text. */
const variant: Decode = (text) => {
  let value: Schema.Json
  try {
    value = JSON.parse(text) as Schema.Json
  } catch {
    return text
  }
  return value === null || typeof value === "string" || ExactJson.lossOf(text) !== undefined ? text : value
}

const decoders = new Map<string, Decode>([
  ["BOOLEAN", boolean],
  ["REAL", float],
  ["FLOAT", float],
  ["DOUBLE", float],
  ["DATE", SnowflakeTimes.date],
  ["TIME", SnowflakeTimes.time],
  ["TIMESTAMP_NTZ", SnowflakeTimes.timestampNtz],
  ["TIMESTAMP_LTZ", SnowflakeTimes.timestampLtz],
  ["TIMESTAMP_TZ", SnowflakeTimes.timestampTz],
  ["BINARY", binary],
  ["VARIANT", variant],
  ["OBJECT", variant],
  ["ARRAY", variant],
  ["MAP", variant]
])

/** Numbers of nine digits are within 32 bits. */
const small = 9

/** How the values of a column are read. */
export const decoderOf = ({ precision, scale, type }: ColumnType): Decode => {
  const name = type.toUpperCase()
  if (name !== "FIXED") return decoders.get(name) ?? text
  return (precision ?? 38) <= small && (scale ?? 0) === 0
    ? (text) => (/^-?\d+$/.test(text) ? Number(text) : text)
    : text
}

const sqlNames: Readonly<Record<string, string>> = { TEXT: "VARCHAR", REAL: "FLOAT" }

/** The name of a type as SQL has it. */
export const typeName = ({ precision, scale, type }: ColumnType): string => {
  const name = type.toUpperCase()
  return name === "FIXED" ? `NUMBER(${precision ?? 38},${scale ?? 0})` : (sqlNames[name] ?? name)
}

/** What the server takes for a placeholder. */
export interface Binding {
  readonly type: string
  readonly value: string | null
}

/** A parameter that is not sent: the server would read another value, or none. */
export class Refused extends Error {
  override readonly name = "Refused"
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

const hex = (text: string): string | undefined => {
  const bytes = Buffer.from(text, "base64")
  return base64.test(text) && bytes.toString("base64") === text ? bytes.toString("hex") : undefined
}

type Encode = (text: string) => string | undefined

/** As the server calls the types of bindings, each with how a text in the form of a row is written for it. */
const encoders = new Map<string, Encode>([
  ["TEXT", (text) => text],
  ["FIXED", (text) => (/^-?\d+(?:\.\d+)?$/.test(text) ? text : undefined)],
  [
    "REAL",
    (text) => (text.trim() !== "" && (Number.isFinite(Number(text)) || isNoNumber.has(text)) ? text : undefined)
  ],
  ["BOOLEAN", (text) => (text === "true" || text === "false" ? text : undefined)],
  ["DATE", SnowflakeTimes.dateBinding],
  ["TIME", SnowflakeTimes.timeBinding],
  ["TIMESTAMP_NTZ", SnowflakeTimes.timestampNtzBinding],
  ["TIMESTAMP_LTZ", SnowflakeTimes.timestampLtzBinding],
  ["TIMESTAMP_TZ", SnowflakeTimes.timestampTzBinding],
  ["BINARY", hex]
])

const isNoNumber: ReadonlySet<string> = new Set(["NaN", "Infinity", "-Infinity"])

/** Other names of the same types, as columns have them. */
const aliases: Readonly<Record<string, string>> = {
  NUMBER: "FIXED",
  INTEGER: "FIXED",
  FLOAT: "REAL",
  DOUBLE: "REAL",
  VARCHAR: "TEXT",
  STRING: "TEXT"
}

const kindOf = (name: string): string => {
  const plain = name
    .replace(/\(.*\)$/, "")
    .trim()
    .toUpperCase()
  return aliases[plain] ?? plain
}

const numberText = (value: number): string => (Object.is(value, -0) ? "-0" : String(value))

const typed = (type: string, value: Schema.Json | undefined): Binding => {
  const kind = kindOf(type)
  const encode = encoders.get(kind)
  if (encode === undefined) {
    throw new Refused(
      `has the type ${JSON.stringify(type)}, and it must be one of ${Array.from(encoders.keys()).join(", ")}`
    )
  }
  if (value === null || value === undefined) return { type: kind, value: null }
  if (typeof value === "object")
    throw new Refused(`has a value that is ${Array.isArray(value) ? "a list" : "an object"}`)
  const encoded = encode(typeof value === "number" ? numberText(value) : String(value))
  if (encoded === undefined) throw new Refused(`is no ${kind}. Pass it as rows show it`)
  return { type: kind, value: encoded }
}

const isTyped = (value: object): value is { readonly type: string; readonly value?: Schema.Json } =>
  !Array.isArray(value) &&
  "type" in value &&
  typeof value.type === "string" &&
  Object.keys(value).every((name) => name === "type" || name === "value")

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

/** Half of a surrogate pair has no UTF-8. */
export const unsendable = (text: string): string | undefined =>
  text.isWellFormed() ? undefined : "half of a surrogate pair, which UTF-8 cannot tell"

const bindingOf = (value: Schema.Json): Binding => {
  if (value === null) return { type: "TEXT", value: null }
  switch (typeof value) {
    case "string":
      return { type: "TEXT", value }
    case "boolean":
      return { type: "BOOLEAN", value: String(value) }
    case "number":
      return { type: Number.isSafeInteger(value) && !Object.is(value, -0) ? "FIXED" : "REAL", value: numberText(value) }
    default:
      return isTyped(value) ? typed(value.type, value.value) : { type: "TEXT", value: jsonText(value) }
  }
}

/** The binding of a parameter. Throws {@link Refused} where there is none. */
export const encode = (value: Schema.Json): Binding => {
  const binding = bindingOf(value)
  const problem = binding.value === null ? undefined : unsendable(binding.value)
  if (problem !== undefined) throw new Refused(`holds ${problem}. Remove it`)
  return binding
}
