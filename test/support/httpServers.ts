/**
 * Real HTTP and HTTPS servers for clients to meet, good ones and bad ones, which count what is connected to them.
 */
import * as Effect from "effect/Effect"
import { once } from "node:events"
import * as Http from "node:http"
import * as Https from "node:https"
import type { AddressInfo, Server, Socket } from "node:net"
import * as Net from "node:net"
import * as Certificate from "./certificate.ts"
import { eventually } from "./conditions.ts"

/** A server that runs until the end of the scope. */
export interface TestServer {
  readonly url: string
  /** Connections now. */
  readonly sockets: () => number
  /** Connections so far. */
  readonly accepted: () => number
  /** Fails when a connection stays. */
  readonly allClosed: Effect.Effect<void, "not yet">
}

const listen = (server: Server, scheme: string): Effect.Effect<TestServer> =>
  Effect.promise(async () => {
    const sockets = new Set<Socket>()
    let accepted = 0
    // The raw connection, also where TLS never comes about.
    server.on("connection", (socket: Socket) => {
      accepted++
      sockets.add(socket)
      socket.on("error", () => undefined)
      socket.on("close", () => sockets.delete(socket))
    })
    // Room for a thousand that come at once.
    server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 })
    await once(server, "listening")
    const { port } = server.address() as AddressInfo
    return {
      url: `${scheme}://127.0.0.1:${port}`,
      sockets: () => sockets.size,
      accepted: () => accepted,
      allClosed: Effect.asVoid(
        eventually(
          Effect.sync(() => sockets.size),
          (open) => open === 0,
          "5 seconds"
        )
      ),
      stop: () => {
        for (const socket of sockets) socket.destroy()
        server.close()
      }
    }
  })

const until = (server: () => Server, scheme: string) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.suspend(() => listen(server(), scheme)),
      (running) => Effect.sync(() => (running as TestServer & { readonly stop: () => void }).stop())
    ),
    (running): TestServer => running
  )

/** HTTP that answers as it is told. */
export const http = (handler: Http.RequestListener) => until(() => Http.createServer(handler), "http")

/** HTTPS with a certificate of its own, which it tells. */
export const https = (handler: Http.RequestListener) =>
  Effect.suspend(() => {
    const { cert, key } = Certificate.make()
    return Effect.map(
      until(() => Https.createServer({ cert, key }, handler), "https"),
      (server) => ({ ...server, ca: cert })
    )
  })

/** Whatever is done with a bare connection. */
export const raw = (connected: (socket: Socket) => void) => until(() => Net.createServer(connected), "http")

/** Accepts and never says a word. */
export const silent = raw((socket) => socket.resume())

/** Begins an answer and sends a byte of it now and then, for ever. */
export const dripping = http((_, response) => {
  response.writeHead(200)
  const drip = setInterval(() => response.write("."), 5)
  response.on("close", () => clearInterval(drip))
})

/** Resets the connection in the middle of the head, or of the body. */
export const resetting = (where: "head" | "body") =>
  raw((socket) =>
    socket.once("data", () => {
      socket.write(where === "head" ? "HTTP/1.1 200 O" : "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun", () =>
        setTimeout(() => socket.resetAndDestroy(), 20)
      )
    })
  )

/** Sends everybody round for ever. */
export const redirecting = http((request, response) => {
  const round = Number(new URL(request.url ?? "/", "http://x").searchParams.get("round") ?? 0)
  response.writeHead(302, { location: `/?round=${round + 1}` }).end("away")
})

/** Answers at once. */
export const good = http((request, response) => {
  response.end(`${request.method} ${request.url}`)
})
