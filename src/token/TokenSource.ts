/**
 * Where tokens come from: what a way to log in to another service promises.
 *
 * A source holds no token and no state; it lives as long as the client that it asks with. Who asks, how often, and what
 * becomes of the answer is the business of `AccessTokens`.
 *
 * **Details**
 *
 * Lifetimes count from the moment before the server was asked, so that what the way there and back takes shortens them. A
 * source fails with `TokenRefused` where the server will have none of the credentials, with `BadResponse` where its answer
 * makes no sense, and with `RefreshFailed` where there was none.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { ClientError } from "../client/ClientError.ts"

/** A token as a server issues it. */
export interface Issued {
  /** What requests carry. */
  readonly access: { readonly value: Redacted.Redacted; readonly lifetime: Duration.Duration }
  /**
   * What the next one can be had with; without it, the one that was used stays as it is. An infinite lifetime is one that the
   * server does not tell.
   */
  readonly refresh: { readonly value: Redacted.Redacted; readonly lifetime: Duration.Duration } | undefined
}

export class TokenSource extends Context.Service<
  TokenSource,
  {
    /** Names the server in errors and logs: its origin. */
    readonly origin: string
    /** Logs in: with the credentials that the source was made with. */
    readonly obtain: Effect.Effect<Issued, ClientError>
    /** Gets a new token with a refresh token that it, or another instance's source, issued. */
    readonly refresh: (token: Redacted.Redacted) => Effect.Effect<Issued, ClientError>
  }
>()("holdfast/token/TokenSource") {}
