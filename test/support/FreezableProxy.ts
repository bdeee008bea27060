/**
 * A network between a program and a server that can be frozen: everything sent is swallowed, nothing is closed, new
 * connections are accepted and never answered. Closing its scope closes everything.
 */
import * as Net from "node:net"
import * as Effect from "effect/Effect"

export const make = (target: { readonly host: string; readonly port: number }) =>
  Effect.acquireRelease(
    Effect.callback<{ port: number; freeze: () => void; thaw: () => void; close: () => void }>((resume) => {
      let frozen = false
      const sockets = new Set<Net.Socket>()
      const server = Net.createServer((socket) => {
        const upstream = Net.connect(target)
        // What was frozen once stays dead, as a connection whose route is gone; only new ones get through later.
        let dead = frozen
        for (const [from, to] of [
          [socket, upstream],
          [upstream, socket]
        ] as const) {
          sockets.add(from)
          from.on("data", (chunk) => {
            dead ||= frozen
            if (!dead) to.write(chunk)
          })
          from.on("error", () => to.destroy())
          from.on("close", () => {
            sockets.delete(from)
            if (!dead) to.destroy()
          })
        }
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(
          Effect.succeed({
            port: typeof address === "object" && address !== null ? address.port : 0,
            freeze: () => void (frozen = true),
            thaw: () => void (frozen = false),
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
