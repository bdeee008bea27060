/**
 * An `HttpClient` whose requests carry the access token of an account.
 *
 * It lives as long as the client it is made of and the `AccessTokens` it asks; it keeps nothing.
 *
 * **Details**
 *
 * Requests to the given origins, and to no other, get an `Authorization: Bearer` header (RFC 6750 section 2.1), unless they have
 * one. When one is answered by 401, its token is reported as bad and the request is sent once more with another token, if
 * there is one and the body can be sent again (a stream cannot). A second 401 is the answer.
 *
 * Where there is no token the request is not sent, and fails with an `HttpClientError` whose `cause` is the `ClientError`:
 * a `TransportError` where it may work later, else an `EncodeError`, which nobody retries.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import { EncodeError, HttpClientError, TransportError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { type AccessToken, AccessTokens } from "./AccessTokens.ts"
import { ClientError, InvalidConfig } from "./ClientError.ts"

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

/** What is read of an answer that is thrown away, so that its connection can be used again. */
const drainedBytes = 64 * 1024

const drain = (response: HttpClientResponse): Effect.Effect<void> => {
  let length = 0
  return response.stream.pipe(
    Stream.runForEachWhile((chunk) => Effect.sync(() => (length += chunk.length) < drainedBytes)),
    Effect.timeoutOption("1 second"),
    Effect.ignore
  )
}

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
    if (response.status !== 401) return response
    yield* tokens.invalidate(token)
    if (!canBeSentAgain(request)) return response
    // Without another token, what the server said is the better answer.
    const other = yield* Effect.orElseSucceed(tokens.get, () => token)
    if (other === token) return response
    yield* drain(response)
    return yield* withToken(other)
  })

  return HttpClient.makeWith((request) => Effect.flatMap(request, send), client.preprocess)
})

/** The `HttpClient` of the layer below, with the tokens. */
export const layer = (
  options: Options
): Layer.Layer<HttpClient.HttpClient, ClientError, HttpClient.HttpClient | AccessTokens> =>
  Layer.effect(HttpClient.HttpClient, make(options))
