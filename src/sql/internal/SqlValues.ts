/**
 * Values of JavaScript as JSON, by the rules of `Row` in `QueryDriver`, and JSON as parameters.
 */
import { Buffer } from "node:buffer"
import type * as Schema from "effect/Schema"

/** Why a parameter cannot be sent. */
export class Refused {
  readonly problem: string
  constructor(problem: string) {
    this.problem = problem
  }
}

/** Integers beyond 32 bits are strings. */
const isShort = (value: bigint) => value >= -2_147_483_648n && value <= 2_147_483_647n

/** A number as JSON has it; what JSON has not is a string. */
export const numberToJson = (value: number): Schema.Json =>
  Number.isFinite(value) && !Object.is(value, -0) ? value : Object.is(value, -0) ? "-0" : String(value)

export const bytesToJson = (value: Uint8Array): string =>
  Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64")

/** A value of a client's that says no more about its type. */
export const toJson = (value: unknown): Schema.Json => {
  if (value === null || value === undefined) return null
  switch (typeof value) {
    case "string":
    case "boolean":
      return value
    case "number":
      return numberToJson(value)
    case "bigint":
      return isShort(value) ? Number(value) : String(value)
    default:
      if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString()
      if (value instanceof Uint8Array) return bytesToJson(value)
      return JSON.stringify(value) ?? null
  }
}

const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/**
 * A parameter for a client that is not told its type. Bytes are an object with the one member `base64`; whole numbers are
 * sent as such.
 */
export const fromJson = (value: Schema.Json): unknown => {
  if (value === null || typeof value === "string" || typeof value === "boolean") return value
  if (typeof value === "number") return Number.isSafeInteger(value) && !Object.is(value, -0) ? BigInt(value) : value
  const [only, ...others] = Object.entries(value)
  if (Array.isArray(value) || only === undefined || only[0] !== "base64" || others.length > 0) {
    return new Refused(
      'is an array or an object, which the engine has none of. Pass a string of JSON, or {"base64": "…"}'
    )
  }
  return typeof only[1] === "string" && base64.test(only[1])
    ? Buffer.from(only[1], "base64")
    : new Refused("is no base64. Pass letters, digits, + and /, filled up with = to a multiple of four")
}
