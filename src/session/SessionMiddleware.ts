/**
 * Sessions for an `HttpApi`: calls that need one declare it, and get it typed.
 *
 * The handle that a call receives lives as long as the call; a session that ends meanwhile ends the work tied to it.
 */
import * as Effect from "effect/Effect"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type { ServiceClass } from "./Session.ts"
import * as SessionCookie from "./SessionCookie.ts"
import type { SessionError } from "./SessionError.ts"
import * as SessionProblem from "./SessionProblem.ts"
import { Sessions } from "./Sessions.ts"

/** What {@link required} makes, as `HttpApi` knows it: it provides the session and may answer these problems. */
export interface Required<Self> extends HttpApiMiddleware.AnyId {
  readonly "~effect/http-api/HttpApiMiddleware": {
    readonly provides: Self
    readonly requires: never
    readonly error: typeof SessionProblem.required
    readonly clientError: never
    readonly requiredForClient: false
  }
}

/** The class that {@link required} makes. */
export type RequiredClass<Self, Id extends string> = HttpApiMiddleware.ServiceClass<
  Required<Self>,
  `${Id}/Required`,
  Required<Self>["~effect/http-api/HttpApiMiddleware"] & {
    readonly security: { readonly cookie: HttpApiSecurity.ApiKey }
  }
>

/**
 * Makes the middleware for calls that need a session: `group.middleware(Required)`.
 *
 * **Details**
 *
 * OpenAPI names the cookie that an https origin gets; which one is read is decided by the layer.
 */
export const required = <Self, const Id extends string>(id: Id): RequiredClass<Self, Id> =>
  HttpApiMiddleware.Service<Required<Self>, { provides: Self }>()(`${id}/Required`, {
    error: SessionProblem.required,
    security: { cookie: HttpApiSecurity.apiKey({ key: "__Host-holdfast", in: "cookie" }) }
  })

/**
 * Loads the session of each request before its handler runs.
 *
 * Answers 401 where there is none and 503 where the store cannot be reached, never the one for the other.
 */
export const layerRequired = <Self, Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>,
  middleware: RequiredClass<Self, Id>,
  cookie: SessionCookie.SessionCookie
): Layer.Layer<Required<Self>, never, Sessions> =>
  Layer.effect(
    middleware,
    Effect.gen(function* () {
      const sessions = yield* Sessions
      return {
        cookie: (handled) =>
          Effect.gen(function* () {
            const request = yield* HttpServerRequest.HttpServerRequest
            const token = SessionCookie.read(cookie, request)
            if (Option.isNone(token)) return yield* new SessionProblem.SessionMissing({ detail: "Log in first." })
            const handle = yield* Effect.mapError(session.open(token.value), fromError)
            return yield* Effect.provideContext(handled, handle)
          }).pipe(Effect.scoped, Effect.provideService(Sessions, sessions))
      }
    })
  )

const fromError = (error: SessionError) => SessionProblem.from(error)
