/**
 * Why there is no session, or it could not be changed. One error for the area; the `reason` says which case it is.
 *
 * "The store cannot be reached" is never reported as "logged out": the two have different reasons.
 */
import * as Schema from "effect/Schema"
import * as ProblemAnswer from "../problem/ProblemAnswer.ts"
import * as SessionAnswers from "./internal/SessionAnswers.ts"

/** No token, or one that belongs to no session we know of. */
export class SessionMissing extends Schema.TaggedError<SessionMissing>("holdfast/session/SessionError/SessionMissing")(
  "SessionMissing",
  {}
) {
  override get message(): string {
    return "There is no session. Log in first."
  }
}

/** The session was idle for too long or reached its absolute end. */
export class SessionExpired extends Schema.TaggedError<SessionExpired>("holdfast/session/SessionError/SessionExpired")(
  "SessionExpired",
  {}
) {
  override get message(): string {
    return "The session expired. Log in again."
  }
}

/** The session was ended by a logout, by its owner from another device, by an operator, or to make room for another. */
export class SessionRevoked extends Schema.TaggedError<SessionRevoked>("holdfast/session/SessionError/SessionRevoked")(
  "SessionRevoked",
  {}
) {
  override get message(): string {
    return "The session was ended. Log in again."
  }
}

/** The session lives, but this token of it was replaced: by a login, or by a renewal whose time of grace is over. */
export class SessionSuperseded extends Schema.TaggedError<SessionSuperseded>(
  "holdfast/session/SessionError/SessionSuperseded"
)("SessionSuperseded", {}) {
  override get message(): string {
    return "The session continues under a newer token. Use that one, or log in again."
  }
}

/** Somebody else changed the data since it was read. */
export class SessionConflict extends Schema.TaggedError<SessionConflict>(
  "holdfast/session/SessionError/SessionConflict"
)("SessionConflict", {}) {
  override get message(): string {
    return "The session's data was changed meanwhile. Read it again and repeat the change."
  }
}

/** The store did not answer. Whether a write took effect is not known. */
export class SessionsUnavailable extends Schema.TaggedError<SessionsUnavailable>(
  "holdfast/session/SessionError/SessionsUnavailable"
)("SessionsUnavailable", { cause: Schema.Defect() }) {
  override get message(): string {
    return "The session store cannot be reached. Nobody was logged out; try again later."
  }
}

/** What is stored cannot be read by this version of the app. */
export class SessionUndecodable extends Schema.TaggedError<SessionUndecodable>(
  "holdfast/session/SessionError/SessionUndecodable"
)("SessionUndecodable", { problem: Schema.String }) {
  override get message(): string {
    return `The stored session cannot be read: ${this.problem}`
  }
}

/** What was to be stored is nothing that a store can keep, whatever it is made of. */
export class SessionInvalid extends Schema.TaggedError<SessionInvalid>("holdfast/session/SessionError/SessionInvalid")(
  "SessionInvalid",
  { problem: Schema.String }
) {
  override get message(): string {
    return `The session cannot be stored: ${this.problem}`
  }
}

/** Another session has this token already, or had it. Nothing was stored. Tokens are 256 random bits: see where yours come from. */
export class SessionTokenTaken extends Schema.TaggedError<SessionTokenTaken>(
  "holdfast/session/SessionError/SessionTokenTaken"
)("SessionTokenTaken", {}) {
  override get message(): string {
    return "The new token is in use already, so nothing was stored. Make another one with SessionToken.make and try again."
  }
}

/** The encoded data exceeds the limit that the app declared. */
export class SessionTooLarge extends Schema.TaggedError<SessionTooLarge>(
  "holdfast/session/SessionError/SessionTooLarge"
)("SessionTooLarge", { bytes: Schema.Int, maxBytes: Schema.Int }) {
  override get message(): string {
    return `The session's data would be ${this.bytes} bytes long and may have ${this.maxBytes}. Keep less in it.`
  }
}

/** The error of everything under `holdfast/session`. A route that it leaves answers with the problem of its reason. */
export class SessionError extends Schema.TaggedError<SessionError>("holdfast/session/SessionError")("SessionError", {
  reason: Schema.Union([
    SessionMissing,
    SessionExpired,
    SessionRevoked,
    SessionSuperseded,
    SessionConflict,
    SessionsUnavailable,
    SessionUndecodable,
    SessionInvalid,
    SessionTokenTaken,
    SessionTooLarge
  ])
}) {
  override get message(): string {
    return this.reason.message
  }

  [ProblemAnswer.symbol]() {
    return ProblemAnswer.of(SessionAnswers.table, this)
  }
}
