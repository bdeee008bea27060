/**
 * PostgreSQL's text form of arrays.
 *
 * https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
 */
import type * as Schema from "effect/Schema"

type Nested = Array<Schema.Json>

/** What ends an element that is not quoted. */
const endOf = (text: string, at: number, delimiter: string): number => {
  let end = at
  while (end < text.length && text[end] !== delimiter && text[end] !== "}") end++
  return end
}

const unquoted = (text: string): string => (text.includes("\\") ? text.replace(/\\([\s\S])/g, "$1") : text)

/** The place of the quote that ends a quoted element, whose first character is at `at`. */
const closingQuote = (text: string, at: number): number => {
  let end = at
  while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1
  return end
}

/**
 * Reads an array as the server writes it, with its elements decoded. One whose bounds are told, because they do not begin at 1,
 * is none that JSON can tell.
 */
export const parse = (
  text: string,
  delimiter: string,
  element: (text: string) => Schema.Json
): ReadonlyArray<Schema.Json> | undefined => {
  if (!text.startsWith("{")) return undefined
  const whole: Nested = []
  const around: Array<Nested> = []
  let current = whole
  for (let at = 1; at < text.length;) {
    const sign = text[at]
    if (sign === "{") {
      const inner: Nested = []
      current.push(inner)
      around.push(current)
      current = inner
      at++
    } else if (sign === "}") {
      current = around.pop() ?? whole
      at++
    } else if (sign === delimiter) at++
    else if (sign === '"') {
      const end = closingQuote(text, at + 1)
      current.push(element(unquoted(text.slice(at + 1, end))))
      at = end + 1
    } else {
      const end = endOf(text, at, delimiter)
      const word = text.slice(at, end)
      current.push(word === "NULL" ? null : element(word))
      at = end
    }
  }
  return whole
}

const quoted = (text: string): string => `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`

/** Writes an array as the server reads it; `element` writes what is neither an array nor null. */
export const stringify = (
  values: ReadonlyArray<Schema.Json>,
  delimiter: string,
  element: (value: Schema.Json) => string
): string =>
  `{${values
    .map((value) =>
      value === null ? "NULL" : Array.isArray(value) ? stringify(value, delimiter, element) : quoted(element(value))
    )
    .join(delimiter)}}`
