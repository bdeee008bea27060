/**
 * Bodies of requests whose work may be interrupted.
 *
 * A body is read while its reader lives. When the reader is interrupted, such as by the end of its session, the rest of the
 * body is left to the server, which answers first and then drains the rest or closes the connection.
 *
 * **Details**
 *
 * `HttpServerRequest.arrayBuffer` of `@effect/platform-node` destroys the connection with its reader, and no client could be
 * told why. Its `stream` does not, so the body is read as a stream.
 */
import * as ByteSize from "effect/ByteSize"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpServerError from "effect/http/HttpServerError"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as Stream from "effect/Stream"

const joined = (chunks: ReadonlyArray<Uint8Array>, length: number): ArrayBuffer => {
  const whole = new Uint8Array(length)
  let at = 0
  for (const chunk of chunks) {
    whole.set(chunk, at)
    at += chunk.length
  }
  return whole.buffer
}

const tooLarge = (request: HttpServerRequest) =>
  Effect.fail(
    new HttpServerError.HttpServerError({
      reason: new HttpServerError.RequestParseError({ request, reason: "BodyTooLarge" })
    })
  )

/** Refuses a body that says that it has more bytes than are taken. */
export const fits = (request: HttpServerRequest) =>
  Effect.flatMap(HttpIncomingMessage.MaxBodySize, (most) =>
    most !== undefined && Number(request.headers["content-length"]) > ByteSize.toNumberUnsafe(most)
      ? tooLarge(request)
      : Effect.void
  )

const read = (request: HttpServerRequest) =>
  Effect.flatMap(HttpIncomingMessage.MaxBodySize, (size) => {
    const most = size === undefined ? Infinity : ByteSize.toNumberUnsafe(size)
    const chunks: Array<Uint8Array> = []
    let length = 0
    const taken = Stream.runForEachArray(request.stream, (some) => {
      for (const chunk of some) {
        chunks.push(chunk)
        length += chunk.length
      }
      return length > most ? tooLarge(request) : Effect.void
    })
    return Effect.map(taken, () => joined(chunks, length))
  })

const known: unique symbol = Symbol("holdfast/http/RequestBody")

/** No call reads a body of these (RFC 9110 9.3.1, 9.3.2). */
const isBodiless = ({ method }: HttpServerRequest): boolean => method === "GET" || method === "HEAD"

/** The same request, whose body is read so. */
export const interruptible = (request: HttpServerRequest): HttpServerRequest => {
  if (isBodiless(request) || known in request) return request
  let whole: HttpServerRequest["arrayBuffer"] | undefined
  return Object.create(request, {
    [known]: { value: true },
    arrayBuffer: { get: () => (whole ??= Effect.runSync(Effect.cached(read(request)))) }
  })
}

/** The context of work that may be interrupted while it reads the body of its request. */
export const within = <R>(context: Context.Context<R>): Context.Context<R> => {
  const sent = Context.getOrUndefined(context, HttpServerRequest)
  const request = sent === undefined ? sent : interruptible(sent)
  return request === undefined || request === sent ? context : Context.add(context, HttpServerRequest, request)
}
