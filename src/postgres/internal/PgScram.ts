/**
 * Verifiers of SCRAM-SHA-256 (RFC 5803), as PostgreSQL keeps them: a password that is set by its verifier is never sent, and is in
 * no log of statements.
 */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto"
import * as Redacted from "effect/Redacted"

/**
 * For a password of 256 random bits. There is nothing to stretch: with more iterations each connection would cost more, and nobody
 * would be hindered (RFC 7677 asks for 4,096 because of passwords that people choose).
 */
const iterations = 1

const hmac = (key: Buffer, text: string) => createHmac("sha256", key).update(text).digest()

/** The verifier of a random password of ASCII letters. */
export const verifier = (password: Redacted.Redacted<string>): string => {
  const salt = randomBytes(16)
  const salted = pbkdf2Sync(Redacted.value(password), salt, iterations, 32, "sha256")
  const stored = createHash("sha256").update(hmac(salted, "Client Key")).digest("base64")
  const server = hmac(salted, "Server Key").toString("base64")
  return `SCRAM-SHA-256$${iterations}:${salt.toString("base64")}$${stored}:${server}`
}
