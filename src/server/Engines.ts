/**
 * What users' SQL runs on: one engine or several, each with connections, places and readiness of its own.
 *
 * They live as long as the layer. Building it asks no server: an engine that is away is there, and not ready.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as ConnectionPool from "../connection/ConnectionPool.ts"
import type { ConnectionError } from "../connection/ConnectionError.ts"
import type { ConnectionSource } from "../connection/ConnectionSource.ts"
import * as PgConnectionSource from "../postgres/PgConnectionSource.ts"
import * as PgQueryBackends from "../postgres/PgQueryBackends.ts"
import * as PgQueryDriver from "../postgres/PgQueryDriver.ts"
import * as PgRecycle from "../postgres/PgRecycle.ts"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import { type Elsewhere, QueryDriver } from "../query/QueryDriver.ts"
import * as SqliteConnectionSource from "../sqlite/SqliteConnectionSource.ts"
import * as SqliteQueryDriver from "../sqlite/SqliteQueryDriver.ts"
import type * as EngineSettings from "./EngineSettings.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import * as QueryRole from "./QueryRole.ts"
import * as QueryRoles from "./QueryRoles.ts"
import { remembered } from "./Remembered.ts"
import type * as Settings from "./Settings.ts"
import * as SnowflakeEngine from "./SnowflakeEngine.ts"

/** An engine as the service sees it. */
export interface Engine extends EngineSettings.Limits {
  readonly kind: EngineSettings.Kind
  readonly driver: QueryDriver["Service"]
  readonly capabilities: QueryCapabilities
  /** Ends what an instance has left running there that is gone, where something can. */
  readonly elsewhere: Elsewhere | undefined
  /** Whether queries can run on it now, give or take a second, or five where each question is a statement that costs. */
  readonly isReady: Effect.Effect<boolean>
}

export class Engines extends Context.Service<Engines, ReadonlyMap<string, Engine>>()("holdfast/server/Engines") {}

/** What instances have at the database of the usual engine, where there is one. */
export class Backends extends Context.Service<Backends, PgQueryBackends.PgQueryBackends>()(
  "holdfast/server/Backends"
) {}

/** For what every submission asks, and everybody's load balancer: one answer a second is enough. */
export const onceASecond = <A, E, R>(effect: Effect.Effect<A, E, R>) => remembered(effect, () => "1 second")

// The pool needs three seconds to see that a connection is dead, and then opens another.
const readinessOf = <E>(check: Effect.Effect<void, E>, kind: EngineSettings.Kind) =>
  remembered(Effect.isSuccess(Effect.timeout(check, "4 seconds")), (exit) =>
    kind === "snowflake" && Exit.isSuccess(exit) && exit.value ? "5 seconds" : "1 second"
  )

/** How connections to PostgreSQL for users' SQL are opened. */
export const postgres = (url: Redacted.Redacted<string>) => ({
  url,
  recycle: PgRecycle.foreign,
  statementTimeout: "1 day" as const,
  applicationName: "holdfast-queries"
})

/** Metrics say which engine it is: an address may be another one after each start. The registry has drained when a pool closes. */
export const poolOptions = (name: string, maxQueries: number): ConnectionPool.Options => ({
  name,
  max: maxQueries,
  closeTimeout: "500 millis"
})

/** A driver over a pool of its own. */
const pooled = <E>(
  driver: Layer.Layer<QueryDriver, never, ConnectionPool.ConnectionPool>,
  source: Layer.Layer<ConnectionSource, E>,
  options: ConnectionPool.Options
) =>
  Effect.map(
    // The same layer of two engines would be built once.
    Layer.build(Layer.fresh(driver.pipe(Layer.provideMerge(ConnectionPool.layer(options)), Layer.provide(source)))),
    (built) => ({
      driver: Context.get(built, QueryDriver),
      ready: Context.get(built, ConnectionPool.ConnectionPool).ping
    })
  )

/** What a URL that was looked at says, and what is wrong with it is a mistake of ours. */
const orMine = <A, R>(effect: Effect.Effect<A, ConnectionError, R>) => Effect.orDie(effect)

interface Made {
  readonly driver: QueryDriver["Service"]
  readonly ready: Effect.Effect<void, unknown>
  /** Default: the driver's. */
  readonly elsewhere?: Elsewhere | undefined
}

const makers = {
  postgres: ({ maxQueries, name, password, url }: EngineSettings.EngineSettings, settings: Settings.Settings) =>
    Effect.flatMap(
      PgQueryBackends.make({ engine: name, url, password: Option.getOrUndefined(password) }),
      (elsewhere) =>
        orMine(
          pooled(
            PgQueryDriver.layer,
            PgConnectionSource.layer({
              ...postgres(url),
              ...(Option.isSome(password) && { password: Effect.succeed(password.value) })
            }),
            {
              ...poolOptions(name, maxQueries),
              onOpen: settings.allowsSuperuser
                ? elsewhere.register
                : Effect.andThen(QueryRole.ordinary, elsewhere.register)
            }
          )
        ).pipe(Effect.map((made) => ({ ...made, elsewhere })))
    ),
  mysql: ({ maxQueries, name, password, url }: EngineSettings.EngineSettings) =>
    Effect.flatMap(
      OptionalPeer.load(
        async () => ({
          ...(await import("../mysql/MysqlConnectionSource.ts")),
          backends: (await import("../mysql/MysqlQueryBackends.ts")).make,
          driver: (await import("../mysql/MysqlQueryDriver.ts")).layer
        }),
        "mysql2"
      ),
      ({ backends, driver, layer }) => {
        const where = { url, password: Option.getOrUndefined(password) }
        return Effect.flatMap(backends({ engine: name, ...where }), (elsewhere) =>
          Effect.map(
            orMine(pooled(driver, layer(where), { ...poolOptions(name, maxQueries), onOpen: elsewhere.register })),
            (made) => ({ ...made, elsewhere })
          )
        )
      }
    ),
  sqlite: ({ maxQueries, name, url }: EngineSettings.EngineSettings) =>
    orMine(
      pooled(
        SqliteQueryDriver.layer,
        SqliteConnectionSource.layer({ url: Redacted.value(url) }),
        poolOptions(name, maxQueries)
      )
    ),
  snowflake: (engine: EngineSettings.EngineSettings, settings: Settings.Settings) =>
    SnowflakeEngine.make(engine, settings.snowflake)
}

const capabilitiesOf = (kind: EngineSettings.Kind): Effect.Effect<QueryCapabilities> => {
  switch (kind) {
    case "postgres":
      return Effect.succeed(PgQueryDriver.capabilities)
    case "sqlite":
      return Effect.succeed(SqliteQueryDriver.capabilities)
    case "snowflake":
      return SnowflakeEngine.capabilities
    case "mysql":
      return Effect.promise(async () => (await import("../mysql/MysqlQueryDriver.ts")).capabilities)
  }
}

const makeOne = Effect.fnUntraced(function* (engine: EngineSettings.EngineSettings, settings: Settings.Settings) {
  const { kind, maxQueries, maxQueriesPerUser, name } = engine
  const { driver, elsewhere = driver.elsewhere, ready }: Made = yield* makers[kind](engine, settings)
  const made: Engine = {
    kind,
    driver,
    capabilities: yield* capabilitiesOf(kind),
    elsewhere,
    isReady: yield* readinessOf<unknown>(ready, kind),
    maxQueries,
    maxQueriesPerUser
  }
  return [name, made] as const
})

/** The usual one, over the `ConnectionPool` in context and the `QueryRoles` there, where there are some. */
const makeUsual = Effect.fnUntraced(function* (
  settings: Settings.Settings,
  pool: ConnectionPool.ConnectionPool["Service"]
) {
  const isShared = settings.queryRoles === "shared"
  const roles = Option.match(yield* Effect.serviceOption(QueryRoles.QueryRoles), {
    onNone: () => Effect.void,
    onSome: ({ ready }) => ready
  })
  const driver = yield* (isShared ? PgQueryDriver.make : PgQueryDriver.makePerPrincipal).pipe(
    Effect.provideService(ConnectionPool.ConnectionPool, pool)
  )
  const made: Engine = {
    kind: "postgres",
    driver,
    capabilities: { ...PgQueryDriver.capabilities, roles: !isShared },
    elsewhere: Option.getOrUndefined(yield* Effect.serviceOption(Backends)),
    isReady: yield* readinessOf<unknown>(Effect.andThen(roles, pool.ping), "postgres"),
    ...settings.usualLimits
  }
  return made
})

/** All that the settings name. The usual one comes first, where there is one. */
export const layer = (
  settings: Settings.Settings
): Layer.Layer<Engines, OptionalPeer.PeerMissing | Settings.SettingsError> =>
  Layer.effect(
    Engines,
    Effect.gen(function* () {
      const pool = yield* Effect.serviceOption(ConnectionPool.ConnectionPool)
      const usual = Option.isNone(pool) ? [] : [["default", yield* makeUsual(settings, pool.value)] as const]
      const others = yield* Effect.forEach(settings.engines, (engine) => makeOne(engine, settings))
      return new Map<string, Engine>([...usual, ...others])
    }).pipe(Effect.provideService(PgQueryDriver.TracePropagation, settings.queryTrace))
  )
