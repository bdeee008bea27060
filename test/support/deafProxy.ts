/**
 * A network to a PostgreSQL or Redis server on which notifications get lost when a test says so, and nothing else does.
 *
 * It reads the frames that the server sends and leaves out those that carry a notification. Closing its scope closes
 * everything.
 */
import * as Net from "node:net"
import * as Effect from "effect/Effect"

/** How a server's bytes are read. */
export interface Protocol {
  /** Where the frame that begins here ends; undefined while that has not arrived. */
  readonly endOf: (bytes: Buffer, at: number) => number | undefined
  readonly isNotification: (frame: Buffer) => boolean
}

/** https://www.postgresql.org/docs/current/protocol-message-formats.html: type, length, content. */
export const postgres: Protocol = {
  endOf: (bytes, at) => (bytes.length - at < 5 ? undefined : at + 1 + bytes.readUInt32BE(at + 1)),
  isNotification: (frame) => frame[0] === "A".charCodeAt(0)
}

/** https://redis.io/docs/latest/develop/reference/protocol-spec/, version 2. */
export const redis: Protocol = {
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

/** The whole frames among the server's bytes, and what is not whole yet. */
const split = (bytes: Buffer, { endOf }: Protocol): readonly [frames: ReadonlyArray<Buffer>, rest: Buffer] => {
  const frames: Array<Buffer> = []
  let at = 0
  for (let end = endOf(bytes, at); end !== undefined && end <= bytes.length; end = endOf(bytes, at)) {
    frames.push(bytes.subarray(at, end))
    at = end
    if (at === bytes.length) break
  }
  return [frames, bytes.subarray(at)]
}

export interface DeafProxy {
  readonly port: number
  /** Whether notifications are lost from now on. */
  readonly lose: (yes: boolean) => void
  /** How many were. */
  readonly lost: () => number
  readonly close: () => void
}

export const make = (target: { readonly host: string; readonly port: number }, protocol: Protocol) =>
  Effect.acquireRelease(
    Effect.callback<DeafProxy>((resume) => {
      let losing = false
      let lost = 0
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer((client) => {
        const upstream = Net.connect(target)
        for (const [from, to] of [
          [client, upstream],
          [upstream, client]
        ] as const) {
          sockets.add(from)
          from.on("error", () => to.destroy())
          from.on("close", () => {
            sockets.delete(from)
            to.destroy()
          })
        }
        client.on("data", (bytes) => upstream.write(bytes))
        let rest: Buffer = Buffer.alloc(0)
        upstream.on("data", (bytes: Buffer) => {
          const [frames, more] = split(Buffer.concat([rest, bytes]), protocol)
          rest = more
          for (const frame of frames) {
            if (losing && protocol.isNotification(frame)) lost++
            else client.write(frame)
          }
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(
          Effect.succeed({
            port: typeof address === "object" && address !== null ? address.port : 0,
            lose: (yes) => void (losing = yes),
            lost: () => lost,
            close: () => {
              server.close()
              for (const socket of sockets) socket.destroy()
            }
          })
        )
      })
    }),
    ({ close }) => Effect.sync(close)
  )
