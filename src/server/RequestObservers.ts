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
  /** Bytes of the answer, headers included; 0 where no observer counts them. */
  readonly bytes: number
}

export interface Observer {
  /** Whether it needs the bytes of an answer, which are dear to ask for. Default: no. */
  readonly countsBytes?: boolean
  /** What it is told is its own only until it returns. */
  readonly over: (seen: Seen) => void
}

/** Those who look. Default: nobody. */
export const RequestObservers = Context.Reference<ReadonlyArray<Observer>>("holdfast/server/RequestObservers", {
  defaultValue: () => []
})

/** The status that nginx gave this: there is none for a client that is gone. */
const clientGone = 499

const passage = Symbol("holdfast/server/RequestObservers/passage")

/** What is known of a request, meanwhile and when it is over. */
class Passage implements Seen {
  readonly request: IncomingMessage
  readonly method: string
  route: string | undefined = undefined
  from: HttpServerRequest.HttpServerRequest | undefined = undefined
  status = 0
  millis: number
  bytes: number

  constructor(request: IncomingMessage, written: number) {
    this.request = request
    this.method = request.method ?? ""
    // Until it is over, when it began.
    this.millis = performance.now()
    this.bytes = written
  }
}

/** On the message itself: a map from it would cost more than the rest. */
interface Watched extends IncomingMessage {
  [passage]?: Passage
}

/** What a server calls for each request, or undefined where nobody looks. */
export const watcher = (observers: ReadonlyArray<Observer>) => {
  if (observers.length === 0) return undefined
  const countsBytes = observers.some((observer) => observer.countsBytes)
  // One function for all of them.
  function seen(this: ServerResponse): void {
    const known = (this.req as Watched)[passage]
    if (known === undefined) return
    known.status = this.writableFinished ? this.statusCode : clientGone
    known.millis = performance.now() - known.millis
    if (countsBytes) known.bytes = this.req.socket.bytesWritten - known.bytes
    for (const observer of observers) observer.over(known)
  }
  return (request: Watched, response: ServerResponse): void => {
    if (request[passage] !== undefined) return
    request[passage] = new Passage(request, countsBytes ? request.socket.bytesWritten : 0)
    // It closes once.
    response.on("close", seen)
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
