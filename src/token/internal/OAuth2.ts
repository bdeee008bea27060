/**
 * The token endpoint of OAuth 2 (RFC 6749 sections 2.3, 3.2 and 5), as the sources of tokens use it.
 *
 * Nothing is kept here: a client lives as long as the source that asks with it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type { ClientError } from "../../client/ClientError.ts"
import { time } from "../../client/internal/ClientSessionOptions.ts"
import * as TokenEndpoint from "./TokenEndpoint.ts"
import type { Issued } from "../TokenSource.ts"

/** Who asks, and where. */
export interface Options {
  /** The token endpoint: https, or http on a loopback address. */
  readonly tokenUrl: string | URL
  readonly clientId: string
  /** A public client has none, and may only refresh. */
  readonly clientSecret?: Redacted.Redacted | undefined
  /**
   * How the client proves who it is: `"basic"` in a header, as every server must understand (RFC 6749 section 2.3.1), or
   * `"post"` in the body. Default: `"basic"`; without a secret always `"post"`.
   */
  readonly authentication?: "basic" | "post" | undefined
  /** Default: what the server gives by itself. */
  readonly scope?: ReadonlyArray<string> | undefined
  /** What else the server wants in the body, such as `audience` or `resource`. No secrets: those belong above. */
  readonly parameters?: Readonly<Record<string, string>> | undefined
  /** How long an access token is good where the answer does not say. Default: such an answer is refused. */
  readonly defaultLifetime?: Duration.Input | undefined
  /** How long a refresh token is good. Default: until the server refuses it. */
  readonly refreshLifetime?: Duration.Input | undefined
}

/** Longer than any token lives: ten years. An answer that says so is not to be believed. */
const longestSeconds = 10 * 365 * 24 * 3600

const Seconds = Schema.Union([
  Schema.Finite,
  // RFC 6749 wants a number; servers are about that send it as text.
  Schema.String.check(Schema.isPattern(/^-?\d{1,15}(\.\d{1,15})?$/)).pipe(Schema.decodeTo(Schema.FiniteFromString))
])

const Answer = Schema.Struct({
  access_token: TokenEndpoint.TokenText,
  token_type: Schema.String.check(Schema.isPattern(/^bearer$/i)),
  expires_in: Schema.optionalKey(Schema.NullOr(Seconds)),
  refresh_token: Schema.optionalKey(Schema.NullOr(TokenEndpoint.TokenText))
})

const expected = { schema: Answer, description: "a bearer token of RFC 6749, section 5.1" }

/** RFC 6749 section 2.3.1 wants both encoded like a form, before they are encoded like a header. */
const formEncoded = (text: string) => new URLSearchParams([["", text]]).toString().slice(1)

/** Makes what asks for a grant. Fails with `InvalidConfig` where the options make no sense. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const client = yield* HttpClient.HttpClient
  const endpoint = yield* TokenEndpoint.make("tokenUrl", options.tokenUrl)
  const { clientId, clientSecret } = options
  yield* TokenEndpoint.sendable("clientId", clientId)
  if (clientSecret !== undefined) yield* TokenEndpoint.sendable("clientSecret", Redacted.value(clientSecret))
  yield* TokenEndpoint.sendable("scope", options.scope?.join(" ") ?? "")
  yield* TokenEndpoint.sendable(
    "parameters",
    Object.entries(options.parameters ?? {})
      .flat()
      .join("=")
  )
  const isBasic = clientSecret !== undefined && options.authentication !== "post"
  const defaultLifetime =
    options.defaultLifetime === undefined
      ? undefined
      : yield* time("defaultLifetime", options.defaultLifetime, { be: "infinite" })
  const refreshLifetime = yield* time("refreshLifetime", options.refreshLifetime ?? Duration.infinity, {
    be: "infinite"
  })

  const lifetimeOf = Effect.fnUntraced(function* (
    seconds: number | null | undefined
  ): Effect.fn.Return<Duration.Duration, ClientError> {
    if (seconds === undefined || seconds === null) {
      if (defaultLifetime !== undefined) return defaultLifetime
      return yield* TokenEndpoint.bad(endpoint, "it does not say how long the token is good")
    }
    if (seconds <= 0) return yield* TokenEndpoint.bad(endpoint, "the token expired before it was issued")
    if (seconds > longestSeconds) return yield* TokenEndpoint.bad(endpoint, "the token is good for more than ten years")
    return Duration.seconds(seconds)
  })

  const request = (grant: Readonly<Record<string, string>>) => {
    const form = {
      ...options.parameters,
      ...(options.scope === undefined ? {} : { scope: options.scope.join(" ") }),
      ...grant,
      ...(isBasic ? {} : { client_id: clientId }),
      ...(isBasic || clientSecret === undefined ? {} : { client_secret: Redacted.value(clientSecret) })
    }
    const bare = HttpClientRequest.post(endpoint.url).pipe(
      HttpClientRequest.acceptJson,
      HttpClientRequest.bodyUrlParams(form)
    )
    return isBasic
      ? HttpClientRequest.basicAuth(bare, formEncoded(clientId), formEncoded(Redacted.value(clientSecret)))
      : bare
  }

  const ask = Effect.fnUntraced(function* (
    grant: Readonly<Record<string, string>>
  ): Effect.fn.Return<Issued, ClientError> {
    const { answer } = yield* TokenEndpoint.exchange(client, endpoint, request(grant), expected)
    const { access_token: access, expires_in: seconds, refresh_token: refresh } = answer
    return {
      access: { value: Redacted.make(access), lifetime: yield* lifetimeOf(seconds) },
      refresh: refresh ? { value: Redacted.make(refresh), lifetime: refreshLifetime } : undefined
    }
  })

  return { origin: endpoint.origin, ask }
})
