/**
 * Who looks at each request when it is over: metrics and the access log, where they are asked for.
 *
 * A request is seen from when its headers were read until its answer was sent, or its connection was closed. Where nobody looks,
 * nothing is done for a request.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import type { IncomingMessage, ServerResponse } from "node:http"

/** A request that is over. */
export interface Seen {
  readonly request: IncomingMessage
  readonly method: string
  /** The path as the API has it; undefined for what is no call of the service. */
  readonly route: string | undefined
  /** As the router has it, with what a trusted proxy says of the client; undefined where it did not come so far. */
  readonly from: HttpServerRequest.HttpServerRequest | undefined
  /** Of the answer; 499 where the client was gone before it had all of it. */
  readonly status: number
  readonly millis: number
  /** Bytes of the answer, headers included. */
  readonly bytes: number
}

export type Observer = (seen: Seen) => void

/** Those who look. Default: nobody. */
export const RequestObservers = Context.Reference<ReadonlyArray<Observer>>("holdfast/server/RequestObservers", {
  defaultValue: () => []
})

/** The status that nginx gave this: there is none for a client that is gone. */
const clientGone = 499

const passage = Symbol("holdfast/server/RequestObservers/passage")

/** What is known of a request meanwhile. On the message itself: a map from it would cost more than the rest. */
class Passage {
  route: string | undefined = undefined
  from: HttpServerRequest.HttpServerRequest | undefined = undefined
  readonly startedAt = performance.now()
  readonly written: number

  constructor({ socket }: IncomingMessage) {
    this.written = socket.bytesWritten
  }
}

interface Watched extends IncomingMessage {
  [passage]?: Passage
}

/** What a server calls for each request, or undefined where nobody looks. */
export const watcher = (observers: ReadonlyArray<Observer>) => {
  if (observers.length === 0) return undefined
  // One function for all of them.
  function seen(this: ServerResponse): void {
    const request: Watched = this.req
    const known = request[passage]
    if (known === undefined) return
    const over: Seen = {
      request,
      method: request.method ?? "",
      route: known.route,
      from: known.from,
      status: this.writableFinished ? this.statusCode : clientGone,
      millis: performance.now() - known.startedAt,
      bytes: request.socket.bytesWritten - known.written
    }
    for (const observer of observers) observer(over)
  }
  return (request: Watched, response: ServerResponse): void => {
    if (request[passage] !== undefined) return
    request[passage] = new Passage(request)
    response.once("close", seen)
  }
}

/** Takes note of a request as the router has it. */
export const came = (request: HttpServerRequest.HttpServerRequest): void => {
  const known = (NodeHttpServerRequest.toIncomingMessage(request) as Watched)[passage]
  if (known !== undefined) known.from = request
}

/** Takes note of the route that a router has found for the request in context. */
export const routed = <A, E, R>(handled: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.ensuring(handled, note)

const note = Effect.withFiber(({ context }) => {
  const found = Context.getOrUndefined(context, HttpRouter.RouteContext)
  if (found === undefined) return Effect.void
  const request = NodeHttpServerRequest.toIncomingMessage(
    Context.getUnsafe(context, HttpServerRequest.HttpServerRequest)
  ) as Watched
  const known = request[passage]
  if (known !== undefined) known.route = found.route.path
  return Effect.void
})
