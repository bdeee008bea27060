/**
 * `holdfast serve`: everything composed.
 *
 * The service lives from the first line it prints until it is interrupted. Then it closes from the outside in: open streams
 * end, no new connection is accepted and running requests are answered; running queries get two seconds, then they are cancelled;
 * sessions end; pools close; the embedded database shuts down.
 */
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as ByteSize from "effect/ByteSize"
import * as Console from "effect/Console"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSwagger from "effect/http-api/HttpApiSwagger"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as ConnectionPool from "../connection/ConnectionPool.ts"
import * as PgConnectionSource from "../postgres/PgConnectionSource.ts"
import * as PgRecycle from "../postgres/PgRecycle.ts"
import * as PgTarget from "../postgres/internal/PgTarget.ts"
import * as ExactJson from "../http/ExactJson.ts"
import * as Preconditions from "../http/Preconditions.ts"
import * as Problem from "../http/Problem.ts"
import * as FileQueryResults from "../node/FileQueryResults.ts"
import * as PgQueryDriver from "../postgres/PgQueryDriver.ts"
import * as QueryRegistry from "../query/QueryRegistry.ts"
import type { QueryResults } from "../query/QueryResults.ts"
import * as SameOrigin from "../http/SameOrigin.ts"
import * as SessionCookie from "../http/SessionCookie.ts"
import * as Sessions from "../session/Sessions.ts"
import * as ClearText from "./ClearText.ts"
import * as Answers from "./Answers.ts"
import * as ClientAddress from "./ClientAddress.ts"
import * as Databases from "./Databases.ts"
import * as Draining from "./Draining.ts"
import * as FailureCounts from "./FailureCounts.ts"
import * as FunctionHandlers from "./FunctionHandlers.ts"
import * as FunctionServices from "./FunctionServices.ts"
import * as HealthHandlers from "./HealthHandlers.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import * as Listener from "./Listener.ts"
import * as Logins from "./Logins.ts"
import * as OpenApiDocument from "./OpenApiDocument.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import * as OperatorHandlers from "./OperatorHandlers.ts"
import * as QueryRoleMap from "./QueryRoleMap.ts"
import * as QueryRoles from "./QueryRoles.ts"
import * as QueryHandlers from "./QueryHandlers.ts"
import * as QueryTimeouts from "./QueryTimeouts.ts"
import * as QueryRole from "./QueryRole.ts"
import * as Readiness from "./Readiness.ts"
import * as RequestTarget from "./RequestTarget.ts"
import { Http } from "./ServiceSession.ts"
import * as SecurityHeaders from "./SecurityHeaders.ts"
import * as SessionHandlers from "./SessionHandlers.ts"
import * as SessionStores from "./SessionStores.ts"
import * as Settings from "./Settings.ts"
import * as SlowReaders from "./SlowReaders.ts"
import * as Users from "./Users.ts"

/** Where sessions are shared in Redis, so are the failures of logins: its absence stops both. */
const failureCounts = ({ redisUrl }: Settings.Settings) =>
  Option.match(redisUrl, {
    onNone: () => FailureCounts.layerMemory,
    onSome: (url) =>
      OptionalPeer.load(() => import("./RedisFailureCounts.ts"), "redis").pipe(
        Effect.map((RedisFailureCounts) => RedisFailureCounts.layer({ url })),
        Layer.unwrap
      )
  })

const routes = (settings: Settings.Settings, origin: URL) => {
  const { absoluteTimeout, idleTimeout, maxSessions, renewEvery } = settings
  const policy = { absoluteTimeout, idleTimeout, renewEvery, maxPerPrincipal: maxSessions }
  const described = OpenApiDocument.describe(HoldfastApi, { origin, cookie: SessionCookie.forOrigin(origin) })
  const api = HttpApiBuilder.layer(described, { openapiPath: "/openapi.json" }).pipe(
    Layer.provide([
      SessionHandlers.layer(policy),
      QueryHandlers.layer,
      FunctionHandlers.layer,
      OperatorHandlers.layer,
      HealthHandlers.layer
    ]),
    Layer.provide([
      Logins.layer,
      Answers.layer(settings),
      Layer.succeed(QueryTimeouts.QueryTimeouts, settings.queryTimeouts),
      QueryRoleMap.layerHasRole(settings.queryRoles)
    ]),
    Layer.provide([Layer.mergeAll(Http.layerRequired, Http.middleware).pipe(Layer.orDie), Problem.layerRequests]),
    Layer.provide([Preconditions.layer, ExactJson.layer]),
    Layer.provide(SessionCookie.layerOrigin(origin))
  )
  return Layer.mergeAll(
    SecurityHeaders.layer(origin),
    SlowReaders.layer(settings.writeTimeout),
    api,
    HttpApiSwagger.layer(described, { path: "/docs" }),
    SameOrigin.layer(origin.origin),
    RequestTarget.layer,
    Problem.layerEverywhere(HoldfastApi)
  )
}

const sessions = (settings: Settings.Settings, databases: Databases.Databases) =>
  Sessions.layer().pipe(
    Layer.provideMerge(SessionStores.layer(settings, databases)),
    Layer.provideMerge(
      Users.layer.pipe(
        Layer.provide(
          PgDirect.layer("users", { url: databases.own, maxConnections: 2, applicationName: "holdfast-users" })
        )
      )
    )
  )

/** Over what queries stand on, where that is in context. */
const queries = (settings: Settings.Settings) =>
  Effect.map(Effect.context<never>(), (context) =>
    Option.match(Context.getOption(context, ConnectionPool.ConnectionPool), {
      onNone: () => Layer.empty,
      onSome: () =>
        QueryRegistry.layer({
          maxRunning: settings.maxQueries,
          maxRunningPerPrincipal: settings.maxQueriesPerUser,
          deadline: settings.queryTimeouts.usual,
          maxDeadline: QueryTimeouts.longest,
          retention: settings.queryRetention,
          drain: "2 seconds"
        }).pipe(
          Layer.provide(settings.queryRoles === "shared" ? PgQueryDriver.layer : PgQueryDriver.layerPerPrincipal),
          Layer.provide(Layer.succeedContext(context as Context.Context<ConnectionPool.ConnectionPool | QueryResults>))
        )
    })
  ).pipe(Layer.unwrap)

/** How connections for users' SQL are opened. */
const connections = {
  url: (url: Redacted.Redacted<string>) => ({
    url,
    recycle: PgRecycle.foreign,
    statementTimeout: "1 day" as const,
    applicationName: "holdfast-queries"
  }),
  /**
   * All users' as one role. Those to the embedded server do not depend on what users' SQL has set this role to, and its password is
   * put back when somebody has changed it.
   */
  shared: (url: Redacted.Redacted<string>, own: Databases.Databases["embedded"]) =>
    Effect.gen(function* () {
      return PgConnectionSource.layer({
        ...connections.url(url),
        ...(Option.isSome(own) && { onRefused: () => own.value.repair, settings: yield* own.value.settings })
      })
    }).pipe(Layer.unwrap),
  /** Each user's as a role of their own, which is made when it is refused. What it sets for itself must not lock it out. */
  perUser: (url: Redacted.Redacted<string>, own: Databases.Databases["embedded"]) =>
    Effect.map(Effect.all([QueryRoles.QueryRoles, Users.Users]), ([{ login, put }, { isThere }]) =>
      PgConnectionSource.layer({
        ...connections.url(url),
        login,
        // What somebody has submitted who is removed by now gets no new role.
        onRefused: (principal) =>
          principal === undefined ? Effect.void : Effect.when(put(principal), isThere(principal)),
        settings: {
          local_preload_libraries: "",
          ...(Option.isSome(own) && { transaction_timeout: "0", default_transaction_read_only: "off" })
        }
      })
    ).pipe(Layer.unwrap)
}

/** What queries stand on, and readiness looks at: as whom and where they run, and where their rows are. */
const foundation = (settings: Settings.Settings, databases: Databases.Databases) =>
  Option.match(databases.queries, {
    onNone: () => Layer.empty,
    onSome: (url) => {
      const own = Option.isSome(settings.queryUrl) ? Option.none() : databases.embedded
      // The registry has drained when the pool closes.
      const pool = ConnectionPool.layer({
        max: settings.maxQueries,
        closeTimeout: "500 millis",
        onOpen: settings.allowsSuperuser ? undefined : QueryRole.ordinary
      })
      const stands = Layer.merge(pool, FileQueryResults.layer())
      if (settings.queryRoles === "shared") return Layer.provide(stands, connections.shared(url, own))
      if (settings.queryRoles !== "per-user") {
        return Layer.provide(stands, QueryRoleMap.layer(connections.url(url), settings.queryRoles))
      }
      // In a database of this instance's alone: its own queries, and what it needs to replace a connection.
      const limit = Option.isSome(own) ? { connectionLimit: settings.maxQueriesPerUser + 4 } : {}
      return stands.pipe(
        Layer.provide(connections.perUser(url, own)),
        Layer.provideMerge(QueryRoles.layer({ url, ...limit }))
      )
    }
  })

const sameTarget = (a: Redacted.Redacted<string>, b: Redacted.Redacted<string>) => {
  const [left, right] = [PgTarget.of(a), PgTarget.of(b)]
  return left.user === right.user || left.where === right.where
}

const warnings = (settings: Settings.Settings, databases: Databases.Databases, origin: URL) =>
  Effect.gen(function* () {
    if (origin.protocol === "http:") {
      yield* Effect.logWarning(
        `Development over http: the session cookie is ${SessionCookie.forOrigin(origin).name} and not Secure. Set HOLDFAST_ORIGIN to an https origin for anything else.`
      )
    }
    for (const { remedy, variable } of ClearText.found(settings)) {
      yield* Effect.logWarning(
        `${variable} leads beyond this machine without TLS: anybody on the way can read and change it. Give it ${remedy}, and set HOLDFAST_REQUIRE_TLS=on.`
      )
    }
    if (Option.isSome(settings.queryUrl) && sameTarget(databases.own, settings.queryUrl.value)) {
      yield* Effect.logWarning(
        "HOLDFAST_QUERY_URL has the role or the database of Holdfast's own tables: users' SQL could reach the sessions. Give it a role and a database of its own."
      )
    }
  })

const announce = (databases: Databases.Databases, url: string) =>
  Effect.gen(function* () {
    yield* Console.log(`Holdfast listening on ${url}`)
    if (Option.isNone(databases.embedded)) return
    if (Option.isSome(databases.demo)) yield* Console.log(`user demo, password ${Redacted.value(databases.demo.value)}`)
    yield* Console.log(`embedded PostgreSQL, data in ${databases.embedded.value.directory}`)
  })

/** Runs the service until it is interrupted, or until its embedded database is gone. */
export const serve = Effect.gen(function* () {
  const settings = yield* Settings.load
  yield* Listener.probe(settings)
  const databases = yield* Databases.serve(settings)

  const app = Layer.unwrap(
    Effect.gen(function* () {
      const { address } = yield* HttpServer.HttpServer
      const port = "port" in address ? address.port : settings.port
      const url = `http://${settings.host.includes(":") ? `[${settings.host}]` : settings.host}:${port}`
      const origin = Option.getOrElse(settings.origin, () => new URL(url))
      const readiness = yield* Readiness.Readiness
      // What is announced works; a client that asks earlier is told that it does not yet.
      const roles = yield* Effect.serviceOption(QueryRoles.QueryRoles)
      const rolesPrepared = Option.match(roles, { onNone: () => Effect.void, onSome: ({ prepared }) => prepared })
      const prepared = Option.isSome(databases.embedded)
        ? Effect.andThen(readiness.prepared, Option.isNone(settings.queryUrl) ? rolesPrepared : Effect.void)
        : Effect.void
      return Draining.layerSignal.pipe(
        Layer.provide(
          HttpRouter.serve(routes(settings, origin), {
            disableLogger: true,
            disableListenLog: true,
            middleware: ClientAddress.believe(settings.trustedProxies)
          })
        ),
        Layer.tap(() =>
          prepared.pipe(Effect.andThen(announce(databases, url)), Effect.andThen(warnings(settings, databases, origin)))
        )
      )
    })
  )
  const service = app.pipe(
    Layer.provide([Listener.layer(settings), Draining.layer]),
    Layer.provide([Layer.succeed(HttpIncomingMessage.MaxBodySize, ByteSize.mebibytes(1)), RequestTarget.layerRouter]),
    Layer.provide(queries(settings)),
    Layer.provide(FunctionServices.layer(settings, databases)),
    Layer.provide(Readiness.layer(settings, databases)),
    Layer.provide(foundation(settings, databases)),
    Layer.provide(failureCounts(settings)),
    Layer.provide(sessions(settings, databases))
  )
  return yield* Option.match(databases.embedded, {
    onNone: () => Layer.launch(service),
    onSome: ({ directory, exited }) =>
      Effect.raceFirst(
        Layer.launch(service),
        Effect.andThen(
          exited,
          Effect.fail(new Settings.SettingsError({ variable: directory, problem: "has lost its PostgreSQL server" }))
        )
      )
  })
}).pipe(Effect.scoped)
