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
import { createServer } from "node:http"
import type { Duplex } from "node:stream"
import * as Problem from "../http/Problem.ts"
import { SettingsError } from "./Settings.ts"

/** What HTTP itself forbids never reaches the router, and is a problem all the same. */
const refuse = (error: NodeJS.ErrnoException, socket: Duplex): void => {
  if (!socket.writable) {
    socket.destroy(error)
    return
  }
  const [status, reason] =
    error.code === "HPE_HEADER_OVERFLOW" ? [431, "Request Header Fields Too Large"] : [400, "Bad Request"]
  const detail = "The request is no valid HTTP, or its headers are larger than 16 KiB."
  const body = problem(Number(status), "RequestInvalid", "The request is malformed", detail)
  const headers = [`HTTP/1.1 ${status} ${reason}`, "Connection: close", "Content-Type: application/problem+json"]
  socket.end([...headers, `Content-Length: ${Buffer.byteLength(body)}`, "", body].join("\r\n"))
}

const problem = (status: number, code: string, title: string, detail: string) =>
  JSON.stringify({ type: Problem.typeOf(code), title, status, detail, code })

/** Connections are accepted a moment before there is a router: who is that early gets an answer too. */
const server = () => {
  const server = createServer().on("clientError", refuse)
  server.on("request", (_, response) => {
    if (server.listenerCount("request") > 1) return
    const body = problem(503, "NotReady", "The service is not ready", "The service is starting. Ask again in a second.")
    response.writeHead(503, { "content-type": "application/problem+json", "retry-after": "1" }).end(body)
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
