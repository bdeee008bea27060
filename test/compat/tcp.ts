/** Ports, and a gate that lets nothing through but TLS. */
import { once } from "node:events"
import * as Net from "node:net"
import * as Effect from "effect/Effect"

const listen = async (server: Net.Server) => {
  await once(server.listen(0, "127.0.0.1"), "listening")
  const address = server.address()
  return address !== null && typeof address === "object" ? address.port : 0
}

/** The code that stands for TLS where a version of the protocol or a cancel may stand, too (PostgreSQL, "Message Formats"). */
const sslRequest = 80_877_103

/**
 * A way to a PostgreSQL server that ends each connection which does not begin by asking for TLS, and counts them. A server does
 * not look at `pg_hba.conf` before it takes a cancel, so that alone would not tell in what form one came.
 */
export const tlsGate = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const sockets = new Set<Net.Socket>()
      const seen = { encrypted: 0, clear: 0 }
      const server = Net.createServer((client) => {
        sockets.add(client)
        client.on("error", () => client.destroy()).on("close", () => sockets.delete(client))
        client.once("data", (first: Buffer) => {
          if (first.length < 8 || first.readUInt32BE(4) !== sslRequest) {
            seen.clear++
            client.destroy()
            return
          }
          seen.encrypted++
          const upstream = Net.connect(port, "127.0.0.1")
          sockets.add(upstream)
          upstream.on("error", () => client.destroy()).on("close", () => sockets.delete(upstream))
          upstream.write(first)
          client.pipe(upstream).pipe(client)
          client.on("close", () => upstream.destroy())
        })
      })
      const own = await listen(server)
      return { server, sockets, port: own, seen: () => ({ ...seen }) }
    }),
    ({ server, sockets }) =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  )
