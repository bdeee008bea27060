/**
 * An `HttpClient` whose requests carry the access token of an account.
 *
 * It lives as long as the client it is made of and the `AccessTokens` it asks; it keeps nothing.
 *
 * **Details**
 *
 * Requests to the given origins, and to no other, get an `Authorization: Bearer` header (RFC 6750 section 2.1), unless they have
 * one. When one is answered by 401, its token is reported as bad and the request is sent once more with another token, if
 * the body can be sent again (a stream cannot). A second 401 is the answer, and so is the first where `AccessTokens` has no
 * other token and did not ask for one, because the last replacement did not help.
 *
 * Where there is no token the request is not sent, or not sent again, and fails with an `HttpClientError` whose `cause` is the
 * `ClientError`: a `TransportError` where it may work later, else an `EncodeError`, which nobody retries.
 *
 * **Gotchas**
 *
 * Of the first 401 no more than 64 KiB are read, within a second, and its connection is let go of before another token is asked
 * for: that may need it. What was longer cannot be read where this 401 is the answer.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as HttpClient from "effect/http/HttpClient"
import { EncodeError, HttpClientError, TransportError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { type AccessToken, AccessTokens } from "./AccessTokens.ts"
import { BadResponse, ClientError, InvalidConfig } from "../client/ClientError.ts"

/** Where the token may go. */
export interface Options {
  /** Such as `https://api.example.com`: scheme, host and port. */
  readonly origins: ReadonlyArray<string>
}

const originOf = (text: string): Effect.Effect<string, ClientError> => {
  const url = URL.parse(text)
  if (url === null || url.origin === "null" || url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    const problem = "must each be given as https://host or https://host:port"
    return Effect.fail(new ClientError({ reason: new InvalidConfig({ field: "origins", problem }) }))
  }
  return Effect.succeed(url.origin)
}

/** What is kept of a 401, for the case that it is the answer. */
const keptBytes = 64 * 1024
const keptWithin = Duration.seconds(1)

/** Reads an answer and lets go of its connection. It can be read once more. */
const keep = Effect.fnUntraced(function* (response: HttpClientResponse.HttpClientResponse) {
  const chunks: Array<Uint8Array> = []
  let length = 0
  const unread = (problem: string) => {
    const origin = URL.parse(response.request.url)?.origin ?? "the server"
    return new ClientError({
      reason: new BadResponse({ origin, problem: `the body of its ${response.status} ${problem}` })
    })
  }
  const broken = yield* response.stream.pipe(
    Stream.runForEach((chunk) => {
      length += chunk.length
      chunks.push(chunk)
      return length > keptBytes ? Effect.fail(unread(`is longer than ${keptBytes} bytes`)) : Effect.void
    }),
    Effect.catchTag("HttpClientError", (error) =>
      error.reason._tag === "EmptyBodyError" ? Effect.void : Effect.fail(ClientError.from(error))
    ),
    Effect.timeoutOrElse({
      duration: keptWithin,
      orElse: () => Effect.fail(unread(`was not over within ${Duration.format(keptWithin)}`))
    }),
    Effect.match({ onSuccess: () => undefined, onFailure: (error) => error })
  )
  const body = broken === undefined ? Buffer.concat(chunks) : new ReadableStream({ start: (it) => it.error(broken) })
  const headers = new Headers(Object.entries(response.headers).filter(([name]) => name !== "set-cookie"))
  for (const cookie of Cookies.toSetCookieHeaders(response.cookies)) headers.append("set-cookie", cookie)
  const kept = new Response(body, { status: response.status, headers })
  // Where redirects led to; of a Response that was made, nobody knows.
  Object.defineProperty(kept, "url", { value: response.url })
  return HttpClientResponse.fromWeb(response.request, kept)
})

const toHttpClientError = (request: HttpClientRequest.HttpClientRequest) => (cause: ClientError) => {
  const details = { request, cause, description: cause.message }
  const mayPass = cause.reason._tag === "RefreshFailed"
  return new HttpClientError({ reason: mayPass ? new TransportError(details) : new EncodeError(details) })
}

const canBeSentAgain = ({ body }: HttpClientRequest.HttpClientRequest) =>
  body._tag === "Empty" || body._tag === "Uint8Array" || body._tag === "FormData"

/** Makes a client that carries the tokens out of one that does not. Fails with `InvalidConfig` where an origin is none. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<HttpClient.HttpClient, ClientError, HttpClient.HttpClient | AccessTokens> {
  const client = yield* HttpClient.HttpClient
  const tokens = yield* AccessTokens
  const origins = new Set(yield* Effect.forEach(options.origins, originOf))

  const send = Effect.fnUntraced(function* (request: HttpClientRequest.HttpClientRequest) {
    const origin = URL.parse(request.url)?.origin
    if (origin === undefined || !origins.has(origin) || "authorization" in request.headers) {
      return yield* client.postprocess(Effect.succeed(request))
    }
    const toError = toHttpClientError(request)
    const withToken = (token: AccessToken) =>
      client.postprocess(Effect.succeed(HttpClientRequest.bearerToken(request, token.value)))
    const token = yield* Effect.mapError(tokens.get, toError)
    const response = yield* withToken(token)
    // Where a redirect led elsewhere, the token did not go there, also where it might have gone by itself.
    const at = URL.parse(response.url)?.origin
    if (response.status !== 401 || (at !== undefined && at !== origin)) return response
    if (!canBeSentAgain(request)) return yield* Effect.as(tokens.invalidate(token), response)
    const kept = yield* keep(response)
    yield* tokens.invalidate(token)
    const other = yield* Effect.mapError(tokens.get, toError)
    if (other === token) return kept
    return yield* withToken(other)
  })

  return HttpClient.makeWith((request) => Effect.flatMap(request, send), client.preprocess)
})

/** The `HttpClient` of the layer below, with the tokens. */
export const layer = (
  options: Options
): Layer.Layer<HttpClient.HttpClient, ClientError, HttpClient.HttpClient | AccessTokens> =>
  Layer.effect(HttpClient.HttpClient, make(options))
