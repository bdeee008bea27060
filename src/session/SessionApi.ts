/**
 * The session calls of the HTTP API: schemas only, shared by server, client and documentation.
 */
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { Buffer } from "node:buffer"
import { SessionId } from "./SessionId.ts"
import * as SessionProblem from "./SessionProblem.ts"

/** A session as its owner sees it. */
export const SessionInfo = Schema.Struct({
  id: SessionId,
  principal: Schema.String,
  createdAt: Schema.DateTimeUtcFromString,
  /** Not enforced before this moment; every request moves it on. */
  idleExpiresAt: Schema.DateTimeUtcFromString,
  /** The session is over at this moment, whatever happens. */
  expiresAt: Schema.DateTimeUtcFromString
})
export type SessionInfo = typeof SessionInfo.Type

const isBytes = (most: number) =>
  Schema.makeFilter((text: string) => Buffer.byteLength(text) <= most || `Expected at most ${most} bytes`)

/** User name and password; a password has at most 1,024 bytes. */
export const Credentials = Schema.Struct({
  username: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(128)),
  password: Schema.String.check(Schema.isMinLength(1), isBytes(1024))
})

/** Starts a session and sets its cookie. */
export const login = HttpApiEndpoint.post("login", "/login", {
  payload: Credentials,
  success: SessionInfo,
  error: [SessionProblem.InvalidCredentials, SessionProblem.TooManyLogins, SessionProblem.SessionsUnavailable]
})

/** Ends the session, if there is one, and removes the cookie; answers after everything it held was released. */
export const logout = HttpApiEndpoint.post("logout", "/logout", {
  success: HttpApiSchema.NoContent,
  error: SessionProblem.SessionsUnavailable
})

/** The session of the cookie. Needs a session. */
export const current = HttpApiEndpoint.get("current", "/session", { success: SessionInfo })
