/**
 * A network to a PostgreSQL server on which notifications get lost when a test says so, and nothing else does.
 *
 * It reads the frames that the server sends and leaves out those of type `A` (NotificationResponse). Closing its scope
 * closes everything.
 */
import * as Net from "node:net"
import * as Effect from "effect/Effect"

const notification = "A".charCodeAt(0)

/** The whole frames among the server's bytes, and what is not whole yet. */
const split = (bytes: Buffer): readonly [frames: ReadonlyArray<Buffer>, rest: Buffer] => {
  const frames: Array<Buffer> = []
  let at = 0
  while (bytes.length - at >= 5) {
    const end = at + 1 + bytes.readUInt32BE(at + 1)
    if (end > bytes.length) break
    frames.push(bytes.subarray(at, end))
    at = end
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

export const make = (target: { readonly host: string; readonly port: number }) =>
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
          const [frames, more] = split(Buffer.concat([rest, bytes]))
          rest = more
          for (const frame of frames) {
            if (losing && frame[0] === notification) lost++
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
