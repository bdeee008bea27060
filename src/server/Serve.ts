/**
 * `holdfast serve`: everything composed.
 *
 * The service lives from the first line it prints until it is interrupted. Then scripts get half a second, then they are stopped.
 * Meanwhile it closes from the outside in: open streams end, no new connection is accepted and running requests are answered; running
 * queries get two seconds, then they are cancelled; sessions end; pools close; the embedded database shuts down.
 */
import * as PgDirect from "../postgres/internal/PgDirect.ts"
import * as ByteSize from "effect/ByteSize"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSwagger from "effect/http-api/HttpApiSwagger"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as ConnectionPool from "../connection/ConnectionPool.ts"
import * as PgConnectionSource from "../postgres/PgConnectionSource.ts"
import * as PgQueryBackends from "../postgres/PgQueryBackends.ts"
import * as ExactJson from "../http/ExactJson.ts"
import * as Preconditions from "../http/Preconditions.ts"
import * as Problem from "../http/Problem.ts"
import * as QueryRegistry from "../query/QueryRegistry.ts"
import type { QueryResults } from "../query/QueryResults.ts"
import * as SessionCookie from "../http/SessionCookie.ts"
import * as Sessions from "../session/Sessions.ts"
import * as AccessLog from "./AccessLog.ts"
import * as Answers from "./Answers.ts"
import * as ClientAddress from "./ClientAddress.ts"
import * as ConsolePage from "./ConsolePage.ts"
import * as Databases from "./Databases.ts"
import * as Draining from "./Draining.ts"
import * as Edge from "./Edge.ts"
import * as Engines from "./Engines.ts"
import * as EngineSettings from "./EngineSettings.ts"
import * as FailureCounts from "./FailureCounts.ts"
import * as FunctionHandlers from "./FunctionHandlers.ts"
import * as FunctionServices from "./FunctionServices.ts"
import * as HealthHandlers from "./HealthHandlers.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import * as Listener from "./Listener.ts"
import * as LiveSessions from "./LiveSessions.ts"
import * as Logging from "./Logging.ts"
import * as Logins from "./Logins.ts"
import * as OpenApiDocument from "./OpenApiDocument.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import * as OperatorHandlers from "./OperatorHandlers.ts"
import * as QueryNews from "./QueryNews.ts"
import * as QueryPriority from "./QueryPriority.ts"
import * as QueryRoleMap from "./QueryRoleMap.ts"
import * as QueryRoles from "./QueryRoles.ts"
import * as QueryHandlers from "./QueryHandlers.ts"
import * as QueryTimeouts from "./QueryTimeouts.ts"
import * as QueryRole from "./QueryRole.ts"
import * as Readiness from "./Readiness.ts"
import * as RequestTarget from "./RequestTarget.ts"
import { Http } from "./ServiceSession.ts"
import * as ProcessMetrics from "./ProcessMetrics.ts"
import * as RequestMetrics from "./RequestMetrics.ts"
import * as RequestObservers from "./RequestObservers.ts"
import * as ServiceLife from "./ServiceLife.ts"
import * as SessionHandlers from "./SessionHandlers.ts"
import * as SessionNews from "../http/internal/SessionNews.ts"
import * as SessionStoreMetrics from "./SessionStoreMetrics.ts"
import * as SessionStores from "./SessionStores.ts"
import * as SharedQueries from "./SharedQueries.ts"
import * as Settings from "./Settings.ts"
import * as SlowReaders from "./SlowReaders.ts"
import * as SocketActivation from "./SocketActivation.ts"
import * as StartMessages from "./StartMessages.ts"
import * as Telemetry from "./Telemetry.ts"
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
      QueryNews.layer,
      Layer.succeed(QueryTimeouts.QueryTimeouts, settings.queryTimeouts),
      QueryRoleMap.layerHasRole(settings.queryRoles)
    ]),
    Layer.provide([Layer.mergeAll(Http.layerRequired, Http.middleware).pipe(Layer.orDie), Problem.layerRequests]),
    Layer.provide([Preconditions.layer, ExactJson.layer]),
    Layer.provide(SessionCookie.layerOrigin(origin))
  )
  const edge = Edge.layer(origin).pipe(Layer.provide(SlowReaders.layer(settings.writeTimeout)))
  return Layer.mergeAll(edge, api, ConsolePage.layer, HttpApiSwagger.layer(described, { path: "/docs" }))
}

const sessions = (settings: Settings.Settings, databases: Databases.Databases) =>
  SessionNews.layer.pipe(
    Layer.provide(Sessions.layer()),
    Layer.provideMerge(
      settings.requestMetrics
        ? SessionStoreMetrics.layer(SessionStores.layer(settings, databases))
        : SessionStores.layer(settings, databases)
    ),
    Layer.provideMerge(
      Layer.merge(Users.layer, LiveSessions.layer(settings)).pipe(
        Layer.provide(
          PgDirect.layer("users", { url: databases.own, maxConnections: 2, applicationName: "holdfast-users" })
        )
      )
    )
  )

/** Over the engines in context, where there are some. */
const queries = (settings: Settings.Settings) =>
  Effect.map(Effect.all([Engines.Engines, Effect.context<never>()]), ([engines, context]) =>
    engines.size === 0
      ? Layer.empty
      : Layer.effect(
          QueryRegistry.QueryRegistry,
          QueryRegistry.makeEngines(
            new Map(
              Array.from(engines, ([name, { driver, elsewhere, maxQueries, maxQueriesPerUser }]) => [
                name,
                {
                  driver,
                  limits: { maxRunning: maxQueries, maxRunningPerPrincipal: maxQueriesPerUser },
                  elsewhere
                }
              ])
            ),
            {
              deadline: settings.queryTimeouts.usual,
              maxDeadline: QueryTimeouts.longest,
              retention: settings.queryRetention,
              drain: "2 seconds"
            }
          )
        ).pipe(Layer.provide(Layer.succeedContext(context as Context.Context<QueryResults>)))
  ).pipe(Layer.unwrap)

/** How connections for users' SQL are opened. */
const connections = {
  url: Engines.postgres,
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

/** What queries of the usual engine stand on: as whom and where they run. */
const usual = (settings: Settings.Settings, databases: Databases.Databases) =>
  Option.match(databases.queries, {
    onNone: () => Layer.empty,
    onSome: (url) => {
      const own = Option.isSome(settings.queryUrl) ? Option.none() : databases.embedded
      const { maxQueries, maxQueriesPerUser } = settings.usualLimits
      const prepare = Effect.andThen(
        settings.allowsSuperuser ? Effect.void : QueryRole.ordinary,
        Option.isSome(own) ? QueryPriority.behindTheService : Effect.void
      )
      const roles = settings.queryRoles === "shared" ? ("own" as const) : ("others" as const)
      const stands = Effect.map(Engines.Backends, ({ register }) =>
        ConnectionPool.layer({
          ...Engines.poolOptions(EngineSettings.usual, maxQueries),
          onOpen: Effect.andThen(prepare, register)
        })
      ).pipe(
        Layer.unwrap,
        Layer.provideMerge(
          Layer.effect(Engines.Backends, PgQueryBackends.make({ engine: EngineSettings.usual, url, roles }))
        )
      )
      if (settings.queryRoles === "shared") return Layer.provide(stands, connections.shared(url, own))
      if (settings.queryRoles !== "per-user") {
        return Layer.provide(stands, QueryRoleMap.layer(connections.url(url), settings.queryRoles))
      }
      // In a database of this instance's alone: its own queries, and what it needs to replace a connection.
      const limit = Option.isSome(own) ? { connectionLimit: maxQueriesPerUser + 4 } : {}
      return stands.pipe(
        Layer.provide(connections.perUser(url, own)),
        Layer.provideMerge(QueryRoles.layer({ url, ...limit }))
      )
    }
  })

/** What queries stand on, and readiness looks at: the engines, and where rows are kept. */
const foundation = (settings: Settings.Settings, databases: Databases.Databases) => {
  const engines = Engines.layer(settings).pipe(Layer.provideMerge(usual(settings, databases)))
  return settings.engines.length === 0 && Option.isNone(databases.queries)
    ? engines
    : Layer.merge(engines, SharedQueries.layerResults(settings, databases))
}

/** The listener, for which everything is watched that somebody looks at. */
const listener = (settings: Settings.Settings) =>
  Effect.map(RequestObservers.RequestObservers, (observers) =>
    Listener.layer({ ...settings, watch: RequestObservers.watcher(observers) })
  ).pipe(Layer.unwrap)

/** Those who look at requests. */
const observers = ({ accessLog, requestMetrics }: Settings.Settings) =>
  Layer.effect(
    RequestObservers.RequestObservers,
    Effect.all([...(requestMetrics ? [RequestMetrics.make] : []), ...(accessLog ? [AccessLog.make] : [])])
  )

const quietly = { disableLogger: true, disableListenLog: true }

const run = Effect.fnUntraced(function* (settings: Settings.Settings) {
  yield* SocketActivation.forget
  yield* Listener.probe(settings)
  const databases = yield* Databases.serve(settings)

  const app = Layer.unwrap(
    Effect.gen(function* () {
      const { address } = yield* HttpServer.HttpServer
      const url = yield* Listener.urlOf(settings, address)
      const origin = Option.getOrElse(settings.origin, () => new URL(url))
      const readiness = yield* Readiness.Readiness
      // Clients that wait on a socket of systemd get what they asked for, and not that it is too early.
      if (Option.isSome(settings.descriptor)) yield* Effect.timeoutOption(readiness.prepared, "10 seconds")
      // What is announced works; a client that asks earlier is told that it does not yet.
      const roles = yield* Effect.serviceOption(QueryRoles.QueryRoles)
      const rolesPrepared = Option.match(roles, { onNone: () => Effect.void, onSome: ({ prepared }) => prepared })
      const prepared = Option.isSome(databases.embedded)
        ? Effect.andThen(readiness.prepared, Option.isNone(settings.queryUrl) ? rolesPrepared : Effect.void)
        : Effect.void
      return Layer.merge(Draining.layerSignal(settings.drainDelay), ServiceLife.layerDraining).pipe(
        Layer.provide(
          settings.trustedProxies.length === 0
            ? HttpRouter.serve(routes(settings, origin), quietly)
            : HttpRouter.serve(routes(settings, origin), {
                ...quietly,
                middleware: ClientAddress.believe(settings.trustedProxies)
              })
        ),
        Layer.tap(() =>
          prepared.pipe(
            Effect.andThen(StartMessages.announce(databases, url)),
            Effect.andThen(StartMessages.warnings(settings, databases, origin))
          )
        )
      )
    })
  )
  const service = app.pipe(
    Layer.provide(listener(settings)),
    Layer.provide([Layer.succeed(HttpIncomingMessage.MaxBodySize, ByteSize.mebibytes(1)), RequestTarget.layerRouter]),
    Layer.provide(SharedQueries.layerWatch),
    Layer.provide(SharedQueries.layerEndsElsewhere),
    Layer.provide(queries(settings)),
    Layer.provide(FunctionServices.layer(settings, databases)),
    Layer.provide(Draining.layer),
    Layer.provide(Readiness.layer(settings, databases)),
    Layer.provide(foundation(settings, databases)),
    Layer.provide(SharedQueries.layerJournal(settings, databases)),
    Layer.provide(failureCounts(settings)),
    Layer.provide(sessions(settings, databases)),
    Layer.provide([observers(settings), ProcessMetrics.layer])
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
}, Effect.scoped)

/** Runs the service until it is interrupted, or until its embedded database is gone. */
export const serve = Effect.flatMap(Settings.load, (settings) => {
  const log = Logging.layer({ format: settings.logFormat, level: settings.logLevel }, settings.accessLog)
  // The exporter is the last to close, so that it sends what is said at the end.
  return Effect.provide(
    run(settings),
    ServiceLife.layer.pipe(Layer.provideMerge(Telemetry.layer), Layer.provideMerge(log))
  )
})
