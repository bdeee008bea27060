/**
 * Tokens by OAuth 2 client credentials (RFC 6749 section 4.4): a program that speaks for itself.
 *
 * The source lives as long as the `HttpClient` that it is made with, and keeps nothing.
 *
 * **Gotchas**
 *
 * Give it a plain client, not one that adds the tokens it is to get.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type { ClientError } from "../client/ClientError.ts"
import * as OAuth2 from "./internal/OAuth2.ts"
import { TokenSource } from "./TokenSource.ts"

/** As for every OAuth 2 client; this one must have a secret. */
export interface Options extends OAuth2.Options {
  readonly clientSecret: Redacted.Redacted
}

/** Makes the source. Fails with `InvalidConfig`, which names the option, where one makes no sense. */
export const make = (options: Options): Effect.Effect<TokenSource["Service"], ClientError, HttpClient.HttpClient> =>
  Effect.map(OAuth2.make(options), ({ ask, origin }) => {
    // A refresh token is not to be had here (section 4.4.3); one that a server gives all the same is of no use: the
    // credentials are at hand, and live longer.
    const obtain = Effect.map(ask({ grant_type: "client_credentials" }), ({ access }) => ({
      access,
      refresh: undefined
    }))
    return TokenSource.of({ origin, obtain, refresh: () => obtain })
  })

/** The source as a layer over the `HttpClient` that it asks with. */
export const layer = (options: Options): Layer.Layer<TokenSource, ClientError, HttpClient.HttpClient> =>
  Layer.effect(TokenSource, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ clientSecret: Config.Redacted("OAUTH_CLIENT_SECRET"), … })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<TokenSource, ClientError | Config.ConfigError, HttpClient.HttpClient> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
