/**
 * Sessions of an app that browsers find at one origin: its cookie, and no unsafe requests from other sites.
 *
 * What is made here lives as long as its layer, and is closed after the routes.
 *
 * **When to use**
 *
 * `PgSessions`, `RedisSessions` and `MemorySessions` are made of it. Use {@link sessions} over a store of your own.
 *
 * **Details**
 *
 * | origin                       | the cookie                                | for                     |
 * | ---------------------------- | ----------------------------------------- | ----------------------- |
 * | `https://…`                  | `__Host-holdfast`, Secure                 | everything              |
 * | `http://` on a loopback host | another name and not Secure, see `SessionCookie` | development on one machine |
 * | any other `http://`          | none: {@link layer} fails                 | nothing: anybody on the way could take the cookie |
 */
import * as Effect from "effect/Effect"
import type * as HttpRouter from "effect/http/HttpRouter"
import * as Layer from "effect/Layer"
import * as Loopback from "../lifetime/internal/Loopback.ts"
import * as Sessions from "../session/Sessions.ts"
import type { SessionStore } from "../session/SessionStore.ts"
import * as SameOrigin from "./SameOrigin.ts"
import * as SessionCookie from "./SessionCookie.ts"

/** Whether a host name is this machine's own. */
export const isLoopback = (hostname: string): boolean => Loopback.isLoopback(hostname)

/** What is wrong with an origin; nothing where it can be used. */
export const problemOf = (origin: string): string | undefined => {
  const url = URL.parse(origin)
  if (
    url === null ||
    !["http:", "https:"].includes(url.protocol) ||
    `${url.pathname}${url.search}${url.hash}` !== "/"
  ) {
    return "must be an origin without a path, like https://example.org"
  }
  return url.protocol === "https:" || isLoopback(url.hostname)
    ? undefined
    : "must be https: over http anybody on the way could take the session cookie"
}

/** The cookie for an origin, and the guard that lets in unsafe requests from there only. Fails where the origin makes no sense. */
export const layer = (
  origin: string | URL
): Layer.Layer<never, SessionCookie.SessionCookieInvalid, HttpRouter.HttpRouter> => {
  const text = String(origin)
  const problem = problemOf(text)
  if (problem !== undefined) {
    return Layer.unwrap(Effect.fail(new SessionCookie.SessionCookieInvalid({ field: "origin", problem })))
  }
  const url = new URL(text)
  return Layer.merge(SessionCookie.layerOrigin(url), SameOrigin.layer(url.origin))
}

/** Where browsers find the app, and how the ends of its sessions are found. */
export interface Options extends Sessions.Options {
  /** As browsers write it, such as `https://example.org`; see the table above. */
  readonly origin: string | URL
}

/** Everything that an app needs for its sessions over a store, which stays available. */
export const sessions = <E, R>(
  store: Layer.Layer<SessionStore, E, R>,
  options: Options
): Layer.Layer<Sessions.Sessions | SessionStore, E | SessionCookie.SessionCookieInvalid, R | HttpRouter.HttpRouter> =>
  Layer.merge(layer(options.origin), Sessions.layer(options)).pipe(Layer.provideMerge(store))
