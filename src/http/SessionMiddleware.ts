/**
 * Sessions over HTTP: a handle for each request, and the cookie that goes with it.
 *
 * A handle lives as long as its request, a streamed body included. Nothing is asked of the store for a request that asks
 * nothing of the handle, and nothing is stored for a visitor who has no data.
 *
 * **When to use**
 *
 * `middleware` for the routes of an `HttpRouter`, and for calls of an `HttpApi` that do without a session, such as a login.
 * `Required` for calls of an `HttpApi` that need one: it is loaded before the handler runs, renewed when it is due, and
 * `Lifetime.Current`, so that queries belong to it.
 *
 * **Details**
 *
 * Data is in the store before the response begins, because every write goes through at once; nothing is written after it.
 * The cookie alone waits for the response, and only says what is in the store by then. A token that is due is renewed then,
 * and whether a cookie is still to be removed is asked once more, so that a slow answer does not undo what a login beside it
 * brought:
 *
 * | the request                       | the cookie                                                                     |
 * | --------------------------------- | ------------------------------------------------------------------------------ |
 * | is answered, with whatever status | goes with the answer: a login that took effect counts, also if the rest failed |
 * | streams its body                  | goes before the first byte. The body may read and change data; a login, or the first change of a visitor's data, fails with `SessionInvalid` in it, because the client could not learn the token |
 * | becomes a WebSocket               | cannot be sent: a login, or the first change of a visitor's data, fails with `SessionInvalid` |
 * | dies with a 500                   | goes with the 500                                                              |
 * | is interrupted                    | goes with what is sent, if anything is. The client may have the old token only: after a login it is refused, after a renewal it is good until the new one was presented |
 *
 * A cookie that leads to no session is removed, unless its token was replaced by a newer one: that one is on its way with
 * another response.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as HttpRouter from "effect/http/HttpRouter"
import type { HttpServerResponse as Response } from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Types from "effect/Types"
import * as Lifetime from "../lifetime/Lifetime.ts"
import type { ServiceClass } from "../session/Session.ts"
import * as RequestSession from "./internal/RequestSession.ts"
import * as SessionCookie from "./SessionCookie.ts"
import * as SessionProblem from "./SessionProblem.ts"
import { Sessions } from "../session/Sessions.ts"

/** What {@link Middleware.Required} is, as `HttpApi` knows it: it provides the session and may answer these problems. */
export interface Required<Self> extends HttpApiMiddleware.AnyId {
  readonly "~effect/http-api/HttpApiMiddleware": {
    readonly provides: Self
    readonly requires: never
    readonly error: typeof SessionProblem.required
    readonly clientError: never
    readonly requiredForClient: false
  }
}

/** The class of {@link Middleware.Required}. */
export type RequiredClass<Self, Id extends string> = HttpApiMiddleware.ServiceClass<
  Required<Self>,
  `${Id}/Required`,
  Required<Self>["~effect/http-api/HttpApiMiddleware"] & {
    readonly security: { readonly cookie: HttpApiSecurity.ApiKey }
  }
>

/** What {@link make} makes for a session class. */
export interface Middleware<Self, Id extends string> {
  /** Provides the routes it is provided to with a handle per request. */
  readonly middleware: Layer.Layer<
    HttpRouter.Request.From<"Requires", Self>,
    SessionCookie.SessionCookieInvalid,
    Sessions
  >
  /** For calls that need a session: `group.middleware(Required)`. OpenAPI names the cookie. */
  readonly Required: RequiredClass<Self, Id>
  /** Answers 401 where there is no session and 503 where the store cannot be reached, never the one for the other. */
  readonly layerRequired: Layer.Layer<Required<Self>, SessionCookie.SessionCookieInvalid, Sessions>
}

/** How sessions meet HTTP. */
export interface Options {
  /** Default: `SessionCookie.Current` of the context that the layers are built in, and its default name in OpenAPI. */
  readonly cookie?: SessionCookie.Options | undefined
}

/** Makes the middleware of a session class. The cookie is checked when the layers are built. */
export const make = <Self, const Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>,
  options: Options = {}
): Middleware<Self, Id> => {
  /** Makes handles on the sessions of requests. */
  const handles = Effect.gen(function* () {
    const sessions = yield* Sessions
    const cookie = yield* RequestSession.cookieOf(options.cookie)
    return Effect.provideService(RequestSession.handleOf(session, cookie), Sessions, sessions)
  })
  const key = options.cookie?.name ?? SessionCookie.Current.defaultValue().name
  const Required: RequiredClass<Self, Id> = HttpApiMiddleware.Service<Required<Self>, { provides: Self }>()(
    `${session.key as Id}/Required`,
    { error: SessionProblem.required, security: { cookie: HttpApiSecurity.apiKey({ key, in: "cookie" }) } }
  )
  return {
    middleware: HttpRouter.middleware<{ provides: Self }>()(
      Effect.map(
        handles,
        (handle) => (handled) =>
          Effect.flatMap(
            handle,
            // For a class that is not known yet, the compiler cannot tell that nothing is left to be provided.
            (made) => Effect.provideService(handled, session, made) as Effect.Effect<Response, Types.unhandled>
          )
      )
    ).layer,
    Required,
    layerRequired: Layer.effect(
      Required,
      Effect.map(handles, (handle) => ({
        cookie: (handled) =>
          Effect.gen(function* () {
            const made = yield* handle
            const lifetime = yield* Effect.mapError(made.lifetime, SessionProblem.from)
            const context = Context.add(Context.make(session, made), Lifetime.Current, lifetime)
            return yield* Effect.provideContext(handled, context)
          })
      }))
    )
  }
}
