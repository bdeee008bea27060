/**
 * Tokens by the OAuth 2 refresh-token grant (RFC 6749 section 6): a program that goes on for somebody who once agreed.
 *
 * The source lives as long as the `HttpClient` that it is made with, and keeps nothing: servers that rotate refresh tokens
 * (RFC 9700 section 4.14.2) give a new one each time, which the repository keeps from then on.
 *
 * **Gotchas**
 *
 * The refresh token of the options is used while the repository has none, and once more when the server refuses the one
 * that is kept: an operator replaces a lost one by giving a new one here. With a memory repository a rotated token is lost
 * with the process; keep it in PostgreSQL.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { ClientError } from "../client/ClientError.ts"
import * as OAuth2 from "./internal/OAuth2.ts"
import * as TokenEndpoint from "./internal/TokenEndpoint.ts"
import { TokenSource } from "./TokenSource.ts"

/** As for every OAuth 2 client, and the token to begin with. */
export interface Options extends OAuth2.Options {
  readonly refreshToken: Redacted.Redacted
}

/** Makes the source. Fails with `InvalidConfig`, which names the option, where one makes no sense. */
export const make = (options: Options): Effect.Effect<TokenSource["Service"], ClientError, HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const { ask, origin } = yield* OAuth2.make(options)
    yield* TokenEndpoint.sendable("refreshToken", Redacted.value(options.refreshToken))
    const refresh = (token: Redacted.Redacted) =>
      ask({ grant_type: "refresh_token", refresh_token: Redacted.value(token) })
    // The first token is not kept by itself: what comes of it is, or it is asked with again.
    const obtain = Effect.suspend(() => refresh(options.refreshToken))
    return TokenSource.of({ origin, obtain, refresh })
  })

/** The source as a layer over the `HttpClient` that it asks with. */
export const layer = (options: Options): Layer.Layer<TokenSource, ClientError, HttpClient.HttpClient> =>
  Layer.effect(TokenSource, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ refreshToken: Config.Redacted("OAUTH_REFRESH_TOKEN"), … })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<TokenSource, ClientError | Config.ConfigError, HttpClient.HttpClient> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
