/**
 * Rows that are too large to be read at once as the text of their JSON, piece by piece.
 *
 * A piece is made when it is asked for, and takes a millisecond or two at most, whatever is in the row; an empty one only says
 * that the work may be cut there. The values are those that `PgValues` makes of smaller rows, told as other JSON text in one case: JSON of
 * the server's is passed on as it came.
 */
import { Buffer } from "node:buffer"
import * as ExactJson from "../../query/internal/ExactJson.ts"
import { builtIn } from "./PgBuiltInTypes.ts"
import * as PgValues from "./PgValues.ts"

/** The pieces of a text in UTF-8. */
export type Pieces = Generator<Uint8Array, void>

/** A longer value is made into pieces. */
const maxValueBytes = 16 * 1024

/** What one piece is made of; a multiple of six, so that hexadecimal digits are whole triples of bytes. */
const pieceBytes = 24 * 1024

/** A place where the work may be cut. */
const pause = Buffer.alloc(0)

/** Gathers small texts. */
class Gathered {
  private text = ""

  add(text: string): void {
    this.text += text
  }

  get isEnough(): boolean {
    return this.text.length >= pieceBytes
  }

  take(): Uint8Array {
    const piece = this.text === "" ? pause : Buffer.from(this.text)
    this.text = ""
    return piece
  }
}

/** The last place up to `end` that is not within a character. */
const wholeUpTo = (bytes: Buffer, end: number): number => {
  let at = Math.min(end, bytes.length)
  while (at < bytes.length && ((bytes[at] ?? 0) & 0xc0) === 0x80) at--
  return at
}

/** The inside of a string of JSON. */
const inString = (text: string): string => JSON.stringify(text).slice(1, -1)

function* string(bytes: Buffer): Pieces {
  yield Buffer.from('"')
  for (let at = 0; at < bytes.length;) {
    const end = wholeUpTo(bytes, at + pieceBytes)
    yield Buffer.from(inString(bytes.toString("utf8", at, end)))
    at = end
  }
  yield Buffer.from('"')
}

/** The bytes of an array's element that has escapes. */
const unescaped = (text: string): string => text.replace(/\\([\s\S])/g, "$1")

/** Base64 of hexadecimal digits, which begin with `\x`. */
function* hexadecimal(bytes: Buffer): Pieces {
  yield Buffer.from('"')
  for (let at = 2; at < bytes.length; at += pieceBytes) {
    const digits = bytes.toString("latin1", at, Math.min(at + pieceBytes, bytes.length))
    yield Buffer.from(Buffer.from(digits, "hex").toString("base64"))
  }
  yield Buffer.from('"')
}

const backslash = 92

/** Base64 of bytes of which some are told as `\\` or by three octal digits. */
function* escaped(bytes: Buffer): Pieces {
  yield Buffer.from('"')
  let rest = pause
  for (let at = 0; at < bytes.length;) {
    const made = Buffer.allocUnsafe(pieceBytes)
    let size = rest.copy(made)
    for (; size < pieceBytes && at < bytes.length; size++) {
      const isEscape = bytes[at] === backslash
      const isDouble = isEscape && bytes[at + 1] === backslash
      made[size] =
        isEscape && !isDouble ? Number.parseInt(bytes.toString("latin1", at + 1, at + 4), 8) : (bytes[at] ?? 0)
      at += isDouble ? 2 : isEscape ? 4 : 1
    }
    const whole = at < bytes.length ? size - (size % 3) : size
    rest = Buffer.from(made.subarray(whole, size))
    yield Buffer.from(made.toString("base64", 0, whole))
  }
  yield Buffer.from('"')
}

const newline = 10
const space = 32

/** A text of JSON on one line: a line break in it is between its tokens. */
function* onOneLine(bytes: Buffer): Pieces {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const piece = bytes.subarray(at, at + pieceBytes)
    if (!piece.includes(newline)) yield piece
    else yield Buffer.from(piece).map((byte) => (byte === newline ? space : byte)) as Buffer
  }
}

const startsScalar = /^[ \t\r\n]*(?:"|null)/

/** Whether a row shows the value itself, or its text as a string. Of `jsonb` the server has seen to it that names are there once. */
function* isShown(text: string, typeId: number): Generator<Uint8Array, boolean> {
  if (startsScalar.test(text)) return false
  const scanning = ExactJson.scan(text, { bytes: true, names: typeId === PgValues.id.json })
  for (let step = scanning.next(); ; step = scanning.next()) {
    if (step.done === true) return step.value === undefined
    yield pause
  }
}

function* json(bytes: Buffer, typeId: number): Pieces {
  const shown = yield* isShown(bytes.toString("latin1"), typeId)
  yield* shown ? onOneLine(bytes) : string(bytes)
}

const utf8 = (latin1: string): string =>
  // oxlint-disable-next-line no-control-regex
  /[\x80-\xff]/.test(latin1) ? Buffer.from(latin1, "latin1").toString("utf8") : latin1

/** The place of the quote that ends an element, and whether it has escapes; the work may be cut on the way. */
function* endOfQuoted(text: string, from: number): Generator<Uint8Array, { end: number; hasEscapes: boolean }> {
  let end = from
  let hasEscapes = false
  let next = end + pieceBytes
  for (let sign = text.charCodeAt(end); sign !== 34 && end < text.length; sign = text.charCodeAt(end)) {
    if (sign === backslash) hasEscapes = true
    end += sign === backslash ? 2 : 1
    if (end >= next) {
      yield pause
      next = end + pieceBytes
    }
  }
  return { end, hasEscapes }
}

/** An array as `PgArrays` reads it. */
function* array(bytes: Buffer, element: number): Pieces {
  const text = bytes.toString("latin1")
  const delimiter = (builtIn.get(element)?.delimiter ?? ",").charCodeAt(0)
  const decode = PgValues.elementDecoderOf(element)
  const made = new Gathered()
  for (let at = 0; at < text.length;) {
    if (made.isEnough) yield made.take()
    const sign = text.charCodeAt(at)
    if (sign === 123) made.add("[")
    else if (sign === 125) made.add("]")
    else if (sign === delimiter) made.add(",")
    else if (sign === 34) {
      const { end, hasEscapes } = yield* endOfQuoted(text, at + 1)
      if (end - at <= maxValueBytes) {
        const inner = text.slice(at + 1, end)
        made.add(JSON.stringify(decode(utf8(hasEscapes ? unescaped(inner) : inner))))
      } else {
        yield made.take()
        const inner = yield* unescapedBytes(bytes, at + 1, end)
        yield* large(inner, element, "element")
      }
      at = end
    } else {
      let end = at
      for (let sign = text.charCodeAt(end); sign !== delimiter && sign !== 125 && end < text.length;) {
        sign = text.charCodeAt(++end)
        if (end - at > maxValueBytes && end % pieceBytes === 0) yield pause
      }
      const word = text.slice(at, end)
      if (word.length > maxValueBytes) {
        yield made.take()
        yield* large(bytes.subarray(at, end), element, "element")
      } else made.add(word === "NULL" ? "null" : JSON.stringify(decode(utf8(word))))
      at = end - 1
    }
    at++
  }
  yield made.take()
}

/** The bytes between two places without the escapes. */
function* unescapedBytes(bytes: Buffer, from: number, to: number): Generator<Uint8Array, Buffer> {
  const whole = Buffer.allocUnsafeSlow(to - from)
  let size = 0
  for (let at = from; at < to; at++) {
    if (bytes[at] === backslash) at++
    whole[size++] = bytes[at] ?? 0
    if (size % pieceBytes === 0) yield pause
  }
  return whole.subarray(0, size)
}

/** Between the tokens of JSON. */
const spaces: ReadonlySet<number | undefined> = new Set([9, newline, 13, space])

const isJsonArray = (bytes: Buffer): boolean => {
  let at = 0
  while (spaces.has(bytes[at])) at++
  return bytes[at] === 91
}

/** What is an array within an array stays text: nested arrays are dimensions. */
function* large(bytes: Buffer, typeId: number, as: "value" | "element"): Pieces {
  const isArray = as === "element" && isJsonArray(bytes)
  const element = builtIn.get(typeId)?.element
  if ((typeId === PgValues.id.json || typeId === PgValues.id.jsonb) && !isArray) yield* json(bytes, typeId)
  else if (typeId === PgValues.id.bytea)
    yield* bytes[1] === 120 && bytes[0] === backslash ? hexadecimal(bytes) : escaped(bytes)
  else if (element !== undefined && bytes[0] === 123) yield* array(bytes, element)
  else yield* string(bytes)
}

/** The JSON of a row whose columns have these types. */
export function* of(values: ReadonlyArray<Buffer | null>, typeIds: ReadonlyArray<number>): Pieces {
  const made = new Gathered()
  made.add("[")
  for (let index = 0; index < values.length; index++) {
    const value = values[index] ?? null
    const typeId = typeIds[index] ?? 0
    if (index > 0) made.add(",")
    if (value === null) made.add("null")
    else if (value.length <= maxValueBytes) made.add(JSON.stringify(PgValues.decoderOf(typeId)(value.toString("utf8"))))
    else {
      yield made.take()
      yield* large(value, typeId, "value")
    }
    if (made.isEnough) yield made.take()
  }
  made.add("]")
  yield made.take()
}
