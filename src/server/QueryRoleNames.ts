/**
 * What the database role of a user is called, and its password. Asks no server.
 *
 * Roles belong to a whole server: a name begins with that of the database, and two users of two databases never share one. It is
 * readable where it can be, because users grant each other rights by it.
 */
import { createHash, createHmac, randomBytes } from "node:crypto"
import * as Redacted from "effect/Redacted"
import * as PgTarget from "../postgres/internal/PgTarget.ts"

/** Lower case, with single underscores inside. */
const plain = /^[a-z](?:_?[a-z0-9])*$/

/** What ends like the name of one that is not plain is not plain either. */
const hashed = /_[0-9a-f]{12}$/

/** A text of at most `most` characters, which no other text has. */
const part = (text: string, most: number) => {
  if (text.length <= most && plain.test(text) && !hashed.test(text)) return text
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 12)
  const readable = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "_")
    .replace(/^[_0-9]+/, "")
    .slice(0, most - 13)
    .replace(/_+$/, "")
  return `${readable === "" ? "x" : readable}_${hash}`
}

/** The database of a URL. */
export const databaseOf = (url: Redacted.Redacted<string>): string => PgTarget.of(url).database

/** The role of a principal in a database, such as `workspace__alice`. It is the name of the principal's schema, too. */
export const roleOf = (database: string, principal: string): string => `${part(database, 20)}__${part(principal, 24)}`

/** The role that all of them are members of, such as `workspace_users`. */
export const groupOf = (database: string): string => `${part(database, 20)}_users`

/** The name of a schema whose owner was removed. */
export const leftOf = (role: string, epochSeconds: number): string => `${role}_left_${epochSeconds}`

/**
 * Makes the passwords of roles from what every instance of the service knows and no user does: the password of the URL. Without
 * one they are this process's own, and instances put each other's right.
 */
export const passwords = (url: Redacted.Redacted<string>): ((role: string) => Redacted.Redacted<string>) => {
  const { password } = PgTarget.of(url)
  const key = password === undefined ? randomBytes(32) : Redacted.value(password)
  return (role) => Redacted.make(createHmac("sha256", key).update(`holdfast role ${role}`).digest("base64url"))
}
