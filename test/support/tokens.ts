/** What tests of tokens need: a ring of keys, repositories, and accounts at the test server. */
import { NodeHttpClient } from "@effect/platform-node"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as AccessTokens from "../../src/token/AccessTokens.ts"
import * as ClientCredentialsSource from "../../src/token/ClientCredentialsSource.ts"
import * as PgTokenRepository from "../../src/postgres/PgTokenRepository.ts"
import * as RefreshTokenSource from "../../src/token/RefreshTokenSource.ts"
import type { Key } from "../../src/token/TokenCipher.ts"
import { TokenRepository } from "../../src/token/TokenRepository.ts"
import { TokenSource } from "../../src/token/TokenSource.ts"
import * as TwoStepSource from "../../src/token/TwoStepSource.ts"
import { freshDatabase } from "./postgres.ts"
import { credentials } from "./tokenServer.ts"

/** A key whose bytes are all the same. */
export const keyOf = (id: string, byte: number): Key => ({
  id,
  secret: Redacted.make(Buffer.alloc(32, byte).toString("base64"))
})

export const keys = [keyOf("k1", 1)]

/** A database with the table of tokens. */
export const tokenDatabase = Effect.gen(function* () {
  const { url } = yield* freshDatabase
  yield* PgTokenRepository.migrate({ url, keys })
  return url
})

/** An undici client whose sockets close with the scope. */
export const plainClient = Effect.map(Layer.build(NodeHttpClient.layerUndici), (context) =>
  Context.get(context, HttpClient.HttpClient)
)

export const twoStep = (url: string) =>
  TwoStepSource.make({
    baseUrl: url,
    mailAddress: credentials.mailAddress,
    password: Redacted.make(credentials.password)
  })

const client = (url: string) => ({
  tokenUrl: `${url}/oauth/token`,
  clientId: credentials.clientId,
  clientSecret: Redacted.make(credentials.clientSecret)
})

export const clientCredentials = (url: string, options: Partial<ClientCredentialsSource.Options> = {}) =>
  ClientCredentialsSource.make({ ...client(url), ...options })

export const refreshGrant = (url: string, refreshToken: string, options: Partial<RefreshTokenSource.Options> = {}) =>
  RefreshTokenSource.make({ ...client(url), refreshToken: Redacted.make(refreshToken), ...options })

/** Looks after alice's token, got from `source` and kept in `repository`. */
export const tokensOf = (
  source: TokenSource["Service"],
  repository: TokenRepository["Service"],
  options: Partial<AccessTokens.Options> = {}
) =>
  AccessTokens.make({ key: "alice", ...options }).pipe(
    Effect.provideService(TokenSource, source),
    Effect.provideService(TokenRepository, repository)
  )
