/**
 * Dates and times as Snowflake counts them, and as ISO 8601 writes them, with every digit.
 *
 * In rows a `DATE` is days since 1970, a `TIME` seconds since midnight and a timestamp seconds since 1970, with up to nine
 * decimals; a `TIMESTAMP_TZ` has a space and its offset in minutes plus 1440 behind it. In bindings a date is milliseconds, a time
 * or timestamp nanoseconds.
 */
import { withoutTrailingZeros } from "../../query/internal/ExactJson.ts"

const dayMillis = 86_400_000
const nanosOfSecond = 1_000_000_000n

const two = (number: number): string => String(number).padStart(2, "0")

/** Years beyond 9999 are written with all their digits. */
const yearText = (year: number): string =>
  year < 0 ? `-${String(-year).padStart(4, "0")}` : String(year).padStart(4, "0")

/** Beyond this JavaScript has no date. */
const lastMillis = 8.64e15

/** Seconds since the epoch, rounded down, and the nanoseconds behind them. */
interface Split {
  readonly whole: number
  readonly nanos: number
}

/** More digits are beyond any date, and beyond what a number keeps. */
const split = (seconds: string): Split | undefined => {
  if (!/^-?\d{1,15}(?:\.\d{1,9})?$/.test(seconds)) return undefined
  const point = seconds.indexOf(".")
  const decimals = point < 0 ? 0 : seconds.length - point - 1
  const size = Math.abs(Number(point < 0 ? seconds : seconds.slice(0, point)))
  const rest = decimals === 0 ? 0 : Number(seconds.slice(point + 1)) * 10 ** (9 - decimals)
  if (!seconds.startsWith("-")) return { whole: size, nanos: rest }
  return rest === 0 ? { whole: 0 - size, nanos: 0 } : { whole: -size - 1, nanos: 1e9 - rest }
}

const fractionText = (nanos: number): string =>
  nanos === 0 ? "" : `.${withoutTrailingZeros(String(nanos).padStart(9, "0"))}`

/** Set to each moment in turn: there are many, and only their texts are kept. */
const instant = new Date(0)

/** The date and the time of day. What JavaScript writes is not put together piece by piece, where it writes the same. */
const dateAndClock = (millis: number): string => {
  instant.setTime(millis)
  const year = instant.getUTCFullYear()
  const text = instant.toISOString()
  return year >= 0 && year <= 9999 ? text.slice(0, 19) : yearText(year) + text.slice(7, 22)
}

const dateText = (millis: number): string => dateAndClock(millis).slice(0, -9)

const clockText = (millis: number): string => dateAndClock(millis).slice(-8)

/** What is no number of days is given back as it is. */
export const date = (days: string): string => {
  const millis = /^-?\d+$/.test(days) ? Number(days) * dayMillis : Number.NaN
  return Math.abs(millis) <= lastMillis ? dateText(millis) : days
}

export const time = (seconds: string): string => {
  const parts = split(seconds)
  if (parts === undefined || parts.whole < 0 || parts.whole >= 86_400) return seconds
  return clockText(parts.whole * 1000) + fractionText(parts.nanos)
}

/** Without an offset, with that of UTC, or with the given one in minutes. */
const timestampAt = (text: string, seconds: string, offset: "none" | number): string => {
  const parts = split(seconds)
  const millis = parts === undefined ? Number.NaN : (parts.whole + (offset === "none" ? 0 : offset * 60)) * 1000
  if (parts === undefined || !(Math.abs(millis) <= lastMillis)) return text
  return `${dateAndClock(millis)}${fractionText(parts.nanos)}${offset === "none" ? "" : offsetText(offset)}`
}

const offsetText = (minutes: number): string => {
  if (minutes === 0) return "Z"
  const size = Math.abs(minutes)
  return `${minutes < 0 ? "-" : "+"}${two(Math.trunc(size / 60))}:${two(size % 60)}`
}

export const timestampNtz = (seconds: string): string => timestampAt(seconds, seconds, "none")

export const timestampLtz = (seconds: string): string => timestampAt(seconds, seconds, 0)

export const timestampTz = (text: string): string => {
  const [, seconds = "", offset = ""] = /^(\S+) (\d{1,4})$/.exec(text) ?? []
  return offset === "" ? timestampLtz(text) : timestampAt(text, seconds, Number(offset) - 1440)
}

const pattern = /^(-?\d{4,})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d\d):?(\d\d)?)?)?$/
const clock = /^(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?$/

interface Moment {
  /** As the clock on the wall shows it, in nanoseconds of the epoch. */
  readonly wallNanos: bigint
  /** Minutes ahead of UTC, where the text says so. */
  readonly offset: number | undefined
  readonly hasTime: boolean
}

const momentOf = (text: string): Moment | undefined => {
  const match = pattern.exec(text)
  if (match === null) return undefined
  const [, year, month, day, hours, minutes = "0", seconds = "0", decimals = "", zulu, sign, ahead = "0", more = "0"] =
    match
  const at = new Date(0)
  at.setUTCFullYear(Number(year), Number(month) - 1, Number(day))
  // The 30th of February is none, and neither is 25 o'clock.
  if (at.getUTCMonth() !== Number(month) - 1 || at.getUTCDate() !== Number(day)) return undefined
  if (Number(hours ?? 0) > 23 || Number(minutes) > 59 || Number(seconds) > 59 || Number(more) > 59) return undefined
  const wholeSeconds = at.getTime() / 1000 + Number(hours ?? 0) * 3600 + Number(minutes) * 60 + Number(seconds)
  const size = Number(ahead) * 60 + Number(more)
  return {
    wallNanos: BigInt(wholeSeconds) * nanosOfSecond + BigInt(decimals.padEnd(9, "0")),
    offset: zulu !== undefined ? 0 : sign === undefined ? undefined : sign === "-" ? -size : size,
    hasTime: hours !== undefined
  }
}

/** The binding of a `DATE`, or nothing where the text is none. */
export const dateBinding = (text: string): string | undefined => {
  const moment = momentOf(text)
  return moment === undefined || moment.hasTime ? undefined : String(moment.wallNanos / 1_000_000n)
}

export const timeBinding = (text: string): string | undefined => {
  const match = clock.exec(text)
  if (match === null) return undefined
  const [, hours, minutes, seconds, decimals = ""] = match
  if (Number(hours) > 23 || Number(minutes) > 59 || Number(seconds) > 59) return undefined
  const whole = Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)
  return String(BigInt(whole) * nanosOfSecond + BigInt(decimals.padEnd(9, "0")))
}

/** With an offset the text is a moment, and a timestamp without one is none. */
export const timestampNtzBinding = (text: string): string | undefined => {
  const moment = momentOf(text)
  return moment === undefined || moment.offset !== undefined ? undefined : String(moment.wallNanos)
}

const utcNanos = ({ offset, wallNanos }: Moment, minutes = offset ?? 0): bigint =>
  wallNanos - BigInt(minutes) * 60n * nanosOfSecond

export const timestampLtzBinding = (text: string): string | undefined => {
  const moment = momentOf(text)
  return moment?.offset === undefined ? undefined : String(utcNanos(moment))
}

export const timestampTzBinding = (text: string): string | undefined => {
  const moment = momentOf(text)
  return moment?.offset === undefined ? undefined : `${utcNanos(moment)} ${moment.offset + 1440}`
}
