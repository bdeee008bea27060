/**
 * Sessions for `effect/rpc`, over HTTP and over WebSocket: a handle for each call, and an end for what runs.
 *
 * A handle lives as long as its call, a stream included. A call lives no longer than its session: when the session ends,
 * the handler or the stream is interrupted, and whoever ended the session waits until it has released what it held. A
 * WebSocket belongs to its session from the first call that found it live, and is closed when the session is over.
 *
 * **When to use**
 *
 * `Required` for rpcs that need a session, whatever the transport. Logins, logouts and changes of the user belong to
 * ordinary routes with `SessionMiddleware`; see the gotchas.
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
 * A call that ends its own session is interrupted like all others, and answers `SessionRevoked`. A login as another user
 * ends the session first, and therefore the call that asked for it.
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
 *   Layer.provide([AppRpc.layerRequired, RpcSerialization.layerNdjson, SameOrigin.layer("https://example.org")])
 * )
 * ```
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RpcMiddleware from "effect/rpc/RpcMiddleware"
import * as Schema from "effect/Schema"
import * as Lifetime from "../lifetime/Lifetime.ts"
import type { ServiceClass } from "../session/Session.ts"
import { Sessions } from "../session/Sessions.ts"
import * as RequestSession from "./internal/RequestSession.ts"
import * as SessionSocket from "./internal/SessionSocket.ts"
import * as WebSocketUpgrade from "./internal/WebSocketUpgrade.ts"
import * as SessionCookie from "./SessionCookie.ts"
import * as SessionProblem from "./SessionProblem.ts"

const problems = Schema.Union(SessionProblem.required)

/** What {@link SessionRpc.Required} is, as `effect/rpc` knows it: it provides the session and may answer these problems. */
export interface Required<Self> extends RpcMiddleware.AnyId {
  readonly "~effect/rpc/RpcMiddleware": {
    readonly provides: Self
    readonly requires: never
    readonly error: typeof problems
    readonly clientError: never
  }
}

/** The class of {@link SessionRpc.Required}. */
export type RequiredClass<Self, Id extends string> = RpcMiddleware.ServiceClass<
  Required<Self>,
  `${Id}/RpcRequired`,
  Self,
  typeof problems,
  never,
  never,
  false
>

/** What {@link make} makes for a session class. */
export interface SessionRpc<Self, Id extends string> {
  /** For rpcs that need a session: `rpc.middleware(Required)`. */
  readonly Required: RequiredClass<Self, Id>
  /** To be provided beside the handlers. Uses the router to know the WebSockets that it closes. */
  readonly layerRequired: Layer.Layer<
    Required<Self>,
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
  const Required: RequiredClass<Self, Id> = RpcMiddleware.Service<Required<Self>, { provides: Self }>()(
    `${session.key as Id}/RpcRequired`,
    { error: problems }
  )
  /** The socket over which a call came, if it came over one that can be closed. */
  const CurrentSocket = Context.Reference<SessionSocket.SessionSocket | undefined>(`${session.key}/RpcSocket`, {
    defaultValue: () => undefined
  })
  return {
    Required,
    layerRequired: Layer.effect(
      Required,
      Effect.gen(function* () {
        const sessions = yield* Sessions
        const cookie = yield* RequestSession.cookieOf(options.cookie)
        const handle = RequestSession.untiedHandleOf(session, cookie)
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
        return Required.of((handler, { rpc }) =>
          Effect.gen(function* () {
            const request = yield* Effect.serviceOption(HttpServerRequest.HttpServerRequest)
            if (Option.isNone(request)) return yield* Effect.die(withoutRequest)
            const token = SessionCookie.read(cookie, request.value)
            const socket = yield* CurrentSocket
            const made = yield* Effect.provideService(handle, HttpServerRequest.HttpServerRequest, request.value)
            const loaded = Effect.mapError(Effect.zip(made.record, made.lifetime), SessionProblem.from)
            const [record, lifetime] = yield* Effect.tapError(loaded, ({ status }) =>
              status === 401 && socket !== undefined ? socket.refused : Effect.void
            )
            if (socket !== undefined) yield* socket.authenticated(record)
            /** Why the session is over, or nothing if only this process wants it to be. */
            const why = Option.match(token, {
              onNone: () => Effect.void,
              onSome: (token) => Effect.asVoid(Effect.mapError(sessions.load(token), SessionProblem.from))
            })
            return yield* during(lifetime, rpc._tag, why)(Effect.provideService(handler, session, made))
          }).pipe(Effect.provideService(Sessions, sessions))
        )
      })
    )
  }
}

const withoutRequest = new Error(
  "A call that requires a session came over a transport without an HTTP request, so there is no cookie. " +
    "Serve it with the protocol `http` or `websocket` of RpcServer."
)

/**
 * Runs the work of a call as long as the session lasts; the end of the session waits for it. What failed because of the
 * end, and be it a query of the handler's that ended first, fails with why the session is over.
 */
const during =
  <E2>(session: Lifetime.Lifetime, rpc: string, why: Effect.Effect<void, E2>) =>
  <A, E, R>(work: Effect.Effect<A, E, R>) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const call = yield* Lifetime.child(session, { kind: "call", id: session.entry.id, attributes: { rpc } })
        const whole = Effect.flatMap(work, later).pipe(
          Effect.scoped,
          // What the handler starts may outlive the call.
          Effect.provideService(Lifetime.Current, Effect.succeed(session)),
          restore
        )
        // A fiber that may be interrupted before it begins would end without a word.
        const running = yield* Effect.forkIn(Lifetime.within(call)(whole), call.scope, { uninterruptible: true })
        const exit = yield* Effect.ensuring(restore(Fiber.await(running)), call.end())
        if (Exit.isFailure(exit) && session.isEnding()) yield* restore(why)
        return yield* exit
      })
    )

/** A handler may answer with a promise of its answer, which is the session's as well. */
const later = <A>(answer: A): Effect.Effect<A> =>
  Deferred.isDeferred<A, never>(answer) ? Deferred.await(answer) : Effect.succeed(answer)
