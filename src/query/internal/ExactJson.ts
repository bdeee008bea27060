/**
 * What a JSON text loses when JavaScript reads it and writes it again.
 *
 * JavaScript keeps the last of two members of one name, and the nearest number that it has: `9007199254740993` becomes
 * `9007199254740992`, `1e400` becomes `null`, and `-0` is written as `0`.
 */
import { Buffer } from "node:buffer"

const zero = 48

/** Without the zeros at the end. A regular expression would look at each of them as often as there are others before it. */
export const withoutTrailingZeros = (digits: string): string => {
  let end = digits.length
  while (end > 0 && digits.charCodeAt(end - 1) === zero) end--
  return digits.slice(0, end)
}

/** The digits that count and the power of ten of the last one. */
const magnitudeOf = (number: string): string => {
  const [, whole = "", fraction = "", exponent = "0"] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(number) ?? []
  const digits = `${whole}${fraction}`.replace(/^0+/, "")
  const kept = withoutTrailingZeros(digits)
  return kept === "" ? "0" : `${kept}e${Number(exponent) - fraction.length + digits.length - kept.length}`
}

const shortInteger = /^-?[1-9]\d{0,14}$|^0$/
const integer = /^-?\d+$/

/** Whether JavaScript writes the number as it was. Integers beyond 53 bits may do so by chance. */
export const isExactNumber = (source: string): boolean => {
  if (shortInteger.test(source)) return true
  const value = Number(source)
  if (Object.is(value, -0)) return false
  if (integer.test(source)) return Number.isSafeInteger(value)
  if (!Number.isFinite(value)) return false
  const written = String(value)
  return written === source || magnitudeOf(written) === magnitudeOf(source)
}

const minusZero: unknown = (JSON as { readonly rawJSON?: (text: string) => unknown }).rawJSON?.("-0") ?? 0

/** Writes JSON in which `-0` stays what it is; `notFinite` says what is written for `NaN` and the infinities. */
export const stringify = (value: unknown, notFinite: (value: number) => unknown): string =>
  JSON.stringify(value, (_, part: unknown) => {
    if (typeof part !== "number") return part
    return Number.isFinite(part) ? (Object.is(part, -0) ? minusZero : part) : notFinite(part)
  })

/** Deeper than this, reading and writing may exhaust the stack. */
export const deepest = 500

/** With more members, those of the objects around counted, a reader needs memory that is out of proportion to the text. */
export const mostMembers = 100_000

/** The first thing that is lost. */
export interface Loss {
  readonly kind: "depth" | "member" | "members" | "number" | "values"
  /** For the author of the text. */
  readonly problem: string
}

const quote = 34
const backslash = 92
const comma = 44
const colon = 58
const minus = 45
const [openBracket, closeBracket, openBrace, closeBrace] = [91, 93, 123, 125]

/** A longer number is not looked at: it is kept as text. */
const longestNumber = 65_535
const number = /-?\d[\d.eE+-]{0,65534}/y

const isDigit = (sign: number): boolean => sign >= 48 && sign <= 57

/** The place behind the digits that begin at `at`. */
const endOfDigits = (text: string, at: number, limit: number): number => {
  let end = at
  while (end < limit && isDigit(text.charCodeAt(end))) end++
  return end
}

/** A fraction or an exponent begins. */
const continuesNumber: ReadonlySet<number> = new Set([46, 69, 101])

/** At most so much of a number or a name is repeated. */
const shown = (text: string): string => (text.length > 40 ? `${text.slice(0, 40)}…` : text)

/** How a text is read. */
export interface Options {
  /** Whether numbers that JavaScript does not keep count. Default: true. */
  readonly numbers?: boolean | undefined
  /** Whether the names of members are compared. Default: true. */
  readonly names?: boolean | undefined
  /** Whether each character of the text is a byte of UTF-8. Default: false. */
  readonly bytes?: boolean | undefined
  /** Values that the text may have, roughly. Default: any number. */
  readonly mostValues?: number | undefined
  /** Members that one object may have, roughly. Default: any number. */
  readonly widest?: number | undefined
  /**
   * Told of every number that JavaScript does not keep, and how many values stand before it in each of the lists and objects that
   * it is in. None is a loss then.
   */
  readonly onNumber?: ((source: string, places: ReadonlyArray<number>) => void) | undefined
}

/** Characters that are read between two places where the work may be cut. */
const sliceLength = 16 * 1024

/** The name of a member, with its escapes resolved: the same for names that are the same. */
const nameOf = (quoted: string, isBytes: boolean): string => {
  if (!quoted.includes("\\")) return quoted.slice(1, -1)
  const name = JSON.parse(isBytes ? Buffer.from(quoted, "latin1").toString() : quoted) as string
  return isBytes ? Buffer.from(name).toString("latin1") : name
}

const textOf = (text: string, isBytes: boolean): string => (isBytes ? Buffer.from(text, "latin1").toString() : text)

/**
 * Reads a text that is JSON and returns what is lost of it; nothing where JavaScript writes the same value again. It yields where
 * the work may be cut.
 */
export function* scan(text: string, options: Options = {}): Generator<void, Loss | undefined> {
  const { bytes: isBytes = false, names: hasNames = true, numbers = true, onNumber } = options
  const { mostValues = Infinity, widest = Infinity } = options
  /** The names of the members so far of the objects around; none of arrays. */
  const around: Array<Set<string> | undefined> = []
  /** How many values were ended by a comma, in each of these. */
  const places: Array<number> = []
  const { length } = text
  let values = 0
  let members = 0
  let isNameNext = false
  let pause = sliceLength
  for (let at = 0; at < length;) {
    if (at >= pause) {
      yield
      pause = at + sliceLength
    }
    const sign = text.charCodeAt(at)
    if (sign === quote) {
      let end = at + 1
      for (let sign = text.charCodeAt(end); sign !== quote && end < length; sign = text.charCodeAt(end)) {
        end += sign === backslash ? 2 : 1
        if (end >= pause) {
          yield
          pause = end + sliceLength
        }
      }
      end++
      const names = around.at(-1)
      if (isNameNext && names !== undefined) {
        const name = nameOf(text.slice(at, end), isBytes)
        if (names.has(name)) {
          const problem = `an object has the member ${JSON.stringify(shown(textOf(name, isBytes)))} twice`
          return { kind: "member", problem }
        }
        names.add(name)
        if (++members > mostMembers) return { kind: "members", problem: `it has more than ${mostMembers} members` }
        isNameNext = false
      }
      at = end
    } else if (sign === minus || isDigit(sign)) {
      const end = endOfDigits(text, at, at + 16)
      if (end > at && end - at <= 15 && !continuesNumber.has(text.charCodeAt(end))) {
        at = end
        continue
      }
      number.lastIndex = at
      const source = number.exec(text)?.[0] ?? ""
      const isLong = source.length >= longestNumber
      if (isLong || (numbers && !isExactNumber(source))) {
        if (isLong || onNumber === undefined) {
          return { kind: "number", problem: `JavaScript does not keep the number ${shown(source)}` }
        }
        onNumber(source, places)
      }
      at += Math.max(source.length, 1)
    } else {
      if (sign === openBrace || sign === openBracket) {
        const isObject = sign === openBrace && hasNames
        around.push(isObject ? new Set() : undefined)
        places.push(0)
        values++
        isNameNext = isObject
        if (around.length > deepest) return { kind: "depth", problem: `it has more than ${deepest} levels` }
      } else if (sign === closeBrace || sign === closeBracket) {
        members -= around.pop()?.size ?? 0
        places.pop()
        isNameNext = false
      } else if (sign === comma) {
        isNameNext = around.at(-1) !== undefined
        places[places.length - 1] = (places.at(-1) ?? 0) + 1
        values++
      } else if (sign === colon && (places.at(-1) ?? 0) >= widest) {
        return { kind: "members", problem: `an object in it has more than ${widest} members` }
      }
      if (values > mostValues) return { kind: "values", problem: `it has more than ${mostValues} values` }
      at++
    }
  }
  return undefined
}

/** As {@link scan}, at once: for texts of a bounded length. Numbers may be left out of account. */
export const lossOf = (text: string, numbers: "numbers" | "no numbers" = "numbers"): Loss | undefined => {
  const scanning = scan(text, { numbers: numbers === "numbers" })
  for (let step = scanning.next(); ; step = scanning.next()) if (step.done === true) return step.value
}
