/**
 * Rows that are too large to be read at once as the text of their JSON, piece by piece.
 *
 * A piece is made when it is asked for, in a millisecond or two, whatever is in the row; an empty one only says that the work may be
 * cut there. The values are those that `SnowflakeValues` makes of smaller rows.
 */
import { Buffer } from "node:buffer"
import * as ExactJson from "../../query/internal/ExactJson.ts"
import * as SnowflakeValues from "./SnowflakeValues.ts"

/** The pieces of a text in UTF-8. */
export type Pieces = Generator<Uint8Array, void>

/** A longer value is made into pieces. */
const maxValueBytes = 16 * 1024

/** A multiple of six, so that hexadecimal digits are whole triples of bytes. */
const pieceBytes = 24 * 1024

const pause = Buffer.alloc(0)

const quote = 0x22
const backslash = 0x5c
const comma = 0x2c
const openBracket = 0x5b
const closeBracket = 0x5d
const letterN = 0x6e
const letterU = 0x75

/** Where a character begins, at a place or after it. */
const wholeFrom = (bytes: Buffer, at: number): number => {
  let from = at
  while (from < bytes.length && ((bytes[from] ?? 0) & 0xc0) === 0x80) from++
  return from
}

/** A literal as it came. */
function* asItCame(bytes: Buffer, from: number, to: number): Pieces {
  for (let at = from; at < to;) {
    const end = Math.min(wholeFrom(bytes, at + pieceBytes), to)
    yield bytes.subarray(at, end)
    at = end
  }
}

/** The place behind an escape, or behind a byte that is none. */
const behind = (bytes: Buffer, at: number): number =>
  at + (bytes[at] === backslash ? (bytes[at + 1] === letterU ? 6 : 2) : 1)

/** The bytes that a literal stands for, from its first quote to its last. */
function* unescaped(bytes: Buffer, from: number, to: number): Generator<Uint8Array, Buffer> {
  const parts: Array<Uint8Array> = []
  for (let at = from + 1; at < to - 1;) {
    const limit = Math.min(at + pieceBytes, to - 1)
    let end = at
    while (end < limit) end = behind(bytes, end)
    end = Math.min(wholeFrom(bytes, end), to - 1)
    let text: string = JSON.parse(`"${bytes.toString("utf8", at, end)}"`)
    // The other half of the pair is an escape, too.
    if ((text.charCodeAt(text.length - 1) & 0xfc00) === 0xd800 && end < to - 1) {
      end = behind(bytes, end)
      text = JSON.parse(`"${bytes.toString("utf8", at, end)}"`)
    }
    parts.push(Buffer.from(text))
    at = end
    yield pause
  }
  return Buffer.concat(parts)
}

const word = /[A-Za-z]+/y
const words: ReadonlySet<string> = new Set(["true", "false", "null", "e", "E"])

const isLetter = (sign: number): boolean => (sign | 0x20) >= 0x61 && (sign | 0x20) <= 0x7a

/** Whether there is a word outside of its strings that JSON has not, such as `undefined`. */
function* hasOtherWords(text: string): Generator<Uint8Array, boolean> {
  let until = pieceBytes
  let isInString = false
  for (let at = 0; at < text.length;) {
    if (at >= until) {
      yield pause
      until = at + pieceBytes
    }
    const sign = text.charCodeAt(at)
    if (sign === quote) {
      isInString = !isInString
      at++
    } else if (isInString) {
      at += sign === backslash ? 2 : 1
    } else if (isLetter(sign)) {
      word.lastIndex = at
      const found = word.exec(text)?.[0] ?? ""
      if (!words.has(found)) return true
      at += found.length
    } else at++
  }
  return false
}

/** JSON of the server's, where JavaScript gives it back as it is; else the string of it. */
function* variant(bytes: Buffer, from: number, to: number): Pieces {
  const json = yield* unescaped(bytes, from, to)
  // A character for each byte: nothing has to be decoded or put together.
  const text = json.toString("latin1")
  if (!/^\s*[[{]/.test(text)) return yield* asItCame(bytes, from, to)
  const scanning = ExactJson.scan(text, { bytes: true })
  let step = scanning.next()
  for (; step.done !== true; step = scanning.next()) yield pause
  if (step.value !== undefined || (yield* hasOtherWords(text))) return yield* asItCame(bytes, from, to)
  for (let at = 0; at < json.length;) {
    const end = Math.min(wholeFrom(json, at + pieceBytes), json.length)
    // Outside of strings a line break is a space, and inside there is none.
    yield Buffer.from(text.slice(at, end).replace(/[\n\r]/g, " "), "latin1")
    at = end
  }
}

function* binary(bytes: Buffer, from: number, to: number): Pieces {
  yield Buffer.from('"')
  for (let at = from + 1; at < to - 1; at += pieceBytes) {
    const digits = bytes.toString("latin1", at, Math.min(at + pieceBytes, to - 1))
    yield Buffer.from(Buffer.from(digits, "hex").toString("base64"))
  }
  yield Buffer.from('"')
}

const large: Readonly<Record<string, (bytes: Buffer, from: number, to: number) => Pieces>> = {
  VARIANT: variant,
  OBJECT: variant,
  ARRAY: variant,
  MAP: variant,
  BINARY: binary
}

function* value(bytes: Buffer, from: number, to: number, column: SnowflakeValues.ColumnType): Pieces {
  if (to - from > maxValueBytes) return yield* (large[column.type.toUpperCase()] ?? asItCame)(bytes, from, to)
  const text = JSON.parse(bytes.toString("utf8", from, to)) as string
  yield Buffer.from(JSON.stringify(SnowflakeValues.decoderOf(column)(text)))
}

/** The place behind a literal. */
function* endOf(bytes: Buffer, from: number, to: number): Generator<Uint8Array, number> {
  let end = from + 1
  let until = end + pieceBytes
  while (end < to && bytes[end] !== quote) {
    end += bytes[end] === backslash ? 2 : 1
    if (end < until) continue
    yield pause
    until = end + pieceBytes
  }
  return end + 1
}

/** The pieces of a row that lies between two places. */
export function* of(
  bytes: Buffer,
  from: number,
  to: number,
  columns: ReadonlyArray<SnowflakeValues.ColumnType>
): Pieces {
  let column = 0
  for (let at = from; at < to;) {
    const sign = bytes[at]
    if (sign === quote) {
      const end = yield* endOf(bytes, at, to)
      yield* value(bytes, at, end, columns[column++] ?? { type: "TEXT" })
      at = end
    } else if (sign === letterN) {
      column++
      yield Buffer.from("null")
      at += 4
    } else {
      if (sign === comma || sign === openBracket || sign === closeBracket) yield bytes.subarray(at, at + 1)
      at++
    }
  }
}
