/**
 * Sessions of an app in Redis or Valkey: everything in one layer.
 *
 * The connections live as long as the layer, the sessions as long as they are in Redis. The app starts also while the server
 * is away: calls that need a session answer 503 until it is back. There is nothing to migrate.
 *
 * **Example** (Ten lines of sessions)
 *
 * ```ts
 * const SessionsLive = RedisSessions.layerConfig({
 *   url: Config.Redacted("REDIS_URL"),
 *   origin: Config.String("ORIGIN")
 * })
 * ```
 *
 * Install `redis` beside Holdfast.
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import type { SessionCookieInvalid } from "../http/SessionCookie.ts"
import * as SessionOrigin from "../http/SessionOrigin.ts"
import type { Sessions } from "../session/Sessions.ts"
import type { SessionStore } from "../session/SessionStore.ts"
import * as RedisSessionStore from "./RedisSessionStore.ts"

/** Where the sessions are, and where browsers find the app. */
export interface Options extends SessionOrigin.Options, RedisSessionStore.Options {}

/** The store with its pruning, `Sessions`, the cookie for the origin, and the guard against requests from other sites. */
export const layer = (
  options: Options
): Layer.Layer<Sessions | SessionStore, SessionCookieInvalid, HttpRouter.HttpRouter> =>
  SessionOrigin.sessions(RedisSessionStore.layer(options), options)

/** As {@link layer}, from wrapped configuration. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<Sessions | SessionStore, SessionCookieInvalid | Config.ConfigError, HttpRouter.HttpRouter> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
