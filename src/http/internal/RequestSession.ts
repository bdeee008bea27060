/**
 * The handle on the session of a request, and the cookie that goes with the response.
 *
 * A handle lives as long as the scope it is made in: a request, or a call of several that a request carries.
 */
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type { ServiceClass, TokenChange } from "../../session/Session.ts"
import type { SessionError } from "../../session/SessionError.ts"
import { Sessions } from "../../session/Sessions.ts"
import * as SessionCookie from "../SessionCookie.ts"
import * as WebSocketUpgrade from "./WebSocketUpgrade.ts"

/** What Effect answers to a client that is not there any more. */
const clientGone = 499

/** The cookie that was chosen, or the one of the context. */
export const cookieOf = (options: SessionCookie.Options | undefined) =>
  Effect.suspend(() => (options === undefined ? SessionCookie.Current : SessionCookie.make(options)))

/** Makes a handle on the session of the running request. */
export const handleOf = <Self, Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>,
  cookie: SessionCookie.SessionCookie
) =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const sessions = yield* Sessions
    const token = SessionCookie.read(cookie, request)
    const unreadable = Option.isNone(token) && SessionCookie.isPresent(cookie, request)
    // Nothing said over a socket can set a cookie.
    if (WebSocketUpgrade.isUpgrade(request)) return yield* session.handle({ token, unreadable, canTell: () => false })
    let change: TokenChange | undefined
    let hasBegun = false
    let renewal: Effect.Effect<unknown, SessionError> = Effect.void
    // A login that was answered meanwhile has brought another cookie: neither a renewal nor a removal may undo it.
    const isFollowed = Effect.suspend(() =>
      change === undefined || Option.isSome(change) || Option.isNone(token)
        ? Effect.succeed(false)
        : Effect.match(sessions.load(token.value), {
            onFailure: ({ reason }) => reason._tag === "SessionSuperseded",
            onSuccess: () => true
          })
    )
    // Registered before anybody asks: it also has to know when it is too late.
    yield* HttpEffect.appendPreResponseHandler((_, response) =>
      Effect.gen(function* () {
        if (response.status !== clientGone) yield* Effect.ignoreCause(renewal)
        const followed = yield* isFollowed
        hasBegun = true
        if (change === undefined || followed) return response
        return Option.match(change, {
          onNone: () => SessionCookie.removeFrom(response, cookie),
          onSome: ({ expiresAt, token }) => SessionCookie.setOn(response, cookie, token, expiresAt)
        })
      }).pipe(Effect.uninterruptible)
    )
    return yield* session.handle({
      token,
      unreadable,
      onDue: (renew) =>
        Effect.sync(() => {
          renewal = renew
        }),
      canTell: () => !hasBegun,
      onToken: (changed) =>
        Effect.sync(() => {
          change = changed
        })
    })
  })
