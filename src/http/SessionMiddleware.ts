/**
 * Sessions over HTTP: a handle for each request, and the cookie that goes with it.
 *
 * A handle lives as long as its request, a streamed body included. Nothing is asked of the store for a request that asks
 * nothing of the handle, and nothing is stored for a visitor who has no data.
 *
 * **When to use**
 *
 * | who may come in                              | routes of an `HttpRouter` | calls of an `HttpApi`             |
 * | -------------------------------------------- | ------------------------- | --------------------------------- |
 * | everybody, such as to log in                 | `middleware`              | `middleware`, around the whole API |
 * | who has a live session, be it a visitor's    | `required`                | `Required`, `layerRequired`       |
 * | who is logged in; `Principal` is a string    | `loggedIn`                | `LoggedIn`, `layerLoggedIn`       |
 * | who proved who they are within the last time | `fresh(…)`                | `Fresh(…)`, its `layer`           |
 *
 * All but `middleware` load the session before the handler runs and refuse the request with a problem where it is not as
 * it should be: 401 `SessionMissing`, `SessionExpired`, `SessionRevoked`, `LoginRequired`, `ReauthenticationRequired`, or 503
 * where the store cannot be reached, never the one for the other.
 *
 * **Details**
 *
 * What a request does for its session ends with the session. A request that has loaded its session is interrupted when the
 * session ends elsewhere, and answers 401 `SessionRevoked`; a body that streams is cut. What it took since, such as a query or
 * a lease, is released before the end of the session is over. A query or a lease loads the session by itself
 * (`Lifetime.Current`), so this holds without a line of yours. The request that ends its session goes on, and so does one
 * whose handler said {@link letGo}.
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
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import type { HttpServerResponse as Response } from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type * as Types from "effect/Types"
import * as Lifetime from "../lifetime/Lifetime.ts"
import type { ServiceClass, Session } from "../session/Session.ts"
import * as RequestBody from "./internal/RequestBody.ts"
import * as RequestSession from "./internal/RequestSession.ts"
import * as SessionCookie from "./SessionCookie.ts"
import { Principal } from "./SessionPrincipal.ts"
import * as SessionProblem from "./SessionProblem.ts"
import { Sessions } from "../session/Sessions.ts"

export { Principal }

type ErrorConstraint = Schema.Top | ReadonlyArray<Schema.Top>

/** A middleware of an `HttpApi` that provides services from the session's cookie, or answers one of these problems. */
export interface Gate<Provides, Problems extends ErrorConstraint> extends HttpApiMiddleware.AnyId {
  readonly "~effect/http-api/HttpApiMiddleware": {
    readonly provides: Provides
    readonly requires: never
    readonly error: Problems
    readonly clientError: never
    readonly requiredForClient: false
  }
}

/** The class of a {@link Gate}. */
export type GateClass<Self extends Gate<unknown, ErrorConstraint>, Key extends string> = HttpApiMiddleware.ServiceClass<
  Self,
  Key,
  Self["~effect/http-api/HttpApiMiddleware"] & { readonly security: { readonly cookie: HttpApiSecurity.ApiKey } }
>

/** What {@link Middleware.Required} is, as `HttpApi` knows it. */
export interface Required<Self> extends Gate<Self, typeof SessionProblem.required> {}

/** What {@link Middleware.LoggedIn} is, as `HttpApi` knows it. */
export interface LoggedIn<Self> extends Gate<Self | Principal, typeof SessionProblem.loggedIn> {}

/** What {@link Middleware.Fresh} is, as `HttpApi` knows it. */
export interface Fresh<Self> extends Gate<Self | Principal, typeof SessionProblem.fresh> {}

/** The class of {@link Middleware.Required}. */
export type RequiredClass<Self, Id extends string> = GateClass<Required<Self>, `${Id}/Required`>

/** The class of {@link Middleware.LoggedIn}. */
export type LoggedInClass<Self, Id extends string> = GateClass<LoggedIn<Self>, `${Id}/LoggedIn`>

/** The class of {@link Middleware.Fresh}. */
export type FreshClass<Self, Id extends string> = GateClass<Fresh<Self>, `${Id}/Fresh/${number}`>

/**
 * Lets the running request go on when its session ends elsewhere: for a handler that tells its client about the end, such as a
 * stream of events, and ends by itself then. The end of the session does not wait for it.
 *
 * **Example** (A stream that tells of the end)
 *
 * ```ts
 * Effect.gen(function* () {
 *   const session = yield* AppSession
 *   const { ended } = yield* session.lifetime
 *   yield* SessionMiddleware.letGo(session)
 *   return HttpServerResponse.stream(Stream.encodeText(Stream.fromEffect(Effect.as(ended, "logged out"))))
 * })
 * ```
 */
export const letGo: <Data>(session: Session<Data>) => Effect.Effect<void> = RequestSession.letGo

/** How lately somebody must have proved who they are. */
export interface FreshOptions {
  /** The longest time since the last login, by the store's clock. */
  readonly within: Duration.Input
}

/** A layer that provides the routes below it with services of each request. */
export type RouteLayer<Provides> = Layer.Layer<
  HttpRouter.Request.From<"Requires", Provides>,
  SessionCookie.SessionCookieInvalid,
  Sessions
>

/** What {@link make} makes for a session class. */
export interface Middleware<Self, Id extends string> {
  /** {@link Middleware.middleware}, {@link Middleware.layerRequired} and {@link Middleware.layerLoggedIn} together. */
  readonly layer: Layer.Layer<
    HttpRouter.Request.From<"Requires", Self> | Required<Self> | LoggedIn<Self>,
    SessionCookie.SessionCookieInvalid,
    Sessions
  >
  /** Provides the routes it is provided to with a handle per request, which asks the store for nothing until it is used. */
  readonly middleware: RouteLayer<Self>
  /** For routes that need a live session. */
  readonly required: RouteLayer<Self>
  /** For routes that need somebody who is logged in. */
  readonly loggedIn: RouteLayer<Self | Principal>
  /** For routes that need somebody who proved lately who they are, such as a change of the password. */
  readonly fresh: (options: FreshOptions) => RouteLayer<Self | Principal>

  /** For calls that need a session: `group.middleware(Required)`. OpenAPI names the cookie. */
  readonly Required: RequiredClass<Self, Id>
  readonly layerRequired: Layer.Layer<Required<Self>, SessionCookie.SessionCookieInvalid, Sessions>
  /** For calls that need somebody who is logged in. */
  readonly LoggedIn: LoggedInClass<Self, Id>
  readonly layerLoggedIn: Layer.Layer<LoggedIn<Self>, SessionCookie.SessionCookieInvalid, Sessions>
  /**
   * For calls that need somebody who proved lately who they are. Where the login is too long ago the answer is 401
   * `ReauthenticationRequired`: ask for the password again, then `session.authenticate` the same principal.
   */
  readonly Fresh: (options: FreshOptions) => {
    readonly Fresh: FreshClass<Self, Id>
    readonly layer: Layer.Layer<Fresh<Self>, SessionCookie.SessionCookieInvalid, Sessions>
  }
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
  type Handle = Session<S["Type"]>
  /** Makes handles on the sessions of requests. */
  const handles = Effect.gen(function* () {
    const sessions = yield* Sessions
    const cookie = yield* RequestSession.cookieOf(options.cookie)
    return { sessions, handleOf: RequestSession.handleOf(session, cookie, sessions) }
  })

  /** What a request that is let in finds in its context. */
  type Provided<A> = <C>(context: Context.Context<C>) => Context.Context<C | A>
  const owned =
    (made: Handle, owner: (typeof Lifetime.Current)["Service"]): Provided<Self> =>
    (context) =>
      Context.add(Context.add(RequestBody.within(context), session, made), Lifetime.Current, owner)

  type Admission<A, E> = (made: Handle, sessions: Sessions["Service"]) => Effect.Effect<Provided<A>, E>
  const admitLive: Admission<Self, SessionProblem.Required> = (made) =>
    Effect.map(Effect.mapError(made.lifetime, SessionProblem.from), (lifetime) => owned(made, Effect.succeed(lifetime)))
  const admitLoggedIn = Effect.fnUntraced(function* (made: Handle, sessions: Sessions["Service"]) {
    const provided = yield* admitLive(made, sessions)
    const principal = yield* Effect.mapError(made.principal, SessionProblem.from)
    if (principal === null) {
      return yield* new SessionProblem.LoginRequired({ detail: "Log in first: this session is a visitor's." })
    }
    const withPrincipal: Provided<Self | Principal> = (context) => Context.add(provided(context), Principal, principal)
    return withPrincipal
  })
  const admitFresh = (within: Duration.Duration) =>
    Effect.fnUntraced(function* (made: Handle, sessions: Sessions["Service"]) {
      const provided = yield* admitLoggedIn(made, sessions)
      const age = Effect.flatMap(made.record, sessions.sinceAuthenticated)
      if (Duration.isLessThanOrEqualTo(yield* Effect.mapError(age, SessionProblem.from), within)) return provided
      return yield* new SessionProblem.ReauthenticationRequired({
        detail: `Log in again: this needs a login within the last ${Duration.format(within)}.`,
        withinSeconds: Duration.toSeconds(within)
      })
    })

  const provide = <B, E, R, A>(handled: Effect.Effect<B, E, R>, provided: Provided<A>) =>
    Effect.updateContext(handled as Effect.Effect<B, E, Exclude<R, A> | A>, (context: Context.Context<Exclude<R, A>>) =>
      provided(context)
    )

  /** A middleware for routes, which answers what a gate refuses with. */
  const route = <A>(admit: Admission<A, HttpServerRespondable.Respondable>): RouteLayer<A> =>
    HttpRouter.middleware<{ provides: A }>()(
      Effect.map(
        handles,
        ({ handleOf, sessions }) =>
          (handled) =>
            Effect.withFiber((fiber) =>
              Effect.matchEffect(admit(handleOf(fiber), sessions), {
                onFailure: HttpServerRespondable.toResponse,
                onSuccess: (provided) => provide(handled, provided) as Effect.Effect<Response, Types.unhandled>
              })
            )
      )
    ).layer

  /** A middleware for routes, which refuses nobody and asks nothing. */
  const open: RouteLayer<Self> = HttpRouter.middleware<{ provides: Self }>()(
    Effect.map(
      handles,
      ({ handleOf }) =>
        (handled) =>
          Effect.withFiber((fiber) => {
            const made = handleOf(fiber)
            return provide(handled, owned(made, RequestSession.ownerOf(made))) as Effect.Effect<
              Response,
              Types.unhandled
            >
          })
    )
  ).layer

  const key = options.cookie?.name ?? SessionCookie.Current.defaultValue().name
  const security = { cookie: HttpApiSecurity.apiKey({ key, in: "cookie" }) }
  const id = session.key as Id
  /** The same for calls of an API. */
  const gate = <A, E>(admit: Admission<A, E>) =>
    Effect.map(handles, ({ handleOf, sessions }) => ({
      cookie: <B, E2, R>(handled: Effect.Effect<B, E2, R>) =>
        Effect.withFiber((fiber) =>
          Effect.flatMap(admit(handleOf(fiber), sessions), (provided) => provide(handled, provided))
        )
    }))

  const Required: RequiredClass<Self, Id> = HttpApiMiddleware.Service<Required<Self>, { provides: Self }>()(
    `${id}/Required`,
    { error: SessionProblem.required, security }
  )
  const LoggedIn: LoggedInClass<Self, Id> = HttpApiMiddleware.Service<LoggedIn<Self>, { provides: Self | Principal }>()(
    `${id}/LoggedIn`,
    { error: SessionProblem.loggedIn, security }
  )
  const layerRequired = Layer.effect(Required, gate(admitLive))
  const layerLoggedIn = Layer.effect(LoggedIn, gate(admitLoggedIn))
  return {
    layer: Layer.mergeAll(open, layerRequired, layerLoggedIn),
    middleware: open,
    required: route(admitLive),
    loggedIn: route(admitLoggedIn),
    fresh: ({ within }) => route(admitFresh(Duration.fromInputUnsafe(within))),
    Required,
    layerRequired,
    LoggedIn,
    layerLoggedIn,
    Fresh: ({ within }) => {
      const limit = Duration.fromInputUnsafe(within)
      const Fresh: FreshClass<Self, Id> = HttpApiMiddleware.Service<Fresh<Self>, { provides: Self | Principal }>()(
        `${id}/Fresh/${Duration.toMillis(limit)}`,
        { error: SessionProblem.fresh, security }
      )
      return { Fresh, layer: Layer.effect(Fresh, gate(admitFresh(limit))) }
    }
  }
}
