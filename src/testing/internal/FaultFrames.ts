/**
 * The messages of a server, as far as a proxy has to tell them apart: which of them tells of a notification.
 */
import { Buffer } from "node:buffer"

/** How a server's bytes are read. */
export interface Protocol {
  /** Where the message that begins here ends; undefined while that has not arrived. */
  readonly endOf: (bytes: Buffer, at: number) => number | undefined
  readonly isNotification: (frame: Buffer) => boolean
}

/** https://www.postgresql.org/docs/current/protocol-message-formats.html: type, length, content. */
const postgres: Protocol = {
  endOf: (bytes, at) => (bytes.length - at < 5 ? undefined : at + 1 + bytes.readUInt32BE(at + 1)),
  isNotification: (frame) => frame[0] === "A".charCodeAt(0)
}

/** https://redis.io/docs/latest/develop/reference/protocol-spec/, version 2. */
const redis: Protocol = {
  endOf: (bytes, at) => {
    const line = bytes.indexOf("\r\n", at)
    if (line === -1) return undefined
    const kind = String.fromCharCode(bytes[at] ?? 0)
    const count = Number(bytes.toString("latin1", at + 1, line))
    if (kind === "$") return count < 0 ? line + 2 : line + 4 + count
    if (kind !== "*") return line + 2
    let end: number | undefined = line + 2
    for (let index = 0; index < count && end !== undefined; index++) end = redis.endOf(bytes, end)
    return end
  },
  isNotification: (frame) => frame.toString("latin1", 0, 17) === "*3\r\n$7\r\nmessage\r\n"
}

/** By name. */
export const protocols = { postgres, redis }

/** Cuts bytes into whole messages; what is not whole yet waits for the rest. */
export const splitter = ({ endOf }: Protocol) => {
  let rest: Buffer = Buffer.alloc(0)
  return (piece: Buffer): ReadonlyArray<Buffer> => {
    const bytes = Buffer.concat([rest, piece])
    const frames: Array<Buffer> = []
    let at = 0
    for (let end = endOf(bytes, at); end !== undefined && end <= bytes.length; end = endOf(bytes, at)) {
      frames.push(bytes.subarray(at, end))
      at = end
      if (at === bytes.length) break
    }
    rest = bytes.subarray(at)
    return frames
  }
}

/** https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-CANCELREQUEST */
export const isCancel = (message: Buffer) => message.length >= 8 && message.readUInt32BE(4) === 80877102
