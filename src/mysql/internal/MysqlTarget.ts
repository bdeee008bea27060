/**
 * Which server of MySQL or MariaDB, and as whom: a URL.
 *
 * A target is plain data. `mysql://USER[:PASSWORD]@HOST[:PORT]/DATABASE`, with `ssl-mode` (`disabled`, `required`,
 * `verify_identity`) and `ssl-ca` (a file) as MySQL's own clients know them. Other parameters are refused by name.
 */
import { readFileSync } from "node:fs"
import * as Redacted from "effect/Redacted"
import * as Loopback from "../../lifetime/internal/Loopback.ts"

export interface Target {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: Redacted.Redacted<string> | undefined
  readonly database: string
  /** None: what passes is not encrypted. */
  readonly ssl:
    { readonly ca?: string; readonly rejectUnauthorized: boolean; readonly verifyIdentity: boolean } | undefined
  /** `host:port/database`, for logs; holds no secret. */
  readonly where: string
  /** Whether something may pass a network without TLS, or to a server that nobody checked. */
  readonly isInClear: boolean
}

const modes = ["disabled", "required", "verify_identity"]

const read = (file: string): string | undefined => {
  try {
    return readFileSync(file, "utf8")
  } catch {
    return undefined
  }
}

/** Decodes what a URL has encoded; undefined where that is broken. */
const decoded = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** A target, or what is wrong with the URL, in words that hold nothing of it. */
const parse = (url: Redacted.Redacted<string>): Target | string => {
  const it = URL.parse(Redacted.value(url))
  if (it === null || (it.protocol !== "mysql:" && it.protocol !== "mariadb:")) {
    return "must be a URL like mysql://user@host:3306/database"
  }
  const user = decoded(it.username)
  const password = decoded(it.password)
  const database = decoded(it.pathname.slice(1))
  if (user === undefined || password === undefined || database === undefined) {
    return "must have its user, password and database percent-encoded"
  }
  if (it.hostname === "" || user === "" || database === "" || database.includes("/")) {
    return "must name a host, a user and a database, like mysql://user@host:3306/database"
  }
  for (const name of it.searchParams.keys()) {
    if (name !== "ssl-mode" && name !== "ssl-ca") return `must have no parameters but ssl-mode and ssl-ca`
  }
  const mode = it.searchParams.get("ssl-mode")?.toLowerCase() ?? "disabled"
  const file = it.searchParams.get("ssl-ca")
  if (!modes.includes(mode)) return `must have an ssl-mode of ${modes.join(", ")}`
  if (file !== null && mode !== "verify_identity") return "must have ssl-mode=verify_identity beside ssl-ca"
  const ca = file === null ? undefined : read(file)
  if (file !== null && ca === undefined) return "must name as ssl-ca a file that Holdfast can read"
  const host = it.hostname.replace(/^\[(.*)\]$/, "$1")
  const port = it.port === "" ? 3306 : Number(it.port)
  const isVerified = mode === "verify_identity"
  return {
    host,
    port,
    user,
    password: password === "" ? undefined : Redacted.make(password),
    database,
    ssl:
      mode === "disabled"
        ? undefined
        : { rejectUnauthorized: isVerified, verifyIdentity: isVerified, ...(ca !== undefined && { ca }) },
    where: `${it.hostname}:${port}/${database}`,
    isInClear: !isVerified && !Loopback.isLoopback(it.hostname)
  }
}

/** What is wrong with a URL, if anything. */
export const problemOf = (url: Redacted.Redacted<string>): string | undefined => {
  const parsed = parse(url)
  return typeof parsed === "string" ? parsed : undefined
}

/** Of a URL that {@link problemOf} finds nothing wrong with. */
export const of = (url: Redacted.Redacted<string>): Target => {
  const parsed = parse(url)
  if (typeof parsed === "string") throw new Error(`The URL ${parsed}`)
  return parsed
}
