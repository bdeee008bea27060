/**
 * What a JSON text loses when JavaScript reads it and writes it again.
 *
 * JavaScript keeps the last of two members of one name, and the nearest number that it has: `9007199254740993` becomes
 * `9007199254740992`, `1e400` becomes `null`, and `-0` is written as `0`.
 */

/** The digits that count and the power of ten of the last one. */
const magnitudeOf = (number: string): string => {
  const [, whole = "", fraction = "", exponent = "0"] = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(number) ?? []
  const digits = `${whole}${fraction}`.replace(/^0+/, "")
  const kept = digits.replace(/0+$/, "")
  return kept === "" ? "0" : `${kept}e${Number(exponent) - fraction.length + digits.length - kept.length}`
}

const shortInteger = /^-?[1-9]\d{0,14}$|^0$/
const integer = /^-?\d+$/

/** Whether JavaScript writes the number as it was. Integers beyond 53 bits may do so by chance. */
export const isExactNumber = (source: string): boolean => {
  if (shortInteger.test(source)) return true
  const value = Number(source)
  if (Object.is(value, -0)) return false
  return integer.test(source)
    ? Number.isSafeInteger(value)
    : Number.isFinite(value) && magnitudeOf(String(value)) === magnitudeOf(source)
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

/** The first thing that is lost. */
export interface Loss {
  readonly kind: "depth" | "member" | "number"
  /** For the author of the text. */
  readonly problem: string
}

const quote = 34
const backslash = 92
const comma = 44
const minus = 45
const [openBracket, closeBracket, openBrace, closeBrace] = [91, 93, 123, 125]

/** The place behind a string that begins at `at`. */
const endOfString = (text: string, at: number): number => {
  let end = at + 1
  for (let sign = text.charCodeAt(end); sign !== quote && end < text.length; sign = text.charCodeAt(end)) {
    end += sign === backslash ? 2 : 1
  }
  return end + 1
}

const number = /-?\d[\d.eE+-]*/y

const isDigit = (sign: number): boolean => sign >= 48 && sign <= 57

/** The place behind the digits that begin at `at`. */
const endOfDigits = (text: string, at: number): number => {
  let end = at
  while (isDigit(text.charCodeAt(end))) end++
  return end
}

/** A fraction or an exponent begins. */
const continuesNumber: ReadonlySet<number> = new Set([46, 69, 101])

const nameOf = (quoted: string): string =>
  quoted.includes("\\") ? (JSON.parse(quoted) as string) : quoted.slice(1, -1)

/** At most so much of a number or a name is repeated. */
const shown = (text: string): string => (text.length > 40 ? `${text.slice(0, 40)}…` : text)

/**
 * What is lost of a text that is JSON; nothing where JavaScript writes the same value again. Numbers may be left out of account.
 */
export const lossOf = (text: string, numbers: "numbers" | "no numbers" = "numbers"): Loss | undefined => {
  /** The names of the members so far of the objects around; none of arrays. */
  const around: Array<Set<string> | undefined> = []
  let isNameNext = false
  for (let at = 0; at < text.length;) {
    const sign = text.charCodeAt(at)
    if (sign === quote) {
      const end = endOfString(text, at)
      const names = around.at(-1)
      if (isNameNext && names !== undefined) {
        const name = nameOf(text.slice(at, end))
        if (names.has(name)) {
          return { kind: "member", problem: `an object has the member ${JSON.stringify(shown(name))} twice` }
        }
        names.add(name)
        isNameNext = false
      }
      at = end
    } else if (sign === minus || isDigit(sign)) {
      const end = endOfDigits(text, at)
      if (end > at && end - at <= 15 && !continuesNumber.has(text.charCodeAt(end))) {
        at = end
        continue
      }
      number.lastIndex = at
      const source = number.exec(text)?.[0] ?? ""
      if (numbers === "numbers" && !isExactNumber(source)) {
        return { kind: "number", problem: `JavaScript does not keep the number ${shown(source)}` }
      }
      at += Math.max(source.length, 1)
    } else {
      if (sign === openBrace || sign === openBracket) {
        around.push(sign === openBrace ? new Set() : undefined)
        isNameNext = sign === openBrace
        if (around.length > deepest) return { kind: "depth", problem: `it has more than ${deepest} levels` }
      } else if (sign === closeBrace || sign === closeBracket) {
        around.pop()
        isNameNext = false
      } else if (sign === comma) isNameNext = around.at(-1) !== undefined
      at++
    }
  }
  return undefined
}
