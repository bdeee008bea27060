/**
 * What the errors of sessions answer over HTTP: the codes, statuses and titles of their problems.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"
import type { SessionError } from "../SessionError.ts"

export const missing = ProblemAnswer.kind("SessionMissing", 401, "There is no session")
export const expired = ProblemAnswer.kind("SessionExpired", 401, "The session expired")
export const revoked = ProblemAnswer.kind("SessionRevoked", 401, "The session was ended")
export const tooLarge = ProblemAnswer.kind("SessionTooLarge", 413, "The session's data would be too large")
export const invalid = ProblemAnswer.kind("SessionInvalid", 400, "The session's data cannot be stored")
export const unavailable = ProblemAnswer.kind("SessionsUnavailable", 503, "The session store cannot be reached")
export const undecodable = ProblemAnswer.kind(
  "SessionUndecodable",
  503,
  "The stored session cannot be read by this version of the service"
)
const conflict = ProblemAnswer.kind("SessionConflict", 409, "The session's data was changed meanwhile")

/** What a caller is told of data that cannot be read: the log has the rest. */
export const undecodableDetail = "Log in again, or ask the operator, whose log tells more."

/** The answer of a route that a session error leaves. */
export const of = ({ reason }: SessionError) => {
  const detail = reason.message
  switch (reason._tag) {
    case "SessionMissing":
    case "SessionSuperseded":
      return ProblemAnswer.make(missing, { detail })
    case "SessionExpired":
      return ProblemAnswer.make(expired, { detail })
    case "SessionRevoked":
      return ProblemAnswer.make(revoked, { detail })
    case "SessionConflict":
      return ProblemAnswer.make(conflict, { detail })
    case "SessionTooLarge":
      return ProblemAnswer.make(tooLarge, { detail })
    case "SessionInvalid":
      return ProblemAnswer.make(invalid, { detail })
    case "SessionTokenTaken":
    case "SessionsUnavailable":
      return ProblemAnswer.make(unavailable, { detail })
    case "SessionUndecodable":
      return ProblemAnswer.make(undecodable, { detail: undecodableDetail })
  }
}
