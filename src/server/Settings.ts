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
import * as SessionCipher from "../session/SessionCipher.ts"
import * as SessionKeys from "./SessionKeys.ts"
import * as Logging from "./Logging.ts"
import * as ListenerSettings from "./ListenerSettings.ts"
import type * as ListenerTls from "./ListenerTls.ts"
import * as SecretFiles from "./SecretFiles.ts"
import * as Loopback from "../lifetime/internal/Loopback.ts"
import * as ClearText from "./ClearText.ts"
import { databaseUrl, duration, integer, oneOf, read, refuse, SettingsError } from "./SettingsReading.ts"
import * as SettingsNames from "./SettingsNames.ts"
import * as SocketActivation from "./SocketActivation.ts"
import type * as EngineSettings from "./EngineSettings.ts"
import { engines, snowflake } from "./EngineVariables.ts"
import type * as SnowflakeEngine from "./SnowflakeEngine.ts"
import * as Passwords from "./Passwords.ts"
import * as FunctionSettings from "./FunctionSettings.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import * as QueryRoleMap from "./QueryRoleMap.ts"
import * as QueryTimeouts from "./QueryTimeouts.ts"

export { SettingsError }

const logLevels = ["trace", "debug", "info", "warn", "error", "none"] as const satisfies ReadonlyArray<Logging.Level>

export interface Settings extends FunctionSettings.FunctionSettings {
  readonly host: string
  /** 0 takes a free port. */
  readonly port: number
  /** The listening socket that was handed over, in the place of {@link host} and {@link port}. */
  readonly descriptor: Option.Option<number>
  /** None: the service speaks http. */
  readonly tls: Option.Option<ListenerTls.Files>
  /** None: `http://HOST:PORT` of the listening socket, or `https:` with {@link tls}. */
  readonly origin: Option.Option<URL>
  /** None: the embedded database. */
  readonly databaseUrl: Option.Option<Redacted.Redacted<string>>
  /**
   * The PostgreSQL of the usual engine. None: the embedded workspace, or no queries where the database is not embedded, or where
   * the usual engine is another one of {@link engines}.
   */
  readonly queryUrl: Option.Option<Redacted.Redacted<string>>
  /** The other engines: those that are named, and the usual one where it is not PostgreSQL. */
  readonly engines: ReadonlyArray<EngineSettings.EngineSettings>
  /** Whether the usual engine is one of these. */
  readonly isUsualElsewhere: boolean
  /** Of the usual engine. */
  readonly usualLimits: EngineSettings.Limits
  readonly snowflake: SnowflakeEngine.Credentials
  /** As whom users' SQL runs: each as a role of their own, all as the role of the URL, or as roles that exist. */
  readonly queryRoles: "per-user" | "shared" | QueryRoleMap.QueryRoleMap
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
  readonly queryTimeouts: QueryTimeouts.Timeouts
  readonly queryRetention: Duration.Duration
  /** Whether PostgreSQL is told which trace a statement of a user belongs to. */
  readonly queryTrace: "off" | "comment"
  /** Whether queries, keys and rows are those of all instances on the same database. */
  readonly sharedQueries: boolean
  /** Whether users' SQL may run as a role that stands above the rules of the database. */
  readonly allowsSuperuser: boolean
  /** What the data of sessions is encrypted with where it is stored, the first one; none: it is not. */
  readonly sessionKeys: ReadonlyArray<SessionCipher.Key>
  /** Connections of clients that may be open. */
  readonly maxConnections: number
  /** Of these, those of one address that is no trusted proxy's. */
  readonly maxConnectionsPerAddress: number
  /** For so long a connection is kept on which nobody asks. */
  readonly keepAlive: Duration.Duration
  /** After so long without a reader taking anything of an answer its connection is closed. */
  readonly writeTimeout: Duration.Duration
  /** Long answers of one user that are not read yet. */
  readonly maxAnswersPerUser: number
  /** Event streams of one user. */
  readonly maxStreamsPerUser: number
  /** Whether requests and what the session store is asked are counted and measured. */
  readonly requestMetrics: boolean
  /** For so long the service is not ready and serves all the same, before it ends. */
  readonly drainDelay: Duration.Duration
  readonly logFormat: Logging.Format
  readonly logLevel: Logging.Level
  /** Whether each request has a line in the log. */
  readonly accessLog: boolean
  /** Networks whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: ReadonlyArray<IpNetwork.IpNetwork>
}

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
    return url.protocol === "https:" || Loopback.isLoopback(url.hostname)
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

/** From the one variable or from the file that the other names. */
const sessionKeys = Effect.gen(function* () {
  const [inline, file] = ["HOLDFAST_SESSION_KEYS", "HOLDFAST_SESSION_KEYS_FILE"] as const
  const example = `be like 2026:KEY,2025:KEY, each KEY 32 bytes in base64, as made by openssl rand -base64 32`
  const given = yield* read(inline, (name) => Config.option(Config.Redacted(name)), "keys")
  const path = yield* read(file, (name) => Config.option(Config.String(name)), "the path of a file")
  if (Option.isSome(given) && Option.isSome(path)) return yield* refuse(file, `must not be set beside ${inline}`)
  if (Option.isNone(given) && Option.isNone(path)) return []
  const variable = Option.isSome(given) ? inline : file
  const text = Option.getOrElse(given, () => SessionKeys.read(Option.getOrElse(path, () => "")))
  if (text === undefined) return yield* refuse(file, "must name a file that Holdfast can read")
  const keys = SessionKeys.parse(text)
  if (keys.length === 0) return yield* refuse(variable, `must ${example}. Unset it where nothing is to be encrypted`)
  yield* Effect.mapError(
    SessionCipher.make(keys),
    ({ problem }) => new SettingsError({ variable, problem: `must ${example}. Its keys ${problem}` })
  )
  return keys
})

/** How long queries may take: usually, at most, and those of users who are named. */
const queryTimeouts = Effect.gen(function* () {
  const longest = yield* duration("HOLDFAST_QUERY_MAX_TIMEOUT", QueryTimeouts.longest)
  if (Duration.isGreaterThan(longest, QueryTimeouts.longest)) {
    return yield* refuse("HOLDFAST_QUERY_MAX_TIMEOUT", "must not be longer than a day")
  }
  const usual = yield* duration("HOLDFAST_QUERY_TIMEOUT", Duration.min(Duration.hours(1), longest))
  if (Duration.isGreaterThan(usual, longest)) {
    return yield* refuse(
      "HOLDFAST_QUERY_TIMEOUT",
      `must not be longer than HOLDFAST_QUERY_MAX_TIMEOUT, which is ${Duration.format(longest)}`
    )
  }
  const variable = "HOLDFAST_QUERY_TIMEOUTS"
  const text = yield* read(variable, (name) => Config.withDefault(Config.String(name), ""), "a list of users")
  const users = QueryTimeouts.parseUsers(text)
  return users === undefined
    ? yield* refuse(variable, "must be a list of users with durations up to a day, such as alice=5 minutes,etl=8 hours")
    : { usual, longest, users }
})

/** One way for all users, or a file with a role for each. */
const queryRoles = Effect.fnUntraced(function* (usual: "per-user" | "shared") {
  const file = "HOLDFAST_QUERY_ROLES_FILE"
  const way = yield* read(
    "HOLDFAST_QUERY_ROLES",
    (name) => Config.withDefault(Config.Literals(["per-user", "shared", "map"], name), usual),
    "per-user, shared or map"
  )
  const path = yield* read(file, (name) => Config.option(Config.String(name)), "the path of a file")
  if (way !== "map") return Option.isNone(path) ? way : yield* refuse(file, "is for HOLDFAST_QUERY_ROLES=map only")
  const text = Option.getOrUndefined(Option.flatMapNullishOr(path, SessionKeys.read))
  if (text === undefined) return yield* refuse(file, "must name a file that Holdfast can read")
  return (
    QueryRoleMap.parse(text) ??
    (yield* refuse(file, 'must name a file like {"alice": {"role": "analyst", "password": "…"}}'))
  )
})

/** An embedded database is one instance's alone. */
const sharedQueries = (isOwn: boolean) =>
  Effect.map(oneOf("HOLDFAST_SHARED_QUERIES", isOwn ? ["on", "off"] : ["off", "on"]), (way) => way === "on")

/** Decodes the environment. */
export const load: Effect.Effect<Settings, SettingsError | OptionalPeer.PeerMissing> = Effect.gen(function* () {
  const unknown = SettingsNames.unknown(process.env)
  if (unknown !== undefined) return yield* refuse(unknown.name, unknown.problem)
  const maxQueries = yield* integer("HOLDFAST_MAX_QUERIES", 10, 1, 10_000)
  const maxConnections = yield* integer("HOLDFAST_MAX_CONNECTIONS", 10_000, 1, 1_000_000)
  const ownUrl = yield* databaseUrl("DATABASE_URL")
  const maxQueriesPerUser = yield* integer("HOLDFAST_MAX_QUERIES_PER_USER", Math.ceil(maxQueries / 2), 1, maxQueries)
  const engineSettings = yield* engines({ maxQueries, maxQueriesPerUser })
  const { isUsualElsewhere, queryUrl } = engineSettings
  const host = yield* read("HOST", (name) => Config.withDefault(Config.NonEmptyString(name), "127.0.0.1"), "an address")
  const settings: Settings = {
    host,
    port: yield* integer("PORT", 3000, 0, 65_535),
    descriptor: yield* SocketActivation.handed(process.env, process.pid),
    origin: yield* origin,
    tls: yield* ListenerSettings.tls,
    databaseUrl: ownUrl,
    ...engineSettings,
    snowflake: yield* snowflake,
    // In the embedded database there is a role that may make others; elsewhere that is the operator's to decide.
    queryRoles: yield* queryRoles(
      Option.isNone(ownUrl) && Option.isNone(queryUrl) && !isUsualElsewhere ? "per-user" : "shared"
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
      ),
      Effect.tap((password) => {
        const problem = Option.isNone(password) ? undefined : Passwords.problemOf(password.value)
        return problem === undefined ? Effect.void : refuse("HOLDFAST_DEMO_PASSWORD", problem)
      })
    ),
    ...(yield* timeouts),
    renewEvery: yield* duration("HOLDFAST_RENEW_EVERY", "1 hour"),
    maxSessions: yield* integer("HOLDFAST_MAX_SESSIONS", 5, 1, 1_000_000),
    maxQueries,
    maxQueriesPerUser,
    queryTimeouts: yield* queryTimeouts,
    queryRetention: yield* duration("HOLDFAST_QUERY_RETENTION", "15 minutes"),
    queryTrace: yield* oneOf("HOLDFAST_QUERY_TRACE", ["off", "comment"]),
    sharedQueries: yield* sharedQueries(Option.isSome(ownUrl)),
    allowsSuperuser: (yield* oneOf("HOLDFAST_QUERY_SUPERUSER", ["refuse", "allow"])) === "allow",
    sessionKeys: yield* sessionKeys,
    maxConnections,
    maxConnectionsPerAddress: yield* integer(
      "HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS",
      Math.min(1000, maxConnections),
      1,
      maxConnections
    ),
    keepAlive: yield* ListenerSettings.keepAlive,
    writeTimeout: yield* duration("HOLDFAST_WRITE_TIMEOUT", "30 seconds"),
    maxAnswersPerUser: yield* integer("HOLDFAST_MAX_ANSWERS_PER_USER", 32, 1, 100_000),
    maxStreamsPerUser: yield* integer("HOLDFAST_MAX_STREAMS_PER_USER", 100, 1, 100_000),
    requestMetrics: (yield* oneOf("HOLDFAST_REQUEST_METRICS", ["on", "off"])) === "on",
    drainDelay: yield* ListenerSettings.drainDelay,
    logFormat: yield* read(
      "HOLDFAST_LOG_FORMAT",
      (name) => Config.withDefault(Config.Literals(Logging.formats, name), Logging.usualFormat()),
      Logging.formats.join(" or ")
    ),
    logLevel: yield* read(
      "HOLDFAST_LOG_LEVEL",
      (name) => Config.withDefault(Config.Literals(logLevels, name), "info" as const),
      logLevels.join(" or ")
    ),
    accessLog: (yield* oneOf("HOLDFAST_ACCESS_LOG", ["off", "on"])) === "on",
    trustedProxies: yield* networks("HOLDFAST_TRUSTED_PROXIES"),
    ...(yield* FunctionSettings.load(Option.isNone(ownUrl)))
  }
  if (isUsualElsewhere && settings.queryRoles !== "shared") {
    return yield* refuse("HOLDFAST_QUERY_ROLES", "must be shared where HOLDFAST_QUERY_URL does not lead to PostgreSQL")
  }
  const requiresTls = (yield* oneOf("HOLDFAST_REQUIRE_TLS", ["off", "on"])) === "on"
  const [clear] = requiresTls ? ClearText.found(settings) : []
  if (clear !== undefined) {
    return yield* refuse(
      clear.variable,
      `must have ${clear.remedy}, because it leads beyond this machine and HOLDFAST_REQUIRE_TLS is on`
    )
  }
  if (Option.isSome(settings.tls) && Option.exists(settings.origin, ({ protocol }) => protocol === "http:")) {
    return yield* refuse("HOLDFAST_ORIGIN", "must be https: the service speaks TLS, because HOLDFAST_TLS_CERT is set")
  }
  if (Duration.isGreaterThan(settings.functionIdleTimeout, settings.functionAbsoluteTimeout)) {
    return yield* refuse(
      "HOLDFAST_FUNCTION_IDLE_TIMEOUT",
      "must not be longer than HOLDFAST_FUNCTION_ABSOLUTE_TIMEOUT: a function is over then in any case"
    )
  }
  // Where a socket was handed over, its own address is what counts.
  if (Option.isNone(settings.origin) && Option.isNone(settings.descriptor) && !Loopback.isLoopback(host)) {
    return yield* refuse("HOLDFAST_ORIGIN", `must be set to the https origin of the service when HOST is ${host}`)
  }
  return settings
}).pipe((load) =>
  Effect.flatMap(
    Effect.suspend(() => SecretFiles.resolve(process.env)),
    (resolved) => {
      const env = Object.fromEntries(
        Object.entries(resolved).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]]))
      )
      return Effect.provide(load, ConfigProvider.layer(ConfigProvider.fromEnv({ env, preserveEmptyStrings: true })))
    }
  )
)
