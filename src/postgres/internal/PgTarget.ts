/**
 * Which server, and as whom: a URL, completed as libpq completes it.
 *
 * A target is plain data. It is worked out each time from the URL, the environment and the files that these name, and asks no
 * server.
 *
 * **Details**
 *
 * What the URL does not say comes from the service that it names (`service`, or `PGSERVICE`), then from the variables `PGHOST`,
 * `PGPORT`, `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGAPPNAME`, `PGOPTIONS`, `PGCONNECT_TIMEOUT`, `PGSSLMODE`, `PGSSLROOTCERT`,
 * `PGSSLCERT` and `PGSSLKEY`; a password at last from `PGPASSFILE` or `~/.pgpass` (libpq, "Environment Variables"). A host that
 * begins with `/` is the directory of a socket.
 *
 * Parameters and variables of libpq that Holdfast does not have are refused by name, unless they say what is done in any case.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Redacted from "effect/Redacted"
import { userInfo } from "node:os"
import * as PgServiceFile from "./PgServiceFile.ts"
import * as PgTls from "./PgTls.ts"
import * as PgTransport from "./PgTransport.ts"
import * as PgUrl from "./PgUrl.ts"

/** A server, a database and who connects. */
export interface Target {
  /** For the driver: a URL that leaves nothing to be found elsewhere, and what it cannot say. */
  readonly config: Pick<PgConnection.Config, "ssl" | "stream"> & { readonly url: Redacted.Redacted<string> }
  /** `host:port/database`, for logs; holds no secret. */
  readonly where: string
  readonly user: string
  readonly database: string
  readonly password: Redacted.Redacted<string> | undefined
  /** Whether something may pass a network without TLS. */
  readonly isInClear: boolean
  /** Which the server shows to operators, where somebody said one. */
  readonly applicationName: string | undefined
  readonly connectTimeout: Duration.Duration | undefined
}

const modes = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

type Check = (value: string) => string | undefined

const any: Check = () => undefined
const oneOf =
  (...values: ReadonlyArray<string>): Check =>
  (value) =>
    values.includes(value) ? undefined : `must be ${values.length === 1 ? "" : "one of "}${values.join(", ")}`

/** What is read, and the variable of each. */
const parameters: Readonly<Record<string, readonly [variable: string, check: Check]>> = {
  host: ["PGHOST", (value) => (/,/.test(value) ? "must name one host: Holdfast connects to one server" : undefined)],
  port: ["PGPORT", (value) => (PgUrl.isPort(value) ? undefined : "must be a port from 1 to 65535")],
  user: ["PGUSER", any],
  password: ["PGPASSWORD", any],
  dbname: ["PGDATABASE", any],
  application_name: ["PGAPPNAME", any],
  options: ["PGOPTIONS", any],
  connect_timeout: [
    "PGCONNECT_TIMEOUT",
    (value) => (/^\d{1,7}$/.test(value) ? undefined : "must be a whole number of seconds")
  ],
  sslmode: ["PGSSLMODE", oneOf(...modes)],
  sslrootcert: ["PGSSLROOTCERT", PgTls.problemOfFile],
  sslcert: ["PGSSLCERT", PgTls.problemOfFile],
  sslkey: ["PGSSLKEY", PgTls.problemOfFile],
  service: ["PGSERVICE", any],
  passfile: ["PGPASSFILE", any]
}

/** What Holdfast has only one way of doing, and the values that say that one. */
const settled: Readonly<Record<string, readonly [variable: string, check: Check]>> = {
  channel_binding: ["PGCHANNELBINDING", oneOf("disable", "prefer")],
  gssencmode: ["PGGSSENCMODE", oneOf("disable", "prefer")],
  hostaddr: ["PGHOSTADDR", () => "Holdfast does not have. Name the address as the host"],
  load_balance_hosts: ["PGLOADBALANCEHOSTS", oneOf("disable")],
  require_auth: ["PGREQUIREAUTH", () => "Holdfast does not have. Remove it"],
  requirepeer: ["PGREQUIREPEER", () => "Holdfast does not have. Remove it"],
  requiressl: ["PGREQUIRESSL", () => "Holdfast does not have. Use sslmode=require"],
  ssl_max_protocol_version: ["PGSSLMAXPROTOCOLVERSION", () => "Holdfast does not have. Remove it"],
  ssl_min_protocol_version: ["PGSSLMINPROTOCOLVERSION", oneOf("TLSv1", "TLSv1.1", "TLSv1.2")],
  sslcrl: ["PGSSLCRL", () => "Holdfast does not have. Remove it"],
  sslcrldir: ["PGSSLCRLDIR", () => "Holdfast does not have. Remove it"],
  sslnegotiation: ["PGSSLNEGOTIATION", oneOf("postgres")],
  target_session_attrs: ["PGTARGETSESSIONATTRS", oneOf("any")]
}

const known = (name: string) =>
  Object.hasOwn(parameters, name) ? parameters[name] : Object.hasOwn(settled, name) ? settled[name] : undefined

/** A file of services may not name another, and the file of passwords is not for it to say. */
const notInService: ReadonlySet<string> = new Set(["service"])

/** What is wrong with parameters of one origin, which `says` begins to tell. */
const problemIn = (
  found: ReadonlyMap<string, string>,
  says: (parameter: string) => string
): PgUrl.UrlProblem | undefined => {
  for (const [name, value] of found) {
    const parameter = known(name)
    if (parameter === undefined) {
      const named = /^[A-Za-z_]{1,40}$/.test(name) ? `the parameter ${name}` : "a parameter"
      const all = Object.keys(parameters).join(", ")
      return new PgUrl.UrlProblem(`${says(named)}, which Holdfast does not know. It knows ${all}`)
    }
    const problem = value === "" && name === "host" ? "must not be empty" : parameter[1](value)
    if (problem !== undefined) return new PgUrl.UrlProblem(`${says(`the parameter ${name}`)}, which ${problem}`)
  }
  return undefined
}

/** What variables say of parameters that nothing else says. An empty one says nothing, as with libpq. */
const fromEnvironment = (said: ReadonlyMap<string, string>, environment: PgServiceFile.Environment) => {
  const found = new Map<string, string>()
  for (const [name, [variable, check]] of [...Object.entries(parameters), ...Object.entries(settled)]) {
    const value = environment[variable]
    if (said.has(name) || value === undefined || value === "") continue
    const problem = check(value)
    if (problem !== undefined) {
      return new PgUrl.UrlProblem(`is completed by the environment variable ${variable}, which ${problem}`)
    }
    found.set(name, value)
  }
  return found
}

/** All parameters, each from the first that says it. */
const complete = (
  secret: Redacted.Redacted<string>,
  environment: PgServiceFile.Environment
): ReadonlyMap<string, string> | PgUrl.UrlProblem => {
  const url = PgUrl.parse(secret)
  if (url instanceof PgUrl.UrlProblem) return url
  const inUrl = problemIn(url, (parameter) => `has ${parameter}`)
  if (inUrl !== undefined) return inUrl
  const name = url.get("service") ?? environment["PGSERVICE"] ?? ""
  const service = name === "" ? new Map<string, string>() : PgServiceFile.service(name, environment)
  if (service instanceof PgServiceFile.ServiceProblem) {
    return new PgUrl.UrlProblem(`is completed by a service, ${service.problem}`)
  }
  if ([...service.keys()].some((name) => notInService.has(name))) {
    return new PgUrl.UrlProblem("is completed by a service, which names another one")
  }
  const inService = problemIn(service, (parameter) => `is completed by a service with ${parameter}`)
  if (inService !== undefined) return inService
  const said = new Map([...service, ...url])
  const environmental = fromEnvironment(said, environment)
  return environmental instanceof PgUrl.UrlProblem ? environmental : new Map([...environmental, ...said])
}

/** What a URL says before its `?`, or what is used up. */
const inFrontOfAsk: ReadonlySet<string> = new Set(["host", "port", "user", "password", "dbname", "service", "passfile"])

/** A URL that is resolved to itself. */
const urlOf = (found: ReadonlyMap<string, string>, login: PgServiceFile.Login, password: string | undefined) => {
  const host = login.host.includes(":") ? `[${login.host}]` : encodeURIComponent(login.host)
  const who = encodeURIComponent(login.user) + (password === undefined ? "" : `:${encodeURIComponent(password)}`)
  const driver = new URLSearchParams()
  for (const [name, value] of found) if (!inFrontOfAsk.has(name)) driver.set(name, value)
  // A socket has no TLS.
  if (login.host.startsWith("/")) driver.delete("sslmode")
  const asked = driver.size === 0 ? "" : `?${driver.toString().replaceAll("+", "%20")}`
  return Redacted.make(`postgres://${who}@${host}:${login.port}/${encodeURIComponent(login.database)}${asked}`)
}

const seconds = (text: string) => (Number(text) === 0 ? Duration.infinity : Duration.seconds(Number(text)))

/** The target, or what is wrong with the URL or with what completes it. */
export const resolve = (
  secret: Redacted.Redacted<string>,
  environment: PgServiceFile.Environment = process.env
): Target | PgUrl.UrlProblem => {
  const found = complete(secret, environment)
  if (found instanceof PgUrl.UrlProblem) return found
  const host = found.get("host")
  if (host === undefined) {
    return new PgUrl.UrlProblem("must name a host, like postgres://user:password@host:port/database, or PGHOST must")
  }
  const user = found.get("user") ?? environment["USER"] ?? environment["USERNAME"] ?? userInfo().username
  const login = { host, port: found.get("port") ?? "5432", user, database: found.get("dbname") ?? user }
  const password = found.get("password") ?? PgServiceFile.password(login, found.get("passfile"), environment)
  const timeout = found.get("connect_timeout")
  return {
    config: {
      url: urlOf(found, login, password),
      ...(host.startsWith("/") ? {} : PgTls.of(found)),
      ...PgTransport.of({ ...login, sslmode: found.get("sslmode") })
    },
    isInClear: PgTransport.isInClear(host, found.get("sslmode")),
    where: `${host.includes(":") ? `[${host}]` : host}:${login.port}/${login.database}`,
    user,
    database: login.database,
    password: password === undefined ? undefined : Redacted.make(password),
    applicationName: found.get("application_name"),
    connectTimeout: timeout === undefined ? undefined : seconds(timeout)
  }
}

/** What is wrong with a URL, to be read after its name; `undefined`: nothing that could be known without the server. */
export const problemOf = (secret: Redacted.Redacted<string>): string | undefined => {
  const target = resolve(secret)
  return target instanceof PgUrl.UrlProblem ? target.problem : undefined
}

/** The target of a URL that was found right before. A defect where it is not. */
export const of = (secret: Redacted.Redacted<string>): Target => {
  const target = resolve(secret)
  if (target instanceof PgUrl.UrlProblem) throw new TypeError(`The URL of the database ${target.problem}`)
  return target
}

/** Names the database; holds no secret. */
export const whereOf = (secret: Redacted.Redacted<string>): string => {
  const target = resolve(secret)
  return target instanceof PgUrl.UrlProblem ? "PostgreSQL" : target.where
}
