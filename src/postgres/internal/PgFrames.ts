/**
 * Messages of the PostgreSQL protocol as bytes, as far as Holdfast writes and reads them itself.
 *
 * Formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import { Buffer, isUtf8 } from "node:buffer"

/** The byte of a message's type. */
export const code = (letter: string): number => letter.charCodeAt(0)

export const DataRow = code("D")
export const ErrorResponse = code("E")
export const NoticeResponse = code("N")
export const ReadyForQuery = code("Z")
/** What a `ReadyForQuery` says where no transaction is open. */
export const outsideTransaction = code("I")

/** The type and the length. */
export const headerBytes = 5

const frame = (type: string, ...parts: ReadonlyArray<Buffer>): Buffer => {
  const body = Buffer.concat(parts)
  const header = Buffer.alloc(headerBytes)
  header[0] = code(type)
  header.writeUInt32BE(4 + body.length, 1)
  return Buffer.concat([header, body])
}

const text = (value: string): Buffer => Buffer.from(`${value}\0`)

const int16 = (value: number): Buffer => {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** Ends a cycle of `parse`, `execute`; the server answers that it is ready. */
export const sync: Buffer = frame("S")

/** A cycle of its own: statements separated by semicolons, in one implicit transaction. */
export const query = (sql: string): Buffer => frame("Q", text(sql))

/** A cycle of its own: calls a function without arguments, by its object id. Nothing is parsed or planned for it. */
export const call = (functionId: number): Buffer => frame("F", int32(functionId), int16(0), int16(0), int16(0))

/** Prepares a statement without parameters. */
export const parse = (name: string, sql: string): Buffer => frame("P", text(name), text(sql), int16(0))

/** Executes a prepared statement without parameters; values come as text. */
export const execute = (name: string): Buffer =>
  Buffer.concat([frame("B", text(""), text(name), int16(0), int16(0), int16(0)), frame("E", text(""), int32(0))])

/** Forgets a prepared statement, if there is one of the name. */
export const close = (name: string): Buffer => frame("C", Buffer.from("S"), text(name))

/** A cycle of its own: prepares the statement without a name, and asks for the types of its parameters and for its columns. */
export const describe = (sql: string): Buffer => Buffer.concat([parse("", sql), frame("D", Buffer.from("S\0")), sync])

/** A cycle of its own: what was {@link describe described}, with its parameters. Answered as a {@link statement}. */
export const bound = (params: ReadonlyArray<string | null>): Buffer => {
  // The frame of a `Parse` without a text is what comes first.
  return statement("", params).subarray(headerBytes + 1 + 1 + 2)
}

/** The types of a `ParameterDescription` that begins at `at`, by their object ids. */
export const parameterTypesOf = (bytes: Buffer, at: number): ReadonlyArray<number> =>
  Array.from({ length: bytes.readUInt16BE(at + headerBytes) }, (_, index) =>
    bytes.readUInt32BE(at + headerBytes + 2 + 4 * index)
  )

/** The longest list of parameters that a `Bind` can have. */
export const maxParameters = 65_535

/**
 * A cycle of its own: one statement with its parameters, which the server reads as whatever type the statement asks for; it
 * answers with columns and rows, all values as text.
 */
export const statement = (sql: string, params: ReadonlyArray<string | null>): Buffer => {
  const sqlBytes = Buffer.byteLength(sql)
  let paramBytes = 0
  for (const param of params) paramBytes += 4 + (param === null ? 0 : Buffer.byteLength(param))
  const parseBytes = 4 + 1 + sqlBytes + 1 + 2
  const bindBytes = 4 + 1 + 1 + 2 + 2 + paramBytes + 2
  const frames = Buffer.allocUnsafe(
    headerBytes - 4 + parseBytes + (headerBytes - 4) + bindBytes + describeExecuteSync.length
  )
  let at = frames.writeUInt8(code("P"), 0)
  at = frames.writeUInt32BE(parseBytes, at)
  at = frames.writeUInt8(0, at)
  at += frames.write(sql, at)
  at = frames.writeUInt8(0, at)
  at = frames.writeUInt16BE(0, at)
  at = frames.writeUInt8(code("B"), at)
  at = frames.writeUInt32BE(bindBytes, at)
  at = frames.writeUInt32BE(0, at)
  at = frames.writeUInt16BE(params.length, at)
  for (const param of params) {
    const lengthAt = at
    at += 4
    if (param !== null) at += frames.write(param, at)
    frames.writeInt32BE(param === null ? -1 : at - lengthAt - 4, lengthAt)
  }
  at = frames.writeUInt16BE(0, at)
  frames.set(describeExecuteSync, at)
  return frames
}

/** What follows a `Bind`: describe the portal, execute it to its end, and be done. */
const describeExecuteSync = Buffer.concat([frame("D", Buffer.from("P\0")), frame("E", text(""), int32(0)), sync])

/** A value is no text: it would be read as another one. */
export class NotUtf8 extends Error {
  override readonly name = "NotUtf8"
}

const valueOf = (bytes: Buffer, from: number, to: number): string => {
  const value = bytes.toString("utf8", from, to)
  if (value.includes("\ufffd") && !isUtf8(bytes.subarray(from, to))) throw new NotUtf8()
  return value
}

/** The values of a `DataRow`, as text. The frame is the part of `bytes` that begins at `at`. */
export const valuesOf = (bytes: Buffer, at: number): Array<string | null> => {
  const values: Array<string | null> = []
  const count = bytes.readUInt16BE(at + headerBytes)
  let next = at + headerBytes + 2
  for (let index = 0; index < count; index++) {
    const length = bytes.readInt32BE(next)
    next += 4
    values.push(length < 0 ? null : valueOf(bytes, next, next + length))
    next += Math.max(length, 0)
  }
  return values
}

/**
 * The values of a `DataRow` as bytes of UTF-8, for one that is too large to be read at once. The frame is the part of `bytes`
 * that begins at `at`.
 */
export const valueBytesOf = (bytes: Buffer, at: number): ReadonlyArray<Buffer | null> => {
  const values: Array<Buffer | null> = []
  let next = at + headerBytes + 2
  for (let left = bytes.readUInt16BE(at + headerBytes); left > 0; left--) {
    const length = bytes.readInt32BE(next)
    next += 4
    const value = length < 0 ? null : bytes.subarray(next, next + length)
    if (value !== null && !isUtf8(value)) throw new NotUtf8()
    values.push(value)
    next += Math.max(length, 0)
  }
  return values
}

/** One column of a result, with the object id of its type. */
export interface Column {
  readonly name: string
  readonly typeId: number
}

/** The columns of a `RowDescription` that begins at `at`. */
export const columnsOf = (bytes: Buffer, at: number): ReadonlyArray<Column> => {
  const columns: Array<Column> = []
  let next = at + headerBytes + 2
  for (let left = bytes.readUInt16BE(at + headerBytes); left > 0; left--) {
    const end = bytes.indexOf(0, next)
    columns.push({ name: bytes.toString("utf8", next, end), typeId: bytes.readUInt32BE(end + 7) })
    // A zero byte, the table's id and the column's number, the type, its size and modifier, the format.
    next = end + 19
  }
  return columns
}

/** What the server says of an error: the SQLSTATE, the message, and more where it has more. Long texts are cut. */
export interface ServerError extends Report {
  /** In characters of the statement, from 1. */
  readonly position: number | undefined
  /** The server ended the connection, and with it perhaps more than the statement. */
  readonly isFatal: boolean
}

/** What the server says of an error or a notice. */
export interface Report {
  /** Such as `ERROR` or `NOTICE`, whatever the server's language. */
  readonly severity: string
  readonly code?: string
  readonly message: string
  readonly detail?: string
  readonly hint?: string
}

/** The longest text of a report that is read. */
const maxFieldBytes = 8 * 1024

/** The last place up to `end` that is not within a character. */
const wholeUpTo = (bytes: Buffer, end: number): number => {
  let at = end
  while (((bytes[at] ?? 0) & 0xc0) === 0x80) at--
  return at
}

/** The text between two places, cut where it is long. A cut text keeps nothing of the whole one alive. */
const cut = (bytes: Buffer, from: number, to: number): string => {
  if (to - from <= maxFieldBytes) return bytes.toString("utf8", from, to)
  return `${bytes.toString("utf8", from, wholeUpTo(bytes, from + maxFieldBytes))}…`
}

const fieldsOf = (bytes: Buffer): ReadonlyMap<string, string> => {
  const fields = new Map<string, string>()
  for (let at = headerBytes; at < bytes.length && bytes[at] !== 0;) {
    const found = bytes.indexOf(0, at)
    const end = found === -1 ? bytes.length : found
    fields.set(String.fromCharCode(bytes[at] ?? 0), cut(bytes, at + 1, end))
    at = end + 1
  }
  return fields
}

const reportOf = (fields: ReadonlyMap<string, string>, otherwise: string): Report => {
  const [code, detail, hint] = ["C", "D", "H"].map((letter) => fields.get(letter))
  return {
    severity: fields.get("V") ?? fields.get("S") ?? "",
    message: fields.get("M") ?? otherwise,
    ...(code !== undefined && { code }),
    ...(detail !== undefined && { detail }),
    ...(hint !== undefined && { hint })
  }
}

/** The content of an `ErrorResponse`. */
export const errorOf = (errorResponse: Buffer): ServerError => {
  const fields = fieldsOf(errorResponse)
  const position = fields.get("P")
  const report = reportOf(fields, "The server reported an error")
  return {
    ...report,
    isFatal: report.severity === "FATAL" || report.severity === "PANIC",
    position: position === undefined ? undefined : Number(position)
  }
}

/** The content of a `NoticeResponse`. */
export const noticeOf = (noticeResponse: Buffer): Report => reportOf(fieldsOf(noticeResponse), "")

/** So much of an `ErrorResponse` or a `NoticeResponse` is read. The rest may pass unread. */
export const maxReportBytes = 64 * 1024

/** A whole message of what was read of one that is longer than {@link maxReportBytes}. */
export const endReport = (begun: Buffer): Buffer => {
  const whole = Buffer.concat([begun.subarray(0, wholeUpTo(begun, begun.length - 1)), Buffer.from("\0\0")])
  whole.writeUInt32BE(whole.length - 1, 1)
  return whole
}
