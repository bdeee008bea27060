/**
 * What `JSON.parse` would change without a word in a text of JSON. Pure.
 */

import * as ExactJson from "../../query/internal/ExactJson.ts"

/** An object or list that the text is in. */
interface Frame {
  /** The names so far; none in a list. */
  readonly names: Set<unknown> | undefined
  /** The name or the place of what comes now. */
  at: unknown
}

const token = /\s*(?:("[^"\\]*(?:\\.[^"\\]*)*")\s*(:)?|(-?\d[\d.eE+-]*)|([[{])|([\]}])|(,)|(?:true|false|null))/y

/** The digits of a decimal number without zeros at its ends, and the power of ten that they are to be multiplied with. */
const normal = (number: string) => {
  const [, sign = "", whole = "", fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(number) ?? []
  const digits = (whole + fraction).replace(/^0+/, "")
  const significant = ExactJson.withoutTrailingZeros(digits)
  const power = significant === "" ? 0 : Number(exponent) - fraction.length + digits.length - significant.length
  return `${sign}${significant}e${power}`
}

/** Whether a number is still the same one after it was parsed and written again. */
const isKept = (number: string) => normal(JSON.stringify(Number(number))) === normal(number)

const pathOf = (frames: ReadonlyArray<Frame>) => frames.map(({ at }) => `[${JSON.stringify(at)}]`).join("")

const shown = (number: string) => (number.length > 40 ? `${number.slice(0, 40)}…` : number)

/** What is wrong and where; `undefined` for a text that is kept as it is, and for one that is no JSON at all. */
export const problemOf = (text: string): string | undefined => {
  // Looks at less, and much faster.
  if (ExactJson.lossOf(text) === undefined) return undefined
  const frames: Array<Frame> = []
  token.lastIndex = 0
  for (let found = token.exec(text); found !== null; found = token.exec(text)) {
    const [, string, colon, number, open, close, comma] = found
    const frame = frames.at(-1)
    if (open !== undefined) {
      frames.push(open === "{" ? { names: new Set(), at: undefined } : { names: undefined, at: 0 })
    } else if (close !== undefined) frames.pop()
    else if (comma !== undefined && typeof frame?.at === "number") frame.at++
    else if (string !== undefined && colon !== undefined && frame?.names !== undefined) {
      try {
        frame.at = JSON.parse(string)
      } catch {
        return undefined
      }
      if (frame.names.has(frame.at)) return `Expected each name once\n  at ${pathOf(frames)}`
      frame.names.add(frame.at)
    } else if (number !== undefined && !isKept(number)) {
      const what = `${shown(number)} would become ${JSON.stringify(Number(number))}`
      return `Expected a number of at most 17 digits that stays as it is, ${what}. Send it as text\n  at ${pathOf(frames)}`
    }
  }
  return undefined
}
