/**
 * The handle on the session of a request, and the cookie that goes with the response.
 *
 * A handle lives as long as the scope it is made in: a request, or a call of several that a request carries. A request that
 * has loaded its session is work of that session: when the session ends elsewhere, the request is interrupted, lets go of all
 * that it took since, and answers that the session was ended; the end waits for it, at most three seconds.
 *
 * ```
 * request's scope ── hold on the session ── what the handler takes: leases, queries, …
 * session's end ──── the request is interrupted, and the end waits until the hold and all behind it is released
 * ```
 */
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Lifetime from "../../lifetime/Lifetime.ts"
import type { ServiceClass, Session, TokenChange } from "../../session/Session.ts"
import { SessionError, SessionRevoked } from "../../session/SessionError.ts"
import { Sessions } from "../../session/Sessions.ts"
import * as LazySession from "../../session/internal/LazySession.ts"
import type * as SessionEngine from "../../session/internal/SessionEngine.ts"
import * as SessionLogin from "../../session/internal/SessionLogin.ts"
import type { SessionToken } from "../../session/SessionToken.ts"
import * as SessionCookie from "../SessionCookie.ts"
import * as WebSocketUpgrade from "./WebSocketUpgrade.ts"

/** What Effect answers to a client that is not there any more, and for a request that the server interrupted. */
const clientGone = 499
const interrupted = 503

const revoked = HttpServerRespondable.toResponse(new SessionError({ reason: new SessionRevoked() }))

/** The answer to a request that ended with its session, and its line of the log. What Effect logs has an error, and the status 503. */
const endedWith = Effect.flatMap(HttpServerRequest.HttpServerRequest, ({ method, url }) => {
  const path = url.split("?", 1)[0]
  const told = Effect.tap(revoked, ({ status }) =>
    LogEvent.info({ event: "request.ended", method, path, status }, "A request ended with its session")
  )
  return HttpMiddleware.withLoggerDisabled(told)
})

/** How long the end of a session waits for a request of it that cannot be interrupted. */
const patience = Duration.seconds(3)

const tellStuck = LogEvent.warning(
  { event: "request.stuck" },
  `A request goes on although its session has ended, because it could not be interrupted for ${Duration.format(patience)}. ` +
    "Look for Effect.uninterruptible around something that may take long."
)

/** The cookie that was chosen, or the one of the context. */
export const cookieOf = (options: SessionCookie.Options | undefined) =>
  Effect.suspend(() => (options === undefined ? SessionCookie.Current : SessionCookie.make(options)))

/** Makes the handle on the session of the request of a fiber, which is work of the session from the moment that it is loaded. */
export const handleOf = <Self, Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>,
  cookie: SessionCookie.SessionCookie,
  sessions: Sessions["Service"]
): ((fiber: Fiber.Fiber<unknown, unknown>) => Session<S["Type"]>) => {
  const begin = beginning(session, cookie, sessions)
  return (fiber) => {
    // A gate behind the middleware, or behind another gate, lets in the same request.
    const known: (Session<S["Type"]> & Tied) | undefined = Context.getOrUndefined(fiber.context, session)
    if (known?.[made] === fiber) return known
    const handle: Session<S["Type"]> & Tied = begin(fiber.context, () => {
      const tie = new RequestTie(fiber, (context) => Context.getOrUndefined(context, session) === handle)
      handle[tied] = tie
      return tie
    })
    handle[made] = fiber
    return handle
  }
}

/**
 * What binds the request is known to its handle. A `WeakMap` would hold it, and all of the request with it, until the next full
 * collection, which costs more than the request.
 */
const tied = Symbol("holdfast/http/RequestSession/tied")
/** For the request of which fiber a handle was made. */
const made = Symbol("holdfast/http/RequestSession/made")
interface Tied {
  [tied]?: Tie
  [made]?: Fiber.Fiber<unknown, unknown>
}

/** Lets the request of a handle go on when its session ends elsewhere. */
export const letGo = (handle: object): Effect.Effect<void> =>
  Effect.suspend(() => (handle as Tied)[tied]?.letGo ?? Effect.void)

/** The same for work that the caller ends with the session itself. */
export const untiedHandleOf = <Self, Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>,
  cookie: SessionCookie.SessionCookie,
  tie?: Tie
) =>
  Effect.contextWith((context: Context.Context<Sessions | Scope.Scope | HttpServerRequest.HttpServerRequest>) =>
    Effect.succeed(beginning(session, cookie, Context.get(context, Sessions))(context, () => tie))
  )

/**
 * What came with a request, and what is to be said about the token with its response.
 *
 * **Details**
 *
 * A class, because V8 puts functions that are written as properties of an object into its old space, and each of them would hold
 * its request until the next full collection.
 */
class Presented implements SessionEngine.Options {
  readonly token: Option.Option<SessionToken>
  readonly unreadable: boolean
  readonly tie: Tie | undefined
  /** Nothing said over a socket can set a cookie. */
  readonly isSocket: boolean
  /** A page cannot read why a stream of events was refused. The next request with the cookie is told. */
  readonly isStream: boolean
  change: TokenChange | undefined = undefined
  renewal: Effect.Effect<unknown, SessionError> | undefined = undefined
  hasBegun = false

  constructor(cookie: SessionCookie.SessionCookie, request: HttpServerRequest.HttpServerRequest, tie: Tie | undefined) {
    this.token = SessionCookie.read(cookie, request)
    this.unreadable = Option.isNone(this.token) && SessionCookie.isPresent(cookie, request)
    this.isSocket = WebSocketUpgrade.isUpgrade(request)
    this.isStream = request.headers["accept"] === "text/event-stream"
    this.tie = tie
  }

  canTell(): boolean {
    return !this.isSocket && !this.hasBegun
  }
  onToken(change: TokenChange): Effect.Effect<void> {
    return Effect.sync(() => {
      if (!this.isSocket && !(this.isStream && Option.isNone(change))) this.change = change
    })
  }
  onDue(renew: Session<unknown>["renew"]): Effect.Effect<void> {
    return Effect.sync(() => {
      if (!this.isSocket) this.renewal = renew
    })
  }
  onEnd(): Lifetime.Holding["onEnd"] {
    return this.tie?.onEnd()
  }
  get onEnding(): Effect.Effect<void> | undefined {
    return this.tie?.letGo
  }
}

const beginning = <Self, Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>,
  cookie: SessionCookie.SessionCookie,
  sessions: Sessions["Service"]
) => {
  /** A login that was answered meanwhile has brought another cookie: neither a renewal nor a removal may undo it. */
  const isFollowed = ({ change, token }: Presented) =>
    change === undefined || Option.isSome(change) || Option.isNone(token)
      ? Effect.succeed(false)
      : Effect.match(sessions.load(token.value), {
          onFailure: ({ reason }) => reason._tag === "SessionSuperseded",
          onSuccess: () => true
        })

  const withCookie = (response: HttpServerResponse.HttpServerResponse, change: TokenChange) =>
    Option.match(change, {
      onNone: () => SessionCookie.removeFrom(response, cookie),
      onSome: (until) => SessionCookie.setOn(response, cookie, until.token, until)
    })

  const tell = (said: Presented, answer: HttpServerResponse.HttpServerResponse) =>
    Effect.gen(function* () {
      const { renewal } = said
      if (renewal !== undefined && answer.status !== clientGone) yield* Effect.ignoreCause(renewal)
      const followed = yield* isFollowed(said)
      said.hasBegun = true
      const response = said.tie === undefined ? answer : yield* said.tie.answered(answer)
      return said.change === undefined || followed ? response : withCookie(response, said.change)
    }).pipe(Effect.uninterruptible)

  return (context: Context.Context<never>, tieOf: () => Tie | undefined): Session<S["Type"]> => {
    const services = context as Context.Context<HttpServerRequest.HttpServerRequest | Scope.Scope>
    let presented: Presented | undefined
    let hasBegun = false
    const make = () => {
      presented = new Presented(cookie, Context.get(services, HttpServerRequest.HttpServerRequest), tieOf())
      presented.hasBegun = hasBegun
      return session.handleUnsafe(presented, Context.add(services, Sessions, sessions))
    }
    // Registered before anybody asks: it also has to know when it is too late.
    HttpEffect.appendPreResponseHandlerUnsafe(context, (_, answer) => {
      hasBegun = true
      if (presented === undefined) return Effect.succeed(answer)
      if (presented.renewal !== undefined || presented.change !== undefined) return tell(presented, answer)
      presented.hasBegun = true
      return presented.tie === undefined ? Effect.succeed(answer) : presented.tie.answered(answer)
    })
    return LazySession.make(make)
  }
}

/** What binds a request to its session. */
export interface Tie {
  /** Binds the request to the session that its handle is about to hold: what the end of that session does with the request. */
  readonly onEnd: () => Lifetime.Holding["onEnd"]
  /** Lets go, before the request ends the session itself. */
  readonly letGo: Effect.Effect<void>
  /** What the request answers, if its session ended meanwhile or may end while the body streams. */
  readonly answered: (
    response: HttpServerResponse.HttpServerResponse
  ) => Effect.Effect<HttpServerResponse.HttpServerResponse>
}

/** Ties the request of a fiber; `isOwn` tells whether a context is that of its work. */
class RequestTie implements Tie {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly isOwn: (context: Context.Context<never>) => boolean
  /** Done when the session is ending and the request is not what ends it. */
  readonly ending = Deferred.makeUnsafe<void>()
  /** Done when the request ends the session that it holds itself. */
  apart: Deferred.Deferred<void> | undefined = undefined

  constructor(fiber: Fiber.Fiber<unknown, unknown>, isOwn: (context: Context.Context<never>) => boolean) {
    this.fiber = fiber
    this.isOwn = isOwn
  }

  get letGo(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.apart === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(this.apart, undefined))
    )
  }

  onEnd(): Lifetime.Holding["onEnd"] {
    const apart = Deferred.makeUnsafe<void>()
    this.apart = apart
    return (released) =>
      Effect.withFiber((ender) => {
        if (Deferred.isDoneUnsafe(apart) || this.isOwn(ender.context)) return Effect.void
        Deferred.doneUnsafe(this.ending, Effect.void)
        this.fiber.interruptUnsafe()
        return Effect.timeoutOrElse(Effect.raceFirst(released, Deferred.await(apart)), {
          duration: patience,
          orElse: () => tellStuck
        })
      })
  }

  answered(response: HttpServerResponse.HttpServerResponse): Effect.Effect<HttpServerResponse.HttpServerResponse> {
    return response.status === interrupted && Deferred.isDoneUnsafe(this.ending)
      ? Effect.provideContext(endedWith, this.fiber.context as Context.Context<HttpServerRequest.HttpServerRequest>)
      : Effect.succeed(untilEnding(response, this.ending))
  }
}

/** A body that streams is cut when the session ends: it is work of the session as well. */
const untilEnding = (response: HttpServerResponse.HttpServerResponse, ending: Deferred.Deferred<void>) => {
  const { body } = response
  if (body._tag !== "Stream") return response
  const cut = Stream.interruptWhen(body.stream, Deferred.await(ending))
  return HttpServerResponse.setBody(response, HttpBody.stream(cut, body.contentType, body.contentLength))
}

/**
 * The lifetime that the work of a request belongs to: its session's, where it has one that lives. Loads the session when it is
 * asked, and not before.
 */
export const ownerOf = (
  handle: Session<unknown>
): Effect.Effect<Lifetime.Lifetime | undefined, Lifetime.OwnerUnknown> =>
  Effect.suspend(() =>
    Effect.matchEffect(handle.lifetime, {
      onFailure: (error) =>
        SessionLogin.refusalOf(error) === undefined
          ? Effect.fail(new Lifetime.OwnerUnknown({ cause: error }))
          : Effect.undefined,
      onSuccess: (found) => Effect.succeed(found)
    })
  )
