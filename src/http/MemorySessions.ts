/**
 * Sessions of an app in the memory of its process: everything in one layer, for tests and for trying things out.
 *
 * The sessions live as long as the layer; a restart forgets them. `PgSessions` and `RedisSessions` have the same form.
 *
 * **Example** (Ten lines of sessions)
 *
 * ```ts
 * routes.pipe(Layer.provide(Http.middleware), Layer.provide(MemorySessions.layer({ origin: "http://localhost:3000" })))
 * ```
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as MemorySessionStore from "../session/MemorySessionStore.ts"
import type { Sessions } from "../session/Sessions.ts"
import type { SessionStore } from "../session/SessionStore.ts"
import type { SessionCookieInvalid } from "./SessionCookie.ts"
import * as SessionOrigin from "./SessionOrigin.ts"

/** Where browsers find the app, and how the store is pruned. */
export interface Options extends SessionOrigin.Options, MemorySessionStore.Options {}

/** The store with its pruning, `Sessions`, the cookie for the origin, and the guard against requests from other sites. */
export const layer = (
  options: Options
): Layer.Layer<Sessions | SessionStore, SessionCookieInvalid, HttpRouter.HttpRouter> =>
  SessionOrigin.sessions(MemorySessionStore.layerWith(options), options)

/** As {@link layer}, from wrapped configuration: `layerConfig({ origin: Config.String("ORIGIN") })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<Sessions | SessionStore, SessionCookieInvalid | Config.ConfigError, HttpRouter.HttpRouter> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
