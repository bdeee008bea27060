/**
 * What the errors of sessions answer over HTTP: the codes, statuses and titles of their problems.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"

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

/** By the tag of the reason. */
export const table = {
  SessionMissing: { kind: missing },
  SessionSuperseded: { kind: missing },
  SessionExpired: { kind: expired },
  SessionRevoked: { kind: revoked },
  SessionConflict: { kind: conflict },
  SessionTooLarge: { kind: tooLarge },
  SessionInvalid: { kind: invalid },
  SessionTokenTaken: { kind: unavailable },
  SessionsUnavailable: { kind: unavailable },
  SessionUndecodable: { kind: undecodable, detail: undecodableDetail }
}
