/**
 * Real HTTP and HTTPS servers for clients to meet, good ones and bad ones, which count what is connected to them.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { once } from "node:events"
import * as Http from "node:http"
import * as Http2 from "node:http2"
import * as Https from "node:https"
import type { AddressInfo, Server, Socket } from "node:net"
import * as Net from "node:net"
import * as Tls from "node:tls"
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

/** Made once: making one takes longer than most tests. */
let certificate: ReturnType<typeof Certificate.make> | undefined
const ownCertificate = () => (certificate ??= Certificate.make())

/** HTTPS with a certificate of its own, which it tells. */
export const https = (handler: Http.RequestListener) =>
  Effect.suspend(() => {
    const { cert, key } = ownCertificate()
    return Effect.map(
      until(() => Https.createServer({ cert, key }, handler), "https"),
      (server) => ({ ...server, ca: cert })
    )
  })

/** Whatever is done with a bare connection. */
export const raw = (connected: (socket: Socket) => void) => until(() => Net.createServer(connected), "http")

/** The same behind TLS, with the certificate of {@link https}. */
const rawSecure = (connected: (socket: Socket) => void) =>
  Effect.suspend(() => {
    const { cert, key } = ownCertificate()
    return until(() => Tls.createServer({ cert, key }, connected).on("tlsClientError", () => undefined), "https")
  })

/** HTTP and HTTPS on one port: told apart by the first byte, which is 22 for TLS (RFC 8446, 5.1). */
export const both = (handler: Http.RequestListener) =>
  Effect.suspend(() => {
    const { cert, key } = ownCertificate()
    const plain = Http.createServer(handler)
    const secure = Https.createServer({ cert, key }, handler)
    return raw((socket) =>
      socket.once("readable", () => {
        const first: Buffer | null = socket.read(1)
        if (first === null) return
        socket.unshift(first)
        ;(first[0] === 22 ? secure : plain).emit("connection", socket)
      })
    )
  })

/** Agrees on no protocol but HTTP/2. */
export const http2Only = Effect.suspend(() => {
  const { cert, key } = ownCertificate()
  return until(() => Http2.createSecureServer({ cert, key, allowHTTP1: false }), "https")
})

/** What clients have to trust to speak to servers over HTTPS. */
export const ca = () => ownCertificate().cert

/** Servers of all kinds, over one of the two protocols. */
const kindsOver = (
  http: (handler: Http.RequestListener) => Effect.Effect<TestServer, never, Scope.Scope>,
  raw: (connected: (socket: Socket) => void) => Effect.Effect<TestServer, never, Scope.Scope>
) => ({
  /** Answers at once. */
  good: http((request, response) => {
    response.end(`${request.method} ${request.url}`)
  }),
  /** Accepts and never says a word. */
  silent: raw((socket) => socket.resume()),
  /** Begins an answer and sends a byte of it now and then, for ever. */
  dripping: http((_, response) => {
    response.writeHead(200)
    const drip = setInterval(() => response.write("."), 5)
    response.on("close", () => clearInterval(drip))
  }),
  /** Begins an answer and sends no more. */
  stopping: http((_, response) => response.writeHead(200).write("begun")),
  /** Breaks the connection in the middle of the head, or of the body: with a reset, where it is not encrypted. */
  resetting: (where: "head" | "body") =>
    raw((socket) =>
      socket.once("data", () => {
        const half = where === "head" ? "HTTP/1.1 200 O" : "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun"
        const breakOff = () => (socket instanceof Tls.TLSSocket ? socket.destroy() : socket.resetAndDestroy())
        socket.write(half, () => setTimeout(breakOff, 20))
      })
    ),
  /** Sends everybody round for ever. */
  redirecting: http((request, response) => {
    const round = Number(new URL(request.url ?? "/", "http://x").searchParams.get("round") ?? 0)
    response.writeHead(302, { location: `/?round=${round + 1}` }).end("away")
  })
})

export const over = { http: kindsOver(http, raw), https: kindsOver(https, rawSecure) }
export const { dripping, good, redirecting, resetting, silent } = over.http
