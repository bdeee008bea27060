/**
 * The text of a PostgreSQL URL, taken apart. Asks no server, reads no file and no environment.
 *
 * What is said of a URL never repeats what it holds: a password may be anywhere in one that is wrong.
 */
import * as Redacted from "effect/Redacted"

/** What is wrong, to be read after the name of what holds the URL. */
export class UrlProblem {
  readonly problem: string
  constructor(problem: string) {
    this.problem = problem
  }
}

const shape = "postgres://user:password@host:port/database"

/** Stands where a URL names no host: `postgres://alice@/shop` is one for libpq and none for the URL standard. */
const nobody = "holdfast-names-no-host"

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
  database: url.pathname.replace(/^\//, ""),
  "part behind the ?": url.search.replaceAll("+", " ")
})

/** A port as text that can be one. */
export const isPort = (text: string): boolean => /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535

/**
 * Parameters by libpq's names, those behind the `?` over the others, in plain text. A host in brackets has none any more.
 */
export const parse = (secret: Redacted.Redacted<string>): ReadonlyMap<string, string> | UrlProblem => {
  const text = Redacted.value(secret)
  const parts = /^(postgres(?:ql)?:\/\/)([^/?#]*@)?([^/?#]*)([^]*)$/i.exec(text)
  if (parts === null) return new UrlProblem(`must be a URL like ${shape}`)
  const [, scheme = "", user = "", place = "", rest = ""] = parts
  if (place.includes(",")) return new UrlProblem("must name one host: Holdfast connects to one server")
  const url = URL.parse(scheme + user + (place === "" || place.startsWith(":") ? nobody : "") + place + rest)
  if (url === null) {
    return new UrlProblem(
      /:\d+$/.test(place) && !isPort(place.slice(place.lastIndexOf(":") + 1))
        ? "must have a port from 1 to 65535"
        : `must be a URL like ${shape}`
    )
  }
  const plain: Record<string, string> = {}
  for (const [part, text] of Object.entries(partsOf(url))) {
    const decodedPart = decoded(text)
    if (decodedPart === undefined) {
      return new UrlProblem(`must have the special characters of its ${part} percent-encoded: a % is written %25`)
    }
    if (decodedPart.includes("\0")) {
      return new UrlProblem(`must have no NUL (%00) in its ${part}: PostgreSQL has no such character`)
    }
    plain[part] = decodedPart
  }
  if (url.hash !== "") return new UrlProblem("must have a # percent-encoded: it is written %23")
  if (url.port !== "" && !isPort(url.port)) return new UrlProblem("must have a port from 1 to 65535")
  const host = url.hostname === nobody ? "" : (plain["host"] ?? "").replace(/^\[(.*)\]$/, "$1")
  const found = new Map<string, string>()
  const said: ReadonlyArray<readonly [string, string | undefined]> = [
    ["user", plain["user name"]],
    ["password", plain["password"]],
    ["host", host],
    ["port", url.port],
    ["dbname", plain["database"]]
  ]
  for (const [name, value] of said) if (value !== undefined && value !== "") found.set(name, value)
  for (const [name, value] of url.searchParams) found.set(name, value)
  return found
}
