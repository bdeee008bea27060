/**
 * The engines that users' SQL may run on, as the operator names them: plain data, made of URLs.
 *
 * No URL is logged. A password has a variable of its own, or stands in the URL of a kind that has passwords there.
 */
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as QueryRegistry from "../query/QueryRegistry.ts"
import * as PgTarget from "../postgres/internal/PgTarget.ts"

export type Kind = "postgres" | "mysql" | "sqlite" | "snowflake"

/** Queries at a time, and of these one user's at most. */
export interface Limits {
  readonly maxQueries: number
  readonly maxQueriesPerUser: number
}

/** An engine besides the PostgreSQL that queries run on by default. */
export interface EngineSettings extends Limits {
  readonly name: string
  readonly kind: Kind
  readonly url: Redacted.Redacted<string>
  /** Instead of one in the URL. */
  readonly password: Option.Option<Redacted.Redacted<string>>
  /** The variable that has the URL. */
  readonly variable: string
  /** What the URL needs so that nothing passes a network in clear text; undefined where nothing does. */
  readonly remedy: string | undefined
}

/** `HOLDFAST_QUERY_URL` is this engine. */
export const usual = QueryRegistry.defaultEngine

const isName = /^[a-z][a-z0-9_-]{0,31}$/

const schemes: Readonly<Record<string, Kind>> = {
  "postgres:": "postgres",
  "postgresql:": "postgres",
  "mysql:": "mysql",
  "mariadb:": "mysql",
  "sqlite:": "sqlite",
  "snowflake:": "snowflake"
}

/** Which kind of engine a URL leads to. What has no scheme is PostgreSQL's to judge. */
export const kindOf = (url: Redacted.Redacted<string>): Kind | undefined =>
  schemes[/^[a-z]+:/i.exec(Redacted.value(url))?.[0].toLowerCase() ?? ""]

/** What must not be in a URL because it has a variable of its own, or is no URL of its kind. */
export const problemOf = (kind: Kind, url: Redacted.Redacted<string>): string | undefined => {
  if (kind === "postgres") return PgTarget.problemOf(url)
  if (kind !== "snowflake") return undefined
  const parsed = URL.parse(Redacted.value(url))
  if (parsed === null || parsed.host === "" || parsed.username !== "" || parsed.password !== "" || !isPath(parsed)) {
    return "must be like snowflake://HOST/DATABASE/SCHEMA?warehouse=W, without user and password: these have variables of their own"
  }
  return Array.from(parsed.searchParams.keys()).every((name) => ["warehouse", "role", "protocol"].includes(name))
    ? undefined
    : "must have no parameters but warehouse, role and protocol"
}

/** Whether it is two names at most, of which percent signs make sense. */
const isPath = ({ pathname }: URL): boolean =>
  /^(?:\/[^/]*){0,2}$/.test(pathname) && Result.isSuccess(Result.try(() => decodeURIComponent(pathname)))

/** Reads `name=url,name=url`; undefined where it is no such list. */
export const parse = (text: Redacted.Redacted<string>): ReadonlyMap<string, Redacted.Redacted<string>> | undefined => {
  const found = new Map<string, Redacted.Redacted<string>>()
  const value = Redacted.value(text).trim()
  // A URL may have a comma in it, but nothing that begins like the next engine.
  for (const entry of value === "" ? [] : value.split(/,(?=\s*[^=,/?#]+=[a-z]+:)/)) {
    const at = entry.indexOf("=")
    const name = entry.slice(0, Math.max(at, 0)).trim()
    const url = entry.slice(at + 1).trim()
    if (!isName.test(name) || name === usual || found.has(name) || url === "") return undefined
    found.set(name, Redacted.make(url))
  }
  return found
}

/** Reads `name=10,name=10/3`: queries at a time, and one user's; undefined where it is no such list. */
export const parseLimits = (text: string): ReadonlyMap<string, Limits> | undefined => {
  const limits = new Map<string, Limits>()
  for (const entry of text.trim() === "" ? [] : text.split(",")) {
    const found = /^([a-z][a-z0-9_-]{0,31})=(\d{1,5})(?:\/(\d{1,5}))?$/.exec(entry.trim())
    if (found === null) return undefined
    const [, name = "", all = "", ofUser] = found
    const maxQueries = Number(all)
    const maxQueriesPerUser = ofUser === undefined ? Math.ceil(maxQueries / 2) : Number(ofUser)
    const isRight = maxQueries >= 1 && maxQueries <= 10_000 && maxQueriesPerUser >= 1 && maxQueriesPerUser <= maxQueries
    if (!isRight || limits.has(name)) return undefined
    limits.set(name, { maxQueries, maxQueriesPerUser })
  }
  return limits
}

/** A URL of PostgreSQL with a password of its own in the place of the one in it. */
export const withPassword = (
  url: Redacted.Redacted<string>,
  password: Option.Option<Redacted.Redacted<string>>
): Redacted.Redacted<string> => {
  const parsed = URL.parse(Redacted.value(url))
  if (parsed === null || Option.isNone(password)) return url
  parsed.password = encodeURIComponent(Redacted.value(password.value))
  return Redacted.make(parsed.href)
}

/** The variable of an engine's password. */
export const passwordVariable = (name: string): string =>
  name === usual ? "HOLDFAST_QUERY_PASSWORD" : `HOLDFAST_ENGINE_${name.toUpperCase().replaceAll("-", "_")}_PASSWORD`
