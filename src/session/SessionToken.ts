/**
 * The secret that a client presents to be recognised, and what is stored of it.
 *
 * A token is 256 bits from the system's secure random source (OWASP Session Management asks for at least 64, ASVS 5.0
 * 7.2.3 for 128), written as 43 characters of base64url. It exists in the client's cookie and, `Redacted`, in the request
 * that carries it. Stores only ever see its SHA-256: a store that leaks lets nobody in. The hash needs no salt, because
 * the input is uniformly random.
 */
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { createHmac, hash as sha256, randomBytes } from "node:crypto"

const pattern = /^[A-Za-z0-9_-]{43}$/

/** A token as it travels. */
export const SessionToken = Schema.String.pipe(
  Schema.check(Schema.isPattern(pattern)),
  Schema.brand("holdfast/session/SessionToken")
)
export type SessionToken = Redacted.Redacted<typeof SessionToken.Type>

/** The SHA-256 of a token, 64 hexadecimal digits. */
export const TokenHash = Schema.String.pipe(
  Schema.check(Schema.isPattern(/^[0-9a-f]{64}$/)),
  Schema.brand("holdfast/TokenHash")
)
export type TokenHash = typeof TokenHash.Type

/** A new token. */
export const make = (): SessionToken => Redacted.make(SessionToken.make(randomBytes(32).toString("base64url")))

/** Reads what a client sent. `None` for anything that we cannot have issued. */
export const parse = (text: string): Option.Option<SessionToken> =>
  pattern.test(text) ? Option.some(Redacted.make(text as typeof SessionToken.Type)) : Option.none()

/** What is stored of a token. */
export const hash = (token: SessionToken): TokenHash => sha256("sha256", Redacted.value(token), "hex") as TokenHash

/** The token that follows on one when it is renewed; `nonce` is the session's, 32 bytes in base64url. */
export const next = (token: SessionToken, nonce: string): SessionToken =>
  Redacted.make(
    SessionToken.make(
      createHmac("sha256", Buffer.from(nonce, "base64url")).update(Redacted.value(token)).digest("base64url")
    )
  )
