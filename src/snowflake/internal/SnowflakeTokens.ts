/**
 * The token of a driver's requests: made here from a key pair, given once, or looked after by somebody else.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as AccessTokens from "../../token/AccessTokens.ts"
import * as TokenRepository from "../../token/TokenRepository.ts"
import { TokenSource } from "../../token/TokenSource.ts"
import * as SnowflakeKeyPair from "./SnowflakeKeyPair.ts"

/** A key pair whose public key the user has (`ALTER USER … SET RSA_PUBLIC_KEY`). Tokens are made and renewed by the driver. */
export interface KeyPair {
  readonly type: "KEYPAIR_JWT"
  /** As in the URL, such as `myorg-myaccount` or `xy12345.eu-central-1`. */
  readonly account: string
  readonly user: string
  /** In PEM, PKCS #8 or PKCS #1. */
  readonly privateKey: Redacted.Redacted
  readonly passphrase?: Redacted.Redacted | undefined
}

/** A token that is renewed elsewhere: by the operator of the program, or by an `AccessTokens` that is given instead. */
export interface Given {
  readonly type: "OAUTH" | "PROGRAMMATIC_ACCESS_TOKEN"
  readonly token: Redacted.Redacted
}

/** OAuth tokens that `AccessTokens` looks after, over `ClientCredentialsSource`, `RefreshTokenSource` or a source of the app's. */
export interface LookedAfter {
  readonly type: "OAUTH"
  readonly tokens: AccessTokens.AccessTokens["Service"]
}

export type Token = KeyPair | Given | LookedAfter

/** A token that is the same for ever: a refused one is refused. */
const given = (value: Redacted.Redacted): AccessTokens.AccessTokens["Service"] => {
  const token = { value }
  return AccessTokens.AccessTokens.of({
    get: Effect.succeed(token),
    refresh: Effect.succeed(token),
    invalidate: () => Effect.void
  })
}

/** For the current scope. Fails with `InvalidConfig` where the key is none. */
export const make = Effect.fnUntraced(function* (origin: string, token: Token) {
  if (token.type !== "KEYPAIR_JWT") return "tokens" in token ? token.tokens : given(token.token)
  const source = yield* SnowflakeKeyPair.make({ origin, ...token })
  const repository = yield* TokenRepository.makeMemory
  const key = `snowflake ${token.account} ${token.user}`.slice(0, 200)
  return yield* AccessTokens.make({ key, refreshMargin: Duration.minutes(5) }).pipe(
    Effect.provideService(TokenSource, source),
    Effect.provideService(TokenRepository.TokenRepository, repository)
  )
})
