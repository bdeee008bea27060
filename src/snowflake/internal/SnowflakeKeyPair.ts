/**
 * Tokens that are signed with a key pair: a JWT of an hour, made here, without a server.
 *
 * The key is in memory as long as the source. Snowflake knows the user by account, name and the SHA-256 of the public key
 * (https://docs.snowflake.com/en/developer-guide/sql-api/authenticating#using-key-pair-authentication).
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from "node:crypto"
import { BadResponse, ClientError, InvalidConfig } from "../../client/ClientError.ts"
import { TokenSource } from "../../token/TokenSource.ts"

export interface Options {
  readonly origin: string
  readonly account: string
  readonly user: string
  readonly privateKey: Redacted.Redacted
  readonly passphrase?: Redacted.Redacted | undefined
}

/** The longest that Snowflake takes is an hour. */
const lifetime = Duration.minutes(59)

/** How far the clock of the server may be behind ours. */
const leewaySeconds = 30

const invalid = (field: string, problem: string) => new ClientError({ reason: new InvalidConfig({ field, problem }) })

/** In a token the account has neither region nor cloud, but for accounts that are found by their global URL. */
export const accountOf = (account: string): string => {
  const upper = account.toUpperCase()
  const [first = upper] = upper.includes(".GLOBAL") ? upper.split("-") : upper.split(".")
  return first
}

/** `SHA256:` and the hash of the public key in base64, as `DESCRIBE USER` shows it. */
export const fingerprintOf = (key: KeyObject): string => {
  const spki = createPublicKey(key).export({ type: "spki", format: "der" })
  return `SHA256:${createHash("sha256").update(spki).digest("base64")}`
}

const keyOf = ({ passphrase, privateKey }: Options) =>
  Effect.suspend(() => {
    try {
      const key = createPrivateKey({
        key: Redacted.value(privateKey),
        ...(passphrase !== undefined && { passphrase: Redacted.value(passphrase) })
      })
      return key.asymmetricKeyType === "rsa"
        ? Effect.succeed(key)
        : Effect.fail(invalid("token.privateKey", "must be an RSA key"))
    } catch {
      // What OpenSSL says may hold a part of the key.
      const problem = "must be a private key in PEM, with its passphrase in `token.passphrase` where it has one"
      return Effect.fail(invalid("token.privateKey", problem))
    }
  })

const part = (json: unknown): string => Buffer.from(JSON.stringify(json)).toString("base64url")

/** Makes the source. Fails with `InvalidConfig` where the key is none. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const key = yield* keyOf(options)
  const subject = `${accountOf(options.account)}.${options.user.toUpperCase()}`
  const issuer = `${subject}.${fingerprintOf(key)}`
  const obtain = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.try({
      try: () => {
        const iat = Math.floor(now / 1000) - leewaySeconds
        const exp = Math.floor(now / 1000 + Duration.toSeconds(lifetime)) - leewaySeconds
        const text = `${part({ alg: "RS256", typ: "JWT" })}.${part({ iss: issuer, sub: subject, iat, exp })}`
        const signature = sign("RSA-SHA256", Buffer.from(text), key).toString("base64url")
        const left = Duration.seconds(exp - now / 1000)
        return { access: { value: Redacted.make(`${text}.${signature}`), lifetime: left }, refresh: undefined }
      },
      catch: () =>
        new ClientError({ reason: new BadResponse({ origin: options.origin, problem: "its key signs nothing" }) })
    })
  )
  return TokenSource.of({ origin: options.origin, obtain, refresh: () => obtain })
})
