/**
 * A server that issues tokens, and what its answers mean.
 *
 * An exchange lives in the scope of the call: its connection is given back, or closed, before the call returns. Nothing that
 * was sent or received reaches an error, a log or a span: exchanges are not traced, servers are named by their origin, and
 * what a server says in its own words is not repeated.
 *
 * **Details**
 *
 * What the server answers decides the kind of error: 408, 429, 5xx, no answer at all and an `error` that says so mean that it may
 * work later (`RefreshFailed`), any other 4xx, and an `error` of RFC 6749 in a 2xx, that the credentials are refused
 * (`TokenRefused`), everything else that is not 2xx and within 64 KiB of JSON of the expected form is a `BadResponse`.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Buffer } from "node:buffer"
import { BadResponse, ClientError, InvalidConfig, RefreshFailed, TokenRefused } from "../../client/ClientError.ts"

/** Where tokens are issued. */
export interface TokenEndpoint {
  readonly origin: string
  readonly url: string
}

/**
 * Reads the URL of an endpoint, which must be https, or http on a loopback address (RFC 6749 section 3.2). Fails with
 * `InvalidConfig` where it is not.
 */
export const make = (field: string, text: string | URL): Effect.Effect<TokenEndpoint, ClientError> => {
  const invalid = (problem: string) =>
    Effect.fail(
      new ClientError({ reason: new InvalidConfig({ field, problem: `${problem}. Give it as https://host/path` }) })
    )
  const url = String(text).isWellFormed() ? URL.parse(String(text)) : null
  if (url === null) return invalid("is no URL")
  const isLoopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname)
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isLoopback)) {
    return invalid("would send secrets in the clear")
  }
  if (url.username !== "" || url.password !== "" || url.hash !== "") {
    return invalid("must not hold a user, a password or a fragment")
  }
  return Effect.succeed({ origin: url.origin, url: url.href })
}

/** Fails with `InvalidConfig` where a text of the options would be sent as another one. */
export const sendable = (field: string, text: string): Effect.Effect<void, ClientError> =>
  text.isWellFormed()
    ? Effect.void
    : Effect.fail(
        new ClientError({
          reason: new InvalidConfig({
            field,
            problem: "holds half of a surrogate pair, which no form can. See how it was cut"
          })
        })
      )

/** An answer that cannot be used; `problem` is in our own words. */
export const bad = ({ origin }: TokenEndpoint, problem: string) =>
  new ClientError({ reason: new BadResponse({ origin, problem }) })

const unavailable = ({ origin }: TokenEndpoint, problem: string) =>
  new ClientError({ reason: new RefreshFailed({ origin, problem, last: undefined }) })

/** What requests may carry: visible ASCII, so nothing that could end a header (RFC 6750 section 2.1 is stricter). */
export const TokenText = Schema.String.check(Schema.isPattern(/^[\x21-\x7e]+$/))

const maxBytes = 64 * 1024

/** RFC 6749 sections 5.2 and 4.1.2.1, RFC 8628. Other words could be anything, a secret included. */
const codes = [
  "invalid_request",
  "invalid_client",
  "invalid_grant",
  "unauthorized_client",
  "unsupported_grant_type",
  "invalid_scope",
  "access_denied",
  "server_error",
  "temporarily_unavailable",
  "slow_down"
] as const
const decodeRefusal = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Struct({ error: Schema.Literals(codes) }))
)

/** Those that say nothing about the credentials. */
const mayPass: ReadonlySet<string> = new Set(["server_error", "temporarily_unavailable", "slow_down"])

const isUnavailable = (status: number) => status === 408 || status === 429 || status >= 500

/** Why there was no answer, without anything that was sent: what the operating system calls it, at most. */
const absence = (error: HttpClientError): string => {
  for (let cause: unknown = error.reason; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ClientError) return cause.message
    if ("code" in cause && typeof cause.code === "string" && /^[A-Z_]{1,40}$/.test(cause.code)) {
      return `no answer (${cause.code})`
    }
  }
  return "no answer"
}

/** A mark of the byte order is none of the text: RFC 8259 section 8.1 lets a reader pass over it. */
const utf8 = new TextDecoder()

const bodyOf = (endpoint: TokenEndpoint, response: HttpClientResponse) =>
  Effect.suspend(() => {
    const chunks: Array<Uint8Array> = []
    let length = 0
    return Effect.map(
      Stream.runForEach(response.stream, (chunk) => {
        chunks.push(chunk)
        length += chunk.length
        return length > maxBytes ? Effect.fail(bad(endpoint, `it is longer than ${maxBytes} bytes`)) : Effect.void
      }),
      () => utf8.decode(Buffer.concat(chunks))
    )
  })

/** Sends a request and decodes the answer. */
export const exchange = <A>(
  client: HttpClient.HttpClient,
  endpoint: TokenEndpoint,
  request: HttpClientRequest.HttpClientRequest,
  expected: { readonly schema: Schema.ConstraintDecoder<A>; readonly description: string }
): Effect.Effect<{ readonly answer: A; readonly response: HttpClientResponse }, ClientError> => {
  const decode = Schema.decodeUnknownOption(Schema.fromJsonString(expected.schema))
  return HttpClient.withScope(client)
    .execute(request)
    .pipe(
      Effect.flatMap(
        Effect.fnUntraced(function* (response) {
          const { status } = response
          if (isUnavailable(status)) return yield* unavailable(endpoint, `it answered ${status}`)
          if (status < 200 || (status >= 300 && status < 400)) {
            return yield* bad(endpoint, `status ${status} where tokens were expected`)
          }
          const body = yield* bodyOf(endpoint, response)
          const answer = status >= 400 ? Option.none() : decode(body)
          if (Option.isSome(answer)) return { answer: answer.value, response }
          // Some servers say 200 with it.
          const code = Option.getOrUndefined(decodeRefusal(body))?.error
          if (code !== undefined && mayPass.has(code)) return yield* unavailable(endpoint, `it answered ${code}`)
          if (status < 400 && code === undefined) return yield* bad(endpoint, `it is not ${expected.description}`)
          return yield* new ClientError({ reason: new TokenRefused({ origin: endpoint.origin, status, code }) })
        })
      ),
      Effect.catchTag("HttpClientError", (error) => Effect.fail(unavailable(endpoint, absence(error)))),
      Effect.scoped,
      Effect.provideService(HttpClient.TracerDisabledWhen, () => true)
    )
}
