/**
 * Messages of the PostgreSQL protocol as bytes, as far as Holdfast writes and reads them itself.
 *
 * Formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import { Buffer } from "node:buffer"

/** The byte of a message's type. */
export const code = (letter: string): number => letter.charCodeAt(0)

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

/** The values of a `DataRow`, as text. */
export const valuesOf = (dataRow: Buffer): ReadonlyArray<string | null> => {
  let at = headerBytes + 2
  return Array.from({ length: dataRow.readUInt16BE(headerBytes) }, () => {
    const length = dataRow.readInt32BE(at)
    at += 4 + Math.max(length, 0)
    return length < 0 ? null : dataRow.toString("utf8", at - length, at)
  })
}

/** The SQLSTATE and the message of an `ErrorResponse`. */
export const errorOf = (errorResponse: Buffer): { readonly code: string | undefined; readonly message: string } => {
  const fields = new Map<string, string>()
  for (const field of errorResponse.toString("utf8", headerBytes).split("\0"))
    fields.set(field.slice(0, 1), field.slice(1))
  return { code: fields.get("C"), message: fields.get("M") ?? "The server reported an error" }
}
