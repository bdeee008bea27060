/**
 * Where the rows are in an answer, found without reading them: an answer may have a hundred thousand.
 *
 * The bytes are looked at once, in slices of a millisecond or two; the rows are then read a few at a time, as they are taken. What
 * stands around them is read as usual.
 */
import type { Buffer } from "node:buffer"

/** Rows that lie together: from a byte to another one, and how many. */
export interface Piece {
  readonly from: number
  readonly to: number
  readonly rows: number
}

/** An answer: the text around its rows, and where they are. */
export interface Body {
  /** The answer as JSON, with no rows in it. */
  readonly head: string
  readonly bytes: Buffer
  readonly pieces: ReadonlyArray<Piece>
  readonly rows: number
}

const quote = 0x22
const backslash = 0x5c
const openBrace = 0x7b
const openBracket = 0x5b
const closeBrace = 0x7d
const closeBracket = 0x5d
const colon = 0x3a
const comma = 0x2c

/**
 * Bytes of rows that are read in one slice. Few, because V8 lets its space for new objects grow by what survives there, which is a piece
 * each time.
 */
const pieceBytes = 8 * 1024

/** Bytes that are looked at between two places where the work may be cut. */
const sliceBytes = 64 * 1024

class Scanner {
  readonly pieces: Array<Piece> = []
  rows = 0
  /** Where the rows begin and end. */
  from = -1
  to = -1
  at = 0
  private depth = 0
  private isValue = false
  private name = ""
  private rowFrom = -1
  private lastRowTo = -1
  private pieceFrom = -1
  private pieceRows = 0
  private readonly bytes: Buffer

  constructor(bytes: Buffer) {
    this.bytes = bytes
  }

  get isOver(): boolean {
    return this.at >= this.bytes.length
  }

  /** Looks at the bytes up to a place, or a little beyond it. */
  scan(until: number): void {
    const { bytes } = this
    const { length } = bytes
    let { at, depth } = this
    while (at < until) {
      const sign = bytes[at]
      if (sign === quote) {
        const begin = ++at
        while (at < length && bytes[at] !== quote) at += bytes[at] === backslash ? 2 : 1
        if (depth === 1 && !this.isValue) this.name = bytes.toString("latin1", begin, at)
      } else if (sign === openBracket || sign === openBrace) {
        depth++
        if (depth === 2 && this.isValue && this.from < 0 && sign === openBracket && this.name === "data") {
          this.from = at + 1
        } else if (depth === 3 && this.isInRows) this.rowBegun(at)
      } else if (sign === closeBracket || sign === closeBrace) {
        depth--
        if (depth === 2 && this.isInRows) this.rowEnded(at + 1)
        else if (depth === 1 && this.isInRows) {
          this.pieceEnded(this.lastRowTo)
          this.to = at
        }
      } else if (depth === 1) {
        if (sign === colon) this.isValue = true
        else if (sign === comma) this.isValue = false
      }
      at++
    }
    this.at = at
    this.depth = depth
  }

  private get isInRows(): boolean {
    return this.from >= 0 && this.to < 0
  }

  private rowBegun(at: number): void {
    if (this.pieceFrom < 0) this.pieceFrom = at
    this.rowFrom = at
  }

  /** One that is large by itself is a piece of its own. */
  private rowEnded(at: number): void {
    this.rows++
    if (at - this.rowFrom >= pieceBytes && this.pieceRows > 0) {
      this.pieceEnded(this.lastRowTo)
      this.pieceFrom = this.rowFrom
    }
    this.pieceRows++
    this.lastRowTo = at
    if (at - this.pieceFrom >= pieceBytes) this.pieceEnded(at)
  }

  private pieceEnded(at: number): void {
    if (this.pieceFrom >= 0) this.pieces.push({ from: this.pieceFrom, to: at, rows: this.pieceRows })
    this.pieceFrom = -1
    this.pieceRows = 0
  }
}

/** Finds the rows. It yields where the work may be cut. */
export function* read(bytes: Buffer): Generator<void, Body> {
  const scanner = new Scanner(bytes)
  while (!scanner.isOver) {
    scanner.scan(Math.min(scanner.at + sliceBytes, bytes.length))
    yield
  }
  const { from, pieces, rows, to } = scanner
  const head = to < 0 ? bytes.toString("utf8") : bytes.toString("utf8", 0, from) + bytes.toString("utf8", to)
  return { head, bytes, pieces, rows }
}

/** Gives the memory of the rows back at once, instead of when V8 looks for garbage. Nobody may have a part of it. */
export const release = ({ bytes: { buffer, byteLength } }: Body): void => {
  if (buffer instanceof ArrayBuffer && byteLength === buffer.byteLength) buffer.transfer(0)
}

/** An escape, or what JSON does not allow in a string. */
const special = /[\\\p{Cc}]/u

/**
 * The rows of a text in which nothing is escaped; nothing where it has any other form than rows of strings and nulls. Beside its speed
 * it is for memory: `JSON.parse` keeps each string of up to ten characters in a table of V8's old space, until the next full collection.
 */
const plainRows = (text: string): Array<Array<string | null>> | undefined => {
  if (special.test(text)) return undefined
  const rows: Array<Array<string | null>> = []
  for (let at = 0; ; at++) {
    if (text[at] !== "[") return undefined
    const row: Array<string | null> = []
    do {
      at++
      if (text[at] === '"') {
        const end = text.indexOf('"', at + 1)
        if (end < 0) return undefined
        row.push(text.slice(at + 1, end))
        at = end + 1
      } else if (text.startsWith("null", at)) {
        row.push(null)
        at += 4
      } else return undefined
    } while (text[at] === ",")
    if (text[at] !== "]") return undefined
    rows.push(row)
    at++
    if (at === text.length) return rows
    if (text[at] !== ",") return undefined
  }
}

/** The rows of a piece as they came. Throws where they are no JSON. */
export const rowsOf = ({ bytes }: Body, { from, to }: Piece): Array<Array<string | null>> => {
  const text = bytes.toString("utf8", from, to)
  return plainRows(text) ?? JSON.parse(`[${text}]`)
}
