/**
 * Tokens by a login in two steps, as market-data services have it: mail address and password give a refresh token that is good
 * for a week, and that gives the id token, good for a day, which requests carry. J-Quants is the example whose
 * names are the defaults.
 *
 * The source lives as long as the `HttpClient` that it is made with, and keeps nothing.
 *
 * **Details**
 *
 * Such a server does not say how long its tokens are good: the documented times are options. An id token that is a JWT
 * (RFC 7519) says when it expires, which may shorten the documented time, told by the server's own clock where it sends a
 * `Date`.
 *
 * **Gotchas**
 *
 * The refresh token travels in the query, as such a server wants it. The exchange is not traced; see to it that no proxy
 * logs it. Give the source a plain client, not one that adds the tokens it is to get.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import type { ClientError } from "../client/ClientError.ts"
import { time } from "../client/internal/ClientSessionOptions.ts"
import * as TokenEndpoint from "./internal/TokenEndpoint.ts"
import { TokenSource } from "./TokenSource.ts"

/** Who logs in, and where. */
export interface Options {
  /** Such as `https://api.jquants.com`: https, or http on a loopback address. */
  readonly baseUrl: string | URL
  readonly mailAddress: string
  readonly password: Redacted.Redacted
  /** Takes `{mailaddress, password}` and answers `{refreshToken}`. Default: `/v1/token/auth_user`. */
  readonly loginPath?: string | undefined
  /** Takes `?refreshtoken=` and answers `{idToken}`. Default: `/v1/token/auth_refresh`. */
  readonly refreshPath?: string | undefined
  /** Default: a week. */
  readonly refreshTokenLifetime?: Duration.Input | undefined
  /** Default: a day. */
  readonly idTokenLifetime?: Duration.Input | undefined
}

const login = {
  schema: Schema.Struct({ refreshToken: TokenEndpoint.TokenText }),
  description: "an object with a `refreshToken`"
}
const second = {
  schema: Schema.Struct({ idToken: TokenEndpoint.TokenText }),
  description: "an object with an `idToken`"
}

const decodeClaims = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({ exp: Schema.Finite })))

/** When a JWT expires, in seconds of the epoch. */
const expiryOf = (token: string): number | undefined => {
  const [, claims, signature] = token.split(".")
  if (claims === undefined || signature === undefined) return undefined
  return Option.getOrUndefined(decodeClaims(Buffer.from(claims, "base64url").toString("utf8")))?.exp
}

const serverMillis = (response: HttpClientResponse, now: number): number => {
  const date = Headers.parseHttpDate(response.headers["date"] ?? "")
  return Result.isFailure(date) ? now : DateTime.toEpochMillis(date.success)
}

const endless = { be: "infinite" } as const

/** Makes the source. Fails with `InvalidConfig`, which names the option, where one makes no sense. */
export const make = Effect.fnUntraced(function* (
  options: Options
): Effect.fn.Return<TokenSource["Service"], ClientError, HttpClient.HttpClient> {
  const client = yield* HttpClient.HttpClient
  const base = yield* TokenEndpoint.make("baseUrl", options.baseUrl)
  const endpointOf = (path: string) => TokenEndpoint.make("baseUrl", base.url.replace(/\/*$/, "") + path)
  const loginEndpoint = yield* endpointOf(options.loginPath ?? "/v1/token/auth_user")
  const refreshEndpoint = yield* endpointOf(options.refreshPath ?? "/v1/token/auth_refresh")
  const refreshTokenLifetime = yield* time("refreshTokenLifetime", options.refreshTokenLifetime ?? "7 days", endless)
  const idTokenLifetime = yield* time("idTokenLifetime", options.idTokenLifetime ?? "1 day", endless)

  const lifetimeOf = Effect.fnUntraced(function* (token: string, response: HttpClientResponse) {
    const expiry = expiryOf(token)
    if (expiry === undefined) return idTokenLifetime
    const left = expiry * 1000 - serverMillis(response, yield* Clock.currentTimeMillis)
    if (left <= 0) return yield* TokenEndpoint.bad(refreshEndpoint, "the token's expiry is in the past")
    return Duration.min(idTokenLifetime, Duration.millis(left))
  })

  const refresh = Effect.fnUntraced(function* (token: Redacted.Redacted) {
    const request = HttpClientRequest.post(refreshEndpoint.url).pipe(
      HttpClientRequest.acceptJson,
      HttpClientRequest.setUrlParam("refreshtoken", Redacted.value(token))
    )
    const { answer, response } = yield* TokenEndpoint.exchange(client, refreshEndpoint, request, second)
    const lifetime = yield* lifetimeOf(answer.idToken, response)
    return { access: { value: Redacted.make(answer.idToken), lifetime }, refresh: undefined }
  })

  const obtain = Effect.gen(function* () {
    const request = HttpClientRequest.post(loginEndpoint.url).pipe(
      HttpClientRequest.acceptJson,
      HttpClientRequest.bodyJsonUnsafe({
        mailaddress: options.mailAddress,
        password: Redacted.value(options.password)
      })
    )
    const { answer } = yield* TokenEndpoint.exchange(client, loginEndpoint, request, login)
    const value = Redacted.make(answer.refreshToken)
    const { access } = yield* refresh(value)
    return { access, refresh: { value, lifetime: refreshTokenLifetime } }
  })

  return TokenSource.of({ origin: base.origin, obtain, refresh })
})

/** The source as a layer over the `HttpClient` that it asks with. */
export const layer = (options: Options): Layer.Layer<TokenSource, ClientError, HttpClient.HttpClient> =>
  Layer.effect(TokenSource, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ password: Config.Redacted("API_PASSWORD"), … })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<TokenSource, ClientError | Config.ConfigError, HttpClient.HttpClient> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
