/**
 * What the session calls do.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Problem from "../Problem.ts"
import type { Policy } from "../session/Session.ts"
import type { SessionInfo } from "../session/SessionApi.ts"
import * as SessionCookie from "../session/SessionCookie.ts"
import type { SessionError } from "../session/SessionError.ts"
import * as SessionProblem from "../session/SessionProblem.ts"
import type { Device, SessionRecord } from "../session/SessionRecord.ts"
import { Sessions } from "../session/Sessions.ts"
import * as ClientAddress from "./ClientAddress.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import { Logins } from "./Logins.ts"
import { ServiceSession } from "./ServiceSession.ts"
import { Users } from "./Users.ts"

const infoOf = ({ createdAt, expiresAt, id, idleExpiresAt, principal }: SessionRecord): SessionInfo => ({
  id,
  principal: principal ?? "",
  createdAt,
  idleExpiresAt: DateTime.min(idleExpiresAt, expiresAt),
  expiresAt
})

const deviceOf = (request: HttpServerRequest.HttpServerRequest): Device => ({
  ...(request.headers["user-agent"] !== undefined && { userAgent: request.headers["user-agent"].slice(0, 512) }),
  ...Option.match(ClientAddress.of(request), { onNone: () => ({}), onSome: (ip) => ({ ip }) })
})

/** Login and logout meet one thing that is worth telling apart: the store does not answer. */
const unavailable = (error: SessionError) =>
  new SessionProblem.SessionsUnavailable({ detail: SessionProblem.from(error).message })

/** Over {@link Sessions}, {@link Users} and {@link Logins}; the cookie and the times of new sessions are the service's settings. */
export const layer = (options: { readonly cookie: SessionCookie.SessionCookie; readonly policy: Policy }) =>
  HttpApiBuilder.group(
    HoldfastApi,
    "sessions",
    Effect.fnUntraced(function* (handlers) {
      const { cookie, policy } = options
      const users = yield* Users
      const logins = yield* Logins
      const sessions = yield* Sessions

      const login = Effect.fn("login")(
        function* ({ password, username }: { readonly username: string; readonly password: string }) {
          const request = yield* HttpServerRequest.HttpServerRequest
          const user = yield* logins.attempt(
            { username, client: ClientAddress.client(request) },
            users.verify(username, Redacted.make(password))
          )
          if (Option.isNone(user)) {
            return yield* new SessionProblem.InvalidCredentials({
              detail: "Check both; the service does not say which of them it was."
            })
          }
          const device = deviceOf(request)
          const created = yield* ServiceSession.create({ principal: user.value.name, device, policy })
          yield* SessionCookie.set(cookie, created.token, created.record.expiresAt)
          return infoOf(created.record)
        },
        Effect.catchTag("LoginsRefused", ({ message, retryAfterSeconds }) =>
          Effect.andThen(
            Problem.retryAfter(retryAfterSeconds),
            Effect.fail(new SessionProblem.TooManyLogins({ detail: message, retryAfterSeconds }))
          )
        ),
        Effect.catchTag("SessionError", (error) => Effect.fail(unavailable(error))),
        Effect.catchTag("UsersError", (error) =>
          Effect.fail(new SessionProblem.SessionsUnavailable({ detail: error.message }))
        )
      )

      const logout = Effect.gen(function* () {
        yield* SessionCookie.remove(cookie)
        const token = SessionCookie.read(cookie, yield* HttpServerRequest.HttpServerRequest)
        if (Option.isNone(token)) return
        yield* sessions.logout(token.value)
      }).pipe(
        Effect.catchTag("SessionError", (error) =>
          error.reason._tag === "SessionsUnavailable" ? Effect.fail(unavailable(error)) : Effect.void
        )
      )

      return handlers.handleAll({
        login: ({ payload }) => Effect.provideService(login(payload), Sessions, sessions),
        logout: () => logout,
        current: Effect.fnUntraced(function* () {
          const { record } = yield* ServiceSession
          return infoOf(yield* Effect.mapError(record, SessionProblem.from))
        })
      })
    })
  )
