/**
 * How much of a text is kept of work that is over, and what it takes up.
 */
import { Buffer } from "node:buffer"

/** Characters of one text. */
const maxText = 4096

/** A text that is not longer than that; one that was cut keeps nothing of the whole one alive, as a slice would. */
export const cut = (text: string, length = maxText): string => {
  if (text.length <= length) return text
  const kept = text.slice(0, length)
  return `${Buffer.from(kept.isWellFormed() ? kept : kept.slice(0, -1)).toString()}…`
}

/** An error keeps the functions that were running alive, and with them all they knew. One without a stack does not. */
const withoutStack = <A>(make: () => A): A => {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  try {
    return make()
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}

/** The same error, to be kept: its texts are cut, and it keeps nothing else alive. */
export const keptReason = <Reason extends { readonly _tag: string }>(reason: Reason, length?: number): Reason => {
  const { _tag, ...fields } = reason
  const kept = Object.entries(fields).map(([name, value]) => [
    name,
    typeof value === "string" ? cut(value, length) : value
  ])
  const Class = reason.constructor as new (fields: object) => Reason
  return withoutStack(() => new Class(Object.fromEntries(kept)))
}

/** Bytes of a text as a string of JSON in UTF-8, its quotes included. */
export const jsonBytes = (text: string): number => {
  let bytes = 2
  for (let at = 0; at < text.length; at++) {
    const sign = text.charCodeAt(at)
    if (sign < 0x20) bytes += sign === 10 || sign === 13 || sign === 9 ? 2 : 6
    else if (sign === 34 || sign === 92) bytes += 2
    else bytes += sign < 0x80 ? 1 : sign < 0x800 || (sign >= 0xd800 && sign < 0xe000) ? 2 : 3
  }
  return bytes
}
