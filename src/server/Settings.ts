/**
 * The service's configuration, from the environment.
 *
 * Read once at start. What makes no sense fails there, with one line that names the variable and never what it holds
 * where that may be a secret; a database that cannot be reached is not an error here.
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as IpNetwork from "effect/net/IpNetwork"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SettingsNames from "./SettingsNames.ts"
import * as PgUrl from "../postgres/internal/PgUrl.ts"
import * as OptionalPeer from "./OptionalPeer.ts"

/** What to change, in one line. */
export class SettingsError extends Schema.TaggedError<SettingsError>("holdfast/server/SettingsError")("SettingsError", {
  variable: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `${this.variable} ${this.problem}`
  }
}

export interface Settings {
  readonly host: string
  /** 0 takes a free port. */
  readonly port: number
  /** None: `http://HOST:PORT` of the listening socket. */
  readonly origin: Option.Option<URL>
  /** None: the embedded database. */
  readonly databaseUrl: Option.Option<Redacted.Redacted<string>>
  /** None: the embedded workspace, or no queries where the database is not embedded. */
  readonly queryUrl: Option.Option<Redacted.Redacted<string>>
  /** As whom users' SQL runs: each as a role of their own, or all as the role of the URL. */
  readonly queryRoles: "per-user" | "shared"
  /** None: sessions are in PostgreSQL, with the other tables. */
  readonly redisUrl: Option.Option<Redacted.Redacted<string>>
  readonly demoPassword: Option.Option<Redacted.Redacted<string>>
  readonly idleTimeout: Duration.Duration
  readonly absoluteTimeout: Duration.Duration
  /** The age from which a session's token is replaced by a new one. */
  readonly renewEvery: Duration.Duration
  readonly maxSessions: number
  /** Queries that run at a time, each on a connection of its own. */
  readonly maxQueries: number
  /** Of these, one user's at most. */
  readonly maxQueriesPerUser: number
  readonly queryRetention: Duration.Duration
  /** Networks whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: ReadonlyArray<IpNetwork.IpNetwork>
}

const refuse = (variable: string, problem: string) => Effect.fail(new SettingsError({ variable, problem }))

/** Reads one variable; `expects` is the whole explanation, because the value may be a secret. */
const read = <A>(variable: string, config: (name: string) => Config.Config<A>, expects: string) =>
  Effect.mapError(config(variable), () => new SettingsError({ variable, problem: `must be ${expects}` }))

const duration = (variable: string, fallback: Duration.Input) =>
  read(
    variable,
    (name) => Config.withDefault(Config.Duration(name), Duration.fromInputUnsafe(fallback)),
    'a duration such as "30 minutes"'
  ).pipe(
    Effect.filterOrElse(
      (value) => Duration.isFinite(value) && Duration.toMillis(value) > 0,
      () => refuse(variable, 'must be a positive, finite duration such as "30 minutes"')
    )
  )

const integer = (variable: string, fallback: number, minimum: number, maximum: number) =>
  read(
    variable,
    (name) => Config.withDefault(Config.Int(name), fallback),
    `a whole number from ${minimum} to ${maximum}`
  ).pipe(
    Effect.filterOrElse(
      (value) => value >= minimum && value <= maximum,
      () => refuse(variable, `must be a whole number from ${minimum} to ${maximum}`)
    )
  )

const databaseUrl = (variable: string) =>
  Effect.flatMap(
    read(variable, (name) => Config.option(Config.Redacted(name)), "a database URL"),
    (value) => {
      const problem = Option.isNone(value) ? undefined : PgUrl.problemOf(value.value)
      return problem === undefined ? Effect.succeed(value) : refuse(variable, problem)
    }
  )

/** Where the sessions are, if it is Redis: its URL counts only then. */
const redisUrl = Effect.gen(function* () {
  const expects = "postgres or redis"
  const store = yield* read(
    "HOLDFAST_SESSION_STORE",
    (name) => Config.withDefault(Config.Literals(["postgres", "redis"], name), "postgres" as const),
    expects
  )
  if (store === "postgres") return Option.none()
  const url = yield* read("REDIS_URL", (name) => Config.option(Config.Redacted(name)), "a URL")
  if (Option.isNone(url)) {
    return yield* refuse(
      "REDIS_URL",
      "must be set, like redis://user:password@host:6379, for HOLDFAST_SESSION_STORE=redis"
    )
  }
  const RedisConnection = yield* OptionalPeer.load(() => import("../redis/RedisConnection.ts"), "redis")
  const problem = RedisConnection.problemOf(url.value)
  return problem === undefined ? url : yield* refuse("REDIS_URL", problem)
})

/** Whether a host name is this machine's own: http is for development on it and for nothing else. */
export const isLoopback = (hostname: string): boolean =>
  hostname === "localhost" || hostname === "[::1]" || hostname === "::1" || /^127(?:\.\d{1,3}){3}$/.test(hostname)

const origin = Effect.flatMap(
  read("HOLDFAST_ORIGIN", (name) => Config.option(Config.String(name)), "an origin like https://example.org"),
  (value) => {
    if (Option.isNone(value)) return Effect.succeedNone
    const url = URL.parse(value.value)
    // The port of the scheme may be said; a browser leaves it out.
    const isOrigin = /^[a-z]+:\/\/[^/?#@\\]+\/?$/i.test(value.value) && url?.href === `${url?.origin}/`
    if (url === null || !isOrigin || !["http:", "https:"].includes(url.protocol)) {
      return refuse("HOLDFAST_ORIGIN", "must be an origin without a path, like https://example.org")
    }
    return url.protocol === "https:" || isLoopback(url.hostname)
      ? Effect.succeedSome(url)
      : refuse("HOLDFAST_ORIGIN", "must be https: over http anybody on the way could take the session cookie")
  }
)

/** Networks in CIDR notation, separated by commas. */
const networks = (variable: string) =>
  Effect.flatMap(
    read(variable, (name) => Config.withDefault(Config.String(name), ""), "networks"),
    (text) => {
      const parsed = text.trim() === "" ? [] : text.split(",").map((part) => IpNetwork.fromString(part.trim()))
      return Effect.mapError(
        Effect.fromResult(Result.all(parsed)),
        () => new SettingsError({ variable, problem: "must be a list of networks such as 10.0.0.0/8,2001:db8::/32" })
      )
    }
  )

/** How long a session lasts when nothing is asked, and at all: the first is part of the second. */
const timeouts = Effect.gen(function* () {
  const absoluteTimeout = yield* duration("HOLDFAST_ABSOLUTE_TIMEOUT", "12 hours")
  const usual = Duration.min(Duration.minutes(30), absoluteTimeout)
  const idleTimeout = yield* duration("HOLDFAST_IDLE_TIMEOUT", usual)
  return Duration.isGreaterThan(idleTimeout, absoluteTimeout)
    ? yield* refuse(
        "HOLDFAST_IDLE_TIMEOUT",
        `must not be longer than HOLDFAST_ABSOLUTE_TIMEOUT, which is ${Duration.format(absoluteTimeout)}: a session is over then in any case`
      )
    : { idleTimeout, absoluteTimeout }
})

/** Decodes the environment. */
export const load: Effect.Effect<Settings, SettingsError | OptionalPeer.PeerMissing> = Effect.gen(function* () {
  const unknown = SettingsNames.unknown(process.env)
  if (unknown !== undefined) return yield* refuse(unknown.name, unknown.problem)
  const maxQueries = yield* integer("HOLDFAST_MAX_QUERIES", 10, 1, 10_000)
  const ownUrl = yield* databaseUrl("DATABASE_URL")
  const queryUrl = yield* databaseUrl("HOLDFAST_QUERY_URL")
  const host = yield* read("HOST", (name) => Config.withDefault(Config.NonEmptyString(name), "127.0.0.1"), "an address")
  const settings: Settings = {
    host,
    port: yield* integer("PORT", 3000, 0, 65_535),
    origin: yield* origin,
    databaseUrl: ownUrl,
    queryUrl,
    queryRoles: yield* read(
      "HOLDFAST_QUERY_ROLES",
      (name) =>
        Config.withDefault(
          Config.Literals(["per-user", "shared"], name),
          // In the embedded database there is a role that may make others; elsewhere that is the operator's to decide.
          Option.isNone(ownUrl) && Option.isNone(queryUrl) ? "per-user" : "shared"
        ),
      "per-user or shared"
    ),
    redisUrl: yield* redisUrl,
    demoPassword: yield* read(
      "HOLDFAST_DEMO_PASSWORD",
      (name) => Config.option(Config.Redacted(name)),
      "a password"
    ).pipe(
      Effect.filterOrElse(
        (password) => Option.isNone(password) || Redacted.value(password.value) !== "",
        () => refuse("HOLDFAST_DEMO_PASSWORD", "must not be empty; unset it where no user demo is wanted")
      )
    ),
    ...(yield* timeouts),
    renewEvery: yield* duration("HOLDFAST_RENEW_EVERY", "1 hour"),
    maxSessions: yield* integer("HOLDFAST_MAX_SESSIONS", 5, 1, 1_000_000),
    maxQueries,
    maxQueriesPerUser: yield* integer("HOLDFAST_MAX_QUERIES_PER_USER", Math.ceil(maxQueries / 2), 1, maxQueries),
    queryRetention: yield* duration("HOLDFAST_QUERY_RETENTION", "15 minutes"),
    trustedProxies: yield* networks("HOLDFAST_TRUSTED_PROXIES")
  }
  if (Option.isNone(settings.origin) && !isLoopback(host)) {
    return yield* refuse("HOLDFAST_ORIGIN", `must be set to the https origin of the service when HOST is ${host}`)
  }
  return settings
}).pipe(Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ preserveEmptyStrings: true }))))
