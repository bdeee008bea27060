/**
 * What the session calls answer when they do not succeed.
 */
import * as Schema from "effect/Schema"
import * as Problem from "./Problem.ts"
import * as SessionAnswers from "../session/internal/SessionAnswers.ts"
import type { SessionError } from "../session/SessionError.ts"

export class InvalidCredentials extends Problem.Class<InvalidCredentials>()(
  "InvalidCredentials",
  401,
  "The user name or the password is wrong"
) {}

export class TooManyLogins extends Problem.Class<TooManyLogins>()(
  "TooManyLogins",
  429,
  "There were too many attempts to log in",
  { retryAfterSeconds: Schema.Int }
) {}

export class SessionMissing extends Problem.Class<SessionMissing>()(...SessionAnswers.missing) {}

export class SessionExpired extends Problem.Class<SessionExpired>()(...SessionAnswers.expired) {}

export class SessionRevoked extends Problem.Class<SessionRevoked>()(...SessionAnswers.revoked) {}

/** There is a session, and nobody is logged in to it. */
export class LoginRequired extends Problem.Class<LoginRequired>()("LoginRequired", 401, "Nobody is logged in") {}

/** The login is too long ago for what was asked (OWASP Authentication, "Require Re-authentication for Sensitive Features"). */
export class ReauthenticationRequired extends Problem.Class<ReauthenticationRequired>()(
  "ReauthenticationRequired",
  401,
  "The login is too long ago for this",
  { withinSeconds: Schema.Finite }
) {}

export class SessionConflict extends Problem.Class<SessionConflict>()(
  "SessionConflict",
  412,
  "The session's data was changed meanwhile"
) {}

export class PreconditionRequired extends Problem.Class<PreconditionRequired>()(
  "PreconditionRequired",
  428,
  "The request must say which version it replaces"
) {}

export class SessionTooLarge extends Problem.Class<SessionTooLarge>()(...SessionAnswers.tooLarge) {}

export class SessionInvalid extends Problem.Class<SessionInvalid>()(...SessionAnswers.invalid) {}

export class SessionNotFound extends Problem.Class<SessionNotFound>()(
  "SessionNotFound",
  404,
  "You have no such session"
) {}

export class SessionsUnavailable extends Problem.Class<SessionsUnavailable>()(...SessionAnswers.unavailable) {}

export class SessionUndecodable extends Problem.Class<SessionUndecodable>()(...SessionAnswers.undecodable) {}

/** The problems of every call that needs a session. */
export const required = [
  SessionMissing,
  SessionExpired,
  SessionRevoked,
  SessionsUnavailable,
  SessionUndecodable
] as const

export type Required = InstanceType<(typeof required)[number]>

/** The problems of every call that needs somebody who is logged in. */
export const loggedIn = [...required, LoginRequired] as const

/** The problems of every call that needs somebody who proved lately who they are. */
export const fresh = [...loggedIn, ReauthenticationRequired] as const

/** A session error as the caller sees it: no cause, nothing of the store. */
export const from = ({ reason }: SessionError): Required => {
  switch (reason._tag) {
    case "SessionMissing":
    case "SessionSuperseded":
      return new SessionMissing({ detail: reason.message })
    case "SessionExpired":
      return new SessionExpired({ detail: reason.message })
    case "SessionRevoked":
      return new SessionRevoked({ detail: reason.message })
    case "SessionTokenTaken":
    case "SessionsUnavailable":
      return new SessionsUnavailable({ detail: reason.message })
    case "SessionConflict":
    case "SessionInvalid":
    case "SessionTooLarge":
    case "SessionUndecodable":
      return new SessionUndecodable({ detail: SessionAnswers.undecodableDetail })
  }
}

/** The problems of changing a session's data. */
export const changing = [SessionConflict, SessionTooLarge, SessionInvalid] as const

export type Changing = InstanceType<(typeof changing)[number]>

/** As {@link from}, for calls that change the data. */
export const fromChange = (error: SessionError): Required | Changing => {
  const { reason } = error
  switch (reason._tag) {
    case "SessionConflict":
      return new SessionConflict({ detail: reason.message })
    case "SessionTooLarge":
      return new SessionTooLarge({ detail: reason.message })
    case "SessionInvalid":
      return new SessionInvalid({ detail: reason.message })
    default:
      return from(error)
  }
}
