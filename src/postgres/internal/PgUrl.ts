/**
 * URLs of PostgreSQL: whether one can ever work. Asks no server.
 *
 * What is said of a URL never repeats what it holds: a password may be anywhere in one that is wrong.
 */
import * as Redacted from "effect/Redacted"
import * as PgTls from "./PgTls.ts"

/** What is read of the parameters behind `?`; the others of libpq are not, and are refused by name. */
const parameters: Readonly<Record<string, (value: string) => string | undefined>> = {
  host: (value) => (value === "" ? "must not be empty" : undefined),
  port: (value) => (isPort(value) ? undefined : "must be a port from 1 to 65535"),
  user: () => undefined,
  password: () => undefined,
  dbname: () => undefined,
  application_name: () => undefined,
  options: () => undefined,
  connect_timeout: (value) => (/^\d{1,7}$/.test(value) ? undefined : "must be a whole number of seconds"),
  sslmode: (value) => (modes.includes(value) ? undefined : `must be one of ${modes.join(", ")}`),
  sslrootcert: PgTls.problemOfFile,
  sslcert: PgTls.problemOfFile,
  sslkey: PgTls.problemOfFile
}

const modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

const isPort = (text: string) => /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535

const decoded = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** The parts whose special characters are percent-encoded, as an operator calls them. */
const partsOf = (url: URL) => ({
  "user name": url.username,
  password: url.password,
  host: url.hostname,
  database: url.pathname,
  "part behind the ?": url.search.replaceAll("+", " ")
})

/** What is wrong with a URL, to be read after its name; `undefined`: nothing that could be known without the server. */
export const problemOf = (secret: Redacted.Redacted<string>): string | undefined => {
  const url = URL.parse(Redacted.value(secret))
  if (url === null || !["postgres:", "postgresql:"].includes(url.protocol)) {
    return "must be a URL like postgres://user:password@host:port/database"
  }
  for (const [part, text] of Object.entries(partsOf(url))) {
    const plain = decoded(text)
    if (plain === undefined) {
      return `must have the special characters of its ${part} percent-encoded: a % is written %25`
    }
    if (plain.includes("\0")) return `must have no NUL (%00) in its ${part}: PostgreSQL has no such character`
  }
  if (url.hash !== "") return "must have a # percent-encoded: it is written %23"
  if (url.hostname === "" && !url.searchParams.get("host")) {
    return "must name a host, like postgres://user:password@host:port/database"
  }
  if (url.port !== "" && !isPort(url.port)) return "must have a port from 1 to 65535"
  for (const [name, value] of url.searchParams) {
    if (!Object.hasOwn(parameters, name)) {
      const named = /^[A-Za-z_]{1,40}$/.test(name) ? `the parameter ${name}` : "a parameter"
      return `has ${named}, which Holdfast does not know. It knows ${Object.keys(parameters).join(", ")}`
    }
    const problem = parameters[name]?.(value)
    if (problem !== undefined) return `has the parameter ${name}, which ${problem}`
  }
  return undefined
}
