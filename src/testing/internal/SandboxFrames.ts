/**
 * Messages of PostgreSQL's protocol, as a server reads and writes them.
 *
 * Formats: https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import { Buffer } from "node:buffer"

/** A message with its type and its length. */
export type Frame = Buffer

export const typeOf = (frame: Frame): string => String.fromCharCode(frame[0] ?? 0)

/** Cuts bytes into messages; what is not whole yet waits for the rest. */
export const reader = (onFrame: (frame: Frame) => void) => {
  let rest: Buffer = Buffer.alloc(0)
  return (bytes: Buffer): void => {
    let all = rest.length === 0 ? bytes : Buffer.concat([rest, bytes])
    while (all.length >= 5) {
      const end = 1 + all.readUInt32BE(1)
      if (all.length < end) break
      const frame = all.subarray(0, end)
      all = all.subarray(end)
      onFrame(frame)
    }
    rest = all
  }
}

export const frame = (type: string, ...parts: ReadonlyArray<Buffer>): Frame => {
  const body = Buffer.concat(parts)
  const header = Buffer.alloc(5)
  header.write(type, 0, "latin1")
  header.writeUInt32BE(4 + body.length, 1)
  return Buffer.concat([header, body])
}

export const text = (value: string): Buffer => Buffer.from(`${value}\0`)

export const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** The text that begins at `at`, and where the next thing begins. */
export const textAt = (bytes: Buffer, at: number): readonly [value: string, next: number] => {
  const end = bytes.indexOf(0, at)
  return [bytes.toString("utf8", at, end), end + 1]
}

export const query = (sql: string): Frame => frame("Q", text(sql))
export const sync: Frame = frame("S")
export const ready = (status: string): Frame => frame("Z", Buffer.from(status))
export const complete = (tag: string): Frame => frame("C", text(tag))
export const closeStatement = (name: string): Frame => frame("C", Buffer.from("S"), text(name))

/** A statement without parameters and without a name, from its text to its end. */
export const unnamed = (sql: string): Frame =>
  Buffer.concat([
    frame("P", text(""), text(sql), Buffer.alloc(2)),
    frame("B", text(""), text(""), Buffer.alloc(6)),
    frame("E", text(""), int32(0))
  ])

/** An error, or a notice. */
export interface Report {
  readonly severity: "ERROR" | "FATAL" | "WARNING"
  readonly code: string
  readonly message: string
  readonly detail?: string
  readonly hint?: string
}

export const report = ({ code, detail, hint, message, severity }: Report): Frame => {
  const fields = { S: severity, V: severity, C: code, M: message, D: detail, H: hint }
  const parts = Object.entries(fields).map(([letter, value]) =>
    value === undefined ? Buffer.alloc(0) : text(`${letter}${value}`)
  )
  return frame(severity === "WARNING" ? "N" : "E", ...parts, Buffer.alloc(1))
}

/** The fields of an error or a notice. */
export const fieldsOf = (bytes: Frame): ReadonlyMap<string, string> => {
  const fields = new Map<string, string>()
  for (let at = 5; at < bytes.length && bytes[at] !== 0;) {
    const [value, next] = textAt(bytes, at + 1)
    fields.set(String.fromCharCode(bytes[at] ?? 0), value)
    at = next
  }
  return fields
}

/** An error of the server's with a hint of ours. */
export const withHint = (bytes: Frame, hint: string): Frame => {
  const fields = new Map([...fieldsOf(bytes), ["H", hint]])
  return frame("E", ...Array.from(fields, ([letter, value]) => text(`${letter}${value}`)), Buffer.alloc(1))
}
