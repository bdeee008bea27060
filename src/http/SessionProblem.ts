/**
 * What the session calls answer when they do not succeed.
 */
import * as Schema from "effect/Schema"
import * as Problem from "./Problem.ts"
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

export class SessionMissing extends Problem.Class<SessionMissing>()("SessionMissing", 401, "There is no session") {}

export class SessionExpired extends Problem.Class<SessionExpired>()("SessionExpired", 401, "The session expired") {}

export class SessionRevoked extends Problem.Class<SessionRevoked>()("SessionRevoked", 401, "The session was ended") {}

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

export class SessionTooLarge extends Problem.Class<SessionTooLarge>()(
  "SessionTooLarge",
  413,
  "The session's data would be too large"
) {}

export class SessionInvalid extends Problem.Class<SessionInvalid>()(
  "SessionInvalid",
  400,
  "The session's data cannot be stored"
) {}

export class SessionNotFound extends Problem.Class<SessionNotFound>()(
  "SessionNotFound",
  404,
  "You have no such session"
) {}

export class SessionsUnavailable extends Problem.Class<SessionsUnavailable>()(
  "SessionsUnavailable",
  503,
  "The session store cannot be reached"
) {}

export class SessionUndecodable extends Problem.Class<SessionUndecodable>()(
  "SessionUndecodable",
  503,
  "The stored session cannot be read by this version of the service"
) {}

/** The problems of every call that needs a session. */
export const required = [
  SessionMissing,
  SessionExpired,
  SessionRevoked,
  SessionsUnavailable,
  SessionUndecodable
] as const

export type Required = InstanceType<(typeof required)[number]>

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
    case "SessionsUnavailable":
      return new SessionsUnavailable({ detail: reason.message })
    case "SessionConflict":
    case "SessionInvalid":
    case "SessionTooLarge":
    case "SessionUndecodable":
      return new SessionUndecodable({ detail: "Log in again, or ask the operator, whose log tells more." })
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
