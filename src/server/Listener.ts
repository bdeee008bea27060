/**
 * The socket that the service listens on.
 *
 * It is open from when its layer is built until the layer closes: then no connection is accepted, running requests are
 * answered within two seconds, and the rest is cut.
 */
import { NodeHttpServer } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Buffer } from "node:buffer"
import { createServer } from "node:http"
import type { Duplex } from "node:stream"
import * as Problem from "../Problem.ts"
import { SettingsError } from "./Settings.ts"

/** What HTTP itself forbids never reaches the router, and is a problem all the same. */
const refuse = (error: NodeJS.ErrnoException, socket: Duplex): void => {
  if (!socket.writable) {
    socket.destroy(error)
    return
  }
  const [status, reason] =
    error.code === "HPE_HEADER_OVERFLOW" ? [431, "Request Header Fields Too Large"] : [400, "Bad Request"]
  const code = "RequestInvalid"
  const detail = "The request is no valid HTTP, or its headers are larger than 16 KiB."
  const body = JSON.stringify({ type: Problem.typeOf(code), title: "The request is malformed", status, detail, code })
  const headers = [`HTTP/1.1 ${status} ${reason}`, "Connection: close", "Content-Type: application/problem+json"]
  socket.end([...headers, `Content-Length: ${Buffer.byteLength(body)}`, "", body].join("\r\n"))
}

/** Listens, or fails with what to change. */
export const layer = (options: { readonly port: number; readonly host: string }) =>
  NodeHttpServer.layer(() => createServer().on("clientError", refuse), {
    ...options,
    gracefulShutdownTimeout: "2 seconds"
  }).pipe(
    Layer.catchTag("ServeError", ({ cause }) =>
      Layer.effectContext(
        Effect.fail(
          new SettingsError({
            variable: "PORT or HOST",
            problem: `cannot be had: ${cause instanceof Error ? cause.message : String(cause)}`
          })
        )
      )
    )
  )
