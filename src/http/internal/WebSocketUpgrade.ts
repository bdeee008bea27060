/**
 * Requests to turn the connection into a WebSocket.
 */
import * as Effect from "effect/Effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import type { Socket } from "effect/socket/Socket"

/** Whether a request asks for a WebSocket. Its method is GET, but it opens a channel in both directions. */
export const isUpgrade = (request: HttpServerRequest): boolean =>
  request.headers["upgrade"]?.toLowerCase() === "websocket"

/** The same request, which tells of the socket that it becomes. */
export const telling = (
  request: HttpServerRequest,
  tell: (socket: Socket) => Effect.Effect<unknown>
): HttpServerRequest =>
  Object.create(request, {
    upgrade: { get: () => Effect.tap(request.upgrade, tell) },
    // A route under a prefix is given a modified request.
    modify: {
      value: (options: Parameters<HttpServerRequest["modify"]>[0]) => telling(request.modify(options), tell)
    }
  })
