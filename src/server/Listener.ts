/**
 * The socket that the service listens on.
 *
 * It is open from when its layer is built until the layer closes: then no connection is accepted, running requests are
 * answered within two seconds, and the rest is cut.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Buffer } from "node:buffer"
import { createServer, type ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import * as Problem from "../http/Problem.ts"
import * as SecurityHeaders from "./SecurityHeaders.ts"
import { SettingsError } from "./Settings.ts"

/** As text: there is no router where these are answered. */
function problem(status: number, code: string, title: string, detail: string): string {
  return JSON.stringify({ type: Problem.typeOf(code), title, status, detail, code })
}

const answer = (
  response: ServerResponse,
  status: number,
  body: string,
  headers: Readonly<Record<string, string>>
): void => {
  const content = { "content-type": "application/problem+json", "content-length": Buffer.byteLength(body) }
  response.writeHead(status, { ...SecurityHeaders.everywhere, ...headers, ...content }).end(body)
}

/** What HTTP itself forbids never reaches the router, and is a problem all the same. */
const refusals: Readonly<Record<string, readonly [status: string, body: string]>> = {
  HPE_HEADER_OVERFLOW: [
    "431 Request Header Fields Too Large",
    problem(431, "HeadersTooLarge", "The headers are too large", "The headers of a request are at most 16 KiB.")
  ],
  ERR_HTTP_REQUEST_TIMEOUT: [
    "408 Request Timeout",
    problem(408, "RequestTimeout", "The request took too long", "Send the request again, without a pause in it.")
  ]
}
const malformed = [
  "400 Bad Request",
  problem(400, "RequestInvalid", "The request is malformed", "The request is no valid HTTP.")
] as const

const safety = Object.entries(SecurityHeaders.everywhere).map(([name, value]) => `${name}: ${value}`)

/** Sockets that were refused. What still arrives on them is not looked at. */
const refused = new WeakSet<Duplex>()

/**
 * Answers, and closes the socket from this side too, a moment later: a client that never closes its own must not keep it, and
 * one that still sends would not see the answer if it were closed at once (RFC 9112 9.6).
 */
const refuse = (error: NodeJS.ErrnoException, socket: Duplex): void => {
  if (refused.has(socket)) return
  refused.add(socket)
  if (!socket.writable) {
    socket.destroy(error)
    return
  }
  setTimeout(() => socket.destroy(), 1000).unref()
  const [status, body] = refusals[error.code ?? ""] ?? malformed
  const headers = [`HTTP/1.1 ${status}`, "Connection: close", "Content-Type: application/problem+json", ...safety]
  socket.end([...headers, `Content-Length: ${Buffer.byteLength(body)}`, "", body].join("\r\n"))
}

/** The only expectation there is, is `100-continue` (RFC 9110 10.1.1). */
const unmet = (_: unknown, response: ServerResponse): void => {
  const body = problem(417, "ExpectationFailed", "The expectation cannot be met", "Expect nothing but 100-continue.")
  answer(response, 417, body, { connection: "close" })
}

/** Connections are accepted a moment before there is a router: who is that early gets an answer too. */
const server = () => {
  // Its hosts are looked at with its path.
  const server = createServer({ requireHostHeader: false }).on("clientError", refuse).on("checkExpectation", unmet)
  server.on("request", (_, response) => {
    if (server.listenerCount("request") > 1) return
    const body = problem(503, "NotReady", "The service is not ready", "The service is starting. Ask again in a second.")
    answer(response, 503, body, { "retry-after": "1" })
  })
  return server
}

/** Listens, or fails with what to change. */
export const layer = (options: { readonly port: number; readonly host: string }) =>
  NodeHttpServer.layer(server, {
    ...options,
    gracefulShutdownTimeout: "2 seconds"
  }).pipe(
    Layer.catchTag("ServeError", ({ cause }) =>
      Layer.effectContext(
        Effect.fail(
          new SettingsError({
            variable: "PORT",
            problem: `${options.port} on HOST ${options.host} cannot be had: ${cause instanceof Error ? cause.message : String(cause)}. Set another, such as PORT=3001`
          })
        )
      )
    )
  )

/**
 * Fails as {@link layer} would, before anything else is begun: what runs already has things to say, and there is to be one line
 * that tells what to change.
 */
export const probe = (options: { readonly port: number; readonly host: string }) =>
  Effect.scoped(Layer.build(layer(options)))
