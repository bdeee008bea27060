/**
 * Requests and answers of a `SnowflakeServer` over `node:http`: its sockets, which it counts, and their end.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import type { AddressInfo, Socket } from "node:net"

/** A request, whole. */
export interface Request {
  readonly method: string
  readonly url: URL
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

/** An answer. `body` is sent as it is. */
export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array
}

/** What happens on the wire: an answer, a reset, or nothing ever. */
export type Deed = Reply | "reset" | "silence"

export interface Listening {
  readonly url: string
  /** Connections now. */
  readonly sockets: () => number
  /** Connections so far. */
  readonly accepted: () => number
}

const largest = 16 * 1024 * 1024

/** A request with more than so many bytes is answered as Snowflake does. */
export const tooLarge = Symbol("too large")

const read = (request: Http.IncomingMessage, done: (body: string | typeof tooLarge) => void): void => {
  const chunks: Array<Buffer> = []
  let size = 0
  request.on("data", (chunk: Buffer) => {
    size += chunk.length
    if (size <= largest) chunks.push(chunk)
  })
  request.on("end", () => done(size > largest ? tooLarge : Buffer.concat(chunks).toString("utf8")))
  request.on("error", () => undefined)
}

/** Listens on a free port of the loopback address until the scope closes. */
export const listen = (
  handle: (request: Omit<Request, "body">, body: string | typeof tooLarge) => Effect.Effect<Deed>
): Effect.Effect<Listening, never, Scope.Scope> =>
  Effect.flatMap(Effect.context<never>(), (services) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.callback<{ readonly listening: Listening; readonly close: Effect.Effect<void> }>((resume) => {
          const sockets = new Set<Socket>()
          let accepted = 0
          const run = Effect.runForkWith(services)
          const server = Http.createServer((incoming, outgoing) => {
            read(incoming, (body) => {
              const { headers, method = "GET" } = incoming
              const url = new URL(incoming.url ?? "/", "http://localhost")
              run(
                Effect.map(handle({ method, url, headers }, body), (deed) => {
                  if (deed === "silence") return
                  if (deed === "reset") return void incoming.socket.resetAndDestroy()
                  outgoing.writeHead(deed.status, { ...deed.headers, "content-length": String(deed.body.length) })
                  outgoing.end(deed.body)
                })
              )
            })
          })
          server.on("connection", (socket: Socket) => {
            accepted++
            sockets.add(socket)
            socket.on("error", () => undefined)
            socket.on("close", () => sockets.delete(socket))
          })
          server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
            const { port } = server.address() as AddressInfo
            const close = Effect.callback<void>((resume) => {
              server.close(() => resume(Effect.void))
              for (const socket of sockets) socket.destroy()
            })
            const url = `http://127.0.0.1:${port}`
            resume(Effect.succeed({ listening: { url, sockets: () => sockets.size, accepted: () => accepted }, close }))
          })
        }),
        ({ close }) => close
      ),
      ({ listening }) => listening
    )
  )
