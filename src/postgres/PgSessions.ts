/**
 * Sessions of an app in PostgreSQL: everything in one layer.
 *
 * The connections live as long as the layer, the sessions as long as they are in the database. The app starts also while the
 * database is away: calls that need a session answer 503, and the tables are made when it is there.
 *
 * Install `@effect/sql-pg` beside Holdfast.
 *
 * **Example** (Ten lines of sessions)
 *
 * ```ts
 * const SessionsLive = PgSessions.layerConfig({
 *   url: Config.Redacted("DATABASE_URL"),
 *   origin: Config.String("ORIGIN")
 * })
 * ```
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import type { SessionCookieInvalid } from "../http/SessionCookie.ts"
import * as SessionOrigin from "../http/SessionOrigin.ts"
import type { Sessions } from "../session/Sessions.ts"
import type { SessionStore } from "../session/SessionStore.ts"
import * as PgSessionStore from "./PgSessionStore.ts"

/** Where the sessions are, and where browsers find the app. */
export interface Options extends SessionOrigin.Options, PgSessionStore.Options {
  /**
   * Brings the tables up to date when the app starts; instances that start together apply each change once. Default: true. With
   * `false` another program does it, see `PgSessionStore.migrate`.
   */
  readonly migrate?: boolean | undefined
}

/** Again and again, until the tables are there. */
const patience = Schedule.spaced("1 second")

/** Makes the tables before the app serves, or in the background where the database does not let it. */
const prepare = (options: Options) =>
  Effect.gen(function* () {
    const migrate = PgSessionStore.migrate(options)
    const first = yield* Effect.exit(migrate)
    if (first._tag === "Success") return
    yield* LogEvent.error(
      { event: "tables.failed" },
      "The tables of the sessions cannot be made; it is tried again until they are",
      first.cause
    )
    yield* migrate.pipe(
      Effect.retry(patience),
      Effect.andThen(LogEvent.info({ event: "tables.made" }, "The tables of the sessions are made")),
      Effect.forkScoped
    )
  })

/**
 * The store with its pruning and its tables, `Sessions`, the cookie for the origin, and the guard against requests from other
 * sites.
 */
export const layer = (
  options: Options
): Layer.Layer<Sessions | SessionStore, SessionCookieInvalid, HttpRouter.HttpRouter> => {
  const store = PgSessionStore.layer(options)
  const prepared = options.migrate === false ? store : Layer.merge(store, Layer.effectDiscard(prepare(options)))
  return SessionOrigin.sessions(prepared, options)
}

/** As {@link layer}, from wrapped configuration. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<Sessions | SessionStore, SessionCookieInvalid | Config.ConfigError, HttpRouter.HttpRouter> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
