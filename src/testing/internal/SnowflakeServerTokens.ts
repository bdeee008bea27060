/**
 * Who may ask a `SnowflakeServer`: the holders of tokens it knows, and of keys whose public half it knows.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { createHash, createPublicKey, timingSafeEqual, verify } from "node:crypto"

/** A user with a key pair. */
export interface User {
  readonly account: string
  readonly user: string
  /** In PEM. */
  readonly publicKey: string
}

/** Why somebody may not ask, as Snowflake says it. */
export interface Refusal {
  readonly code: string
  readonly message: string
}

const decodeClaims = Schema.decodeUnknownOption(
  Schema.fromJsonString(
    Schema.Struct({ iss: Schema.String, sub: Schema.String, iat: Schema.Finite, exp: Schema.Finite })
  )
)

const isSame = (left: string, right: string): boolean => {
  const [a, b] = [left, right].map((text) => createHash("sha256").update(text).digest())
  return a !== undefined && b !== undefined && timingSafeEqual(a, b)
}

/** The longest that a JWT is good, in seconds. */
const hour = 3600

const refusedJwt: Refusal = { code: "390144", message: "JWT token is invalid." }

const isGood = (jwt: string, { account, publicKey, user }: User, nowSeconds: number): boolean => {
  const [header = "", claims = "", signature = ""] = jwt.split(".")
  const told = Option.getOrUndefined(decodeClaims(Buffer.from(claims, "base64url").toString("utf8")))
  if (told === undefined) return false
  const key = createPublicKey(publicKey)
  const print = createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest("base64")
  const subject = `${account.toUpperCase()}.${user.toUpperCase()}`
  return (
    told.sub === subject &&
    told.iss === `${subject}.SHA256:${print}` &&
    told.iat <= nowSeconds &&
    told.exp > nowSeconds &&
    told.exp - told.iat <= hour &&
    verify("RSA-SHA256", Buffer.from(`${header}.${claims}`), key, Buffer.from(signature, "base64url"))
  )
}

/** What is wrong with the credentials of a request, if anything. */
export const refusalOf = (
  headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>,
  tokens: ReadonlySet<string>,
  users: ReadonlyArray<User>
): Refusal | undefined => {
  const { authorization } = headers
  const token = /^Bearer (\S+)$/.exec(typeof authorization === "string" ? authorization : "")?.[1]
  const type = String(headers["x-snowflake-authorization-token-type"] ?? "OAUTH")
  if (token === undefined) return { code: "390101", message: "Authorization header not found in the request data." }
  if (type === "KEYPAIR_JWT") {
    return users.some((user) => isGood(token, user, Date.now() / 1000)) ? undefined : refusedJwt
  }
  if (Array.from(tokens).some((known) => isSame(known, token))) return undefined
  return type === "OAUTH"
    ? { code: "390303", message: "Invalid OAuth access token." }
    : { code: "394400", message: "Programmatic access token is invalid." }
}
