/**
 * Sessions for `effect/rpc`, over HTTP and over WebSocket: a handle for each call, and an end for what runs.
 *
 * A handle lives as long as its call, a stream included. A call lives no longer than its session: when the session ends,
 * the handler or the stream is interrupted, and the fiber that ended the session waits until it has released what it held. A
 * WebSocket belongs to its session from the first call that found it live, and is closed when the session is over.
 *
 * **When to use**
 *
 * | rpc                                                         | middleware | without it the call fails with        |
 * | ----------------------------------------------------------- | ---------- | ------------------------------------- |
 * | for everybody, such as a login over HTTP                    | `Handle`   | why its session ended meanwhile       |
 * | needs a live session, be it a visitor's                     | `Required` | `SessionMissing`, … (see below)       |
 * | needs somebody who is logged in; `Principal` is a string    | `LoggedIn` | the same, and `LoginRequired`         |
 *
 * **Details**
 *
 * The session is that of the cookie: over HTTP of each request's, over WebSocket of the one that asked for the upgrade.
 * The headers of an rpc message have no say. Each call loads the session, which counts as activity; a stream that runs
 * does not. A handler finds the app's session and `Lifetime.Current`, so that the queries that it starts belong to the
 * session.
 *
 * A call fails with a problem of `SessionProblem.required`, by whose `_tag` a client catches it:
 *
 * | `_tag`                | the session                                       | after                         |
 * | --------------------- | ------------------------------------------------- | ----------------------------- |
 * | `SessionMissing`      | there is none, or its token was replaced          | log in, or connect again      |
 * | `SessionExpired`      | its time is up, also in the middle of a call      | log in                        |
 * | `SessionRevoked`      | somebody ended it, also in the middle of a call   | log in                        |
 * | `SessionsUnavailable` | the store cannot be reached; nobody is logged out | try again                     |
 * | `SessionUndecodable`  | this version of the app cannot read it            | ask the operator              |
 *
 * The end of a session, in this order:
 *
 * ```
 * handlers and streams interrupted → released → session ended (who asked for it goes on) → calls answered → socket closed
 * ```
 *
 * The server closes the socket with code 4401. RFC 6455 (7.4.2) leaves 4000 to 4999 to applications, so a client can tell
 * it from 1008, which servers and proxies send for any policy of theirs; 401 is the status of the same case over HTTP. A
 * call that finds that the token was replaced closes the socket as well, after its answer: no further call could succeed,
 * and an `RpcClient` connects again by itself, with the cookie that the browser has by then. A socket that no session
 * authenticated is left open, so that rpcs without `Required` go on.
 *
 * | over      | a new token (renewal, login, first change of a visitor's data)                                   |
 * | --------- | ------------------------------------------------------------------------------------------------ |
 * | HTTP      | goes with the response, as with `SessionMiddleware`, until the first answer or chunk was sent    |
 * | WebSocket | cannot be told: a login fails with `SessionInvalid`, a token that is due is renewed by a request |
 *
 * **Gotchas**
 *
 * Any site can make a browser open a WebSocket, with the user's cookie. Provide `SameOrigin.layer`, which refuses it.
 *
 * A call that ends its own session goes on, and so does one that logs in as another user, over HTTP.
 *
 * The end of a session waits for a handler that is marked `Rpc.uninterruptible`, as long as the handler takes.
 *
 * What a handler acquires in its scope is released before its answer is sent, not after.
 *
 * Over HTTP, the calls of one batch share a response. If the server limits its `concurrency`, a call of the batch may begin
 * when another was answered already. A new token that this call makes is lost, and the client has to log in again.
 *
 * **Example** (A counter that ends with the session)
 *
 * ```ts
 * const AppRpc = SessionRpc.make(AppSession)
 *
 * class Rpcs extends RpcGroup.make(
 *   Rpc.make("Ticks", { success: Schema.Int, stream: true }).middleware(AppRpc.Required)
 * ) {}
 *
 * const routes = RpcServer.layerHttp({ group: Rpcs, path: "/rpc", protocol: "websocket" }).pipe(
 *   Layer.provide(Rpcs.toLayer({ Ticks: () => Stream.range(1, 60).pipe(Stream.schedule(Schedule.spaced("1 second"))) })),
 *   Layer.provide([AppRpc.layer, RpcSerialization.layerNdjson, SameOrigin.layer("https://example.org")])
 * )
 * ```
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RpcMiddleware from "effect/rpc/RpcMiddleware"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Lifetime from "../lifetime/Lifetime.ts"
import type { ServiceClass, Session } from "../session/Session.ts"
import { Sessions } from "../session/Sessions.ts"
import * as RequestSession from "./internal/RequestSession.ts"
import * as RpcCall from "./internal/RpcCall.ts"
import * as SessionSocket from "./internal/SessionSocket.ts"
import * as WebSocketUpgrade from "./internal/WebSocketUpgrade.ts"
import * as SessionCookie from "./SessionCookie.ts"
import { Principal } from "./SessionPrincipal.ts"
import * as SessionProblem from "./SessionProblem.ts"

export { Principal }

const required = Schema.Union(SessionProblem.required)
const loggedIn = Schema.Union(SessionProblem.loggedIn)

/** A middleware of rpcs that provides services from the session's cookie, or answers one of these problems. */
export interface Gate<Provides, Problems extends Schema.Top> extends RpcMiddleware.AnyId {
  readonly "~effect/rpc/RpcMiddleware": {
    readonly provides: Provides
    readonly requires: never
    readonly error: Problems
    readonly clientError: never
  }
}

/** The class of a {@link Gate}. */
export type GateClass<Self, Key extends string, Provides, Problems extends Schema.Top> = RpcMiddleware.ServiceClass<
  Self,
  Key,
  Provides,
  Problems,
  never,
  never,
  false
>

/** What {@link SessionRpc.Handle} is, as `effect/rpc` knows it. */
export interface Handle<Self> extends Gate<Self, typeof required> {}

/** What {@link SessionRpc.Required} is, as `effect/rpc` knows it. */
export interface Required<Self> extends Gate<Self, typeof required> {}

/** What {@link SessionRpc.LoggedIn} is, as `effect/rpc` knows it. */
export interface LoggedIn<Self> extends Gate<Self | Principal, typeof loggedIn> {}

/** What {@link make} makes for a session class. */
export interface SessionRpc<Self, Id extends string> {
  /** For rpcs that anybody may call: `group.middleware(Handle)`. */
  readonly Handle: GateClass<Handle<Self>, `${Id}/RpcHandle`, Self, typeof required>
  /** For rpcs that need a session. */
  readonly Required: GateClass<Required<Self>, `${Id}/RpcRequired`, Self, typeof required>
  /** For rpcs that need somebody who is logged in. */
  readonly LoggedIn: GateClass<LoggedIn<Self>, `${Id}/RpcLoggedIn`, Self | Principal, typeof loggedIn>
  /** All three, to be provided beside the handlers. Uses the router to know the WebSockets that it closes. */
  readonly layer: Layer.Layer<
    Handle<Self> | Required<Self> | LoggedIn<Self>,
    SessionCookie.SessionCookieInvalid,
    Sessions | HttpRouter.HttpRouter
  >
}

/** How sessions meet rpc. */
export interface Options {
  /** Default: `SessionCookie.Current` of the context that the layer is built in. */
  readonly cookie?: SessionCookie.Options | undefined
}

/** Makes the middleware of a session class. The cookie is checked when the layer is built. */
export const make = <Self, const Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>,
  options: Options = {}
): SessionRpc<Self, Id> => {
  type Made = Session<S["Type"]>
  const id = session.key as Id
  const Handle: SessionRpc<Self, Id>["Handle"] = RpcMiddleware.Service<Handle<Self>, { provides: Self }>()(
    `${id}/RpcHandle`,
    { error: required }
  )
  const Required: SessionRpc<Self, Id>["Required"] = RpcMiddleware.Service<Required<Self>, { provides: Self }>()(
    `${id}/RpcRequired`,
    { error: required }
  )
  const LoggedIn: SessionRpc<Self, Id>["LoggedIn"] = RpcMiddleware.Service<
    LoggedIn<Self>,
    { provides: Self | Principal }
  >()(`${id}/RpcLoggedIn`, { error: loggedIn })
  /** The socket over which a call came, if it came over one that can be closed. */
  const CurrentSocket = Context.Reference<SessionSocket.SessionSocket | undefined>(`${session.key}/RpcSocket`, {
    defaultValue: () => undefined
  })

  const layer = Effect.gen(function* () {
    const sessions = yield* Sessions
    const cookie = yield* RequestSession.cookieOf(options.cookie)
    const router = yield* HttpRouter.HttpRouter
    yield* router.addGlobalMiddleware((handled) =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
        // Without a token no session will own it.
        if (!WebSocketUpgrade.isUpgrade(request) || Option.isNone(SessionCookie.read(cookie, request))) {
          return handled
        }
        return Effect.flatMap(SessionSocket.make, (socket) =>
          handled.pipe(
            Effect.provideService(
              HttpServerRequest.HttpServerRequest,
              WebSocketUpgrade.telling(request, socket.opened)
            ),
            Effect.provideService(CurrentSocket, socket)
          )
        ).pipe(Effect.provideService(Sessions, sessions))
      })
    )

    /** Runs a call with the handle of its request, for as long as its session lasts. */
    const gate =
      <A, E>(admit: (made: Made) => Effect.Effect<Context.Context<A>, E>, isOpen: boolean) =>
      <B, E2, R>(handler: Effect.Effect<B, E2, R | A>, { rpc }: { readonly rpc: { readonly _tag: string } }) =>
        Effect.gen(function* () {
          const request = yield* Effect.serviceOption(HttpServerRequest.HttpServerRequest)
          if (Option.isNone(request)) return yield* Effect.die(withoutRequest)
          const token = SessionCookie.read(cookie, request.value)
          const socket = yield* CurrentSocket
          const call = RpcCall.make(rpc._tag, (context) => Context.getOrUndefined(context, session) === made)
          const made: Made = yield* RequestSession.untiedHandleOf(session, cookie, call.tie).pipe(
            Effect.provideService(HttpServerRequest.HttpServerRequest, request.value)
          )
          const loaded = yield* Effect.result(Effect.zip(made.record, made.lifetime))
          if (Result.isFailure(loaded)) {
            const problem = SessionProblem.from(loaded.failure)
            if (problem.status === 401 && socket !== undefined) yield* socket.refused
            if (!isOpen) return yield* Effect.fail(problem)
          } else if (socket !== undefined) yield* socket.authenticated(loaded.success[0])
          const work = Effect.flatMap(admit(made), (context) => Effect.provideContext(handler, context))
          if (Result.isFailure(loaded)) {
            return yield* Effect.provideService(work, Lifetime.Current, RequestSession.ownerOf(made))
          }
          /** Why the session is over, or nothing if only this process wants it to be. */
          const why = Option.match(token, {
            onNone: () => Effect.void,
            onSome: (token) => Effect.asVoid(Effect.mapError(sessions.load(token), SessionProblem.from))
          })
          return yield* call.during(loaded.success[1], why)(work)
        }).pipe(Effect.provideService(Sessions, sessions))

    const admitAll = (made: Made) => Effect.succeed(Context.make(session, made))
    const admitLoggedIn = (made: Made) =>
      Effect.flatMap(Effect.mapError(made.principal, SessionProblem.from), (principal) =>
        principal === null
          ? Effect.fail(new SessionProblem.LoginRequired({ detail: "Log in first: this session is a visitor's." }))
          : Effect.succeed(Context.add(Context.make(session, made), Principal, principal))
      )
    return Context.make(Handle, Handle.of(gate(admitAll, true))).pipe(
      Context.add(Required, Required.of(gate(admitAll, false))),
      Context.add(LoggedIn, LoggedIn.of(gate(admitLoggedIn, false)))
    )
  })
  return { Handle, Required, LoggedIn, layer: Layer.effectContext(layer) }
}

const withoutRequest = new Error(
  "A call that requires a session came over a transport without an HTTP request, so there is no cookie. " +
    "Serve it with the protocol `http` or `websocket` of RpcServer."
)
