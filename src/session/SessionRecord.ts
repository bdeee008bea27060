/**
 * A session as its store knows it. Every time in it was decided by the store's clock.
 */
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { SessionError, SessionInvalid } from "./SessionError.ts"
import { SessionId } from "./SessionId.ts"

/**
 * Somebody's name: 1 to 256 UTF-16 units without NUL and without half a surrogate pair, which not every store can tell
 * apart.
 */
export const Principal = Schema.String.check(
  Schema.isMinLength(1),
  Schema.isMaxLength(256),
  Schema.makeFilter(
    (text: string) => (text.isWellFormed() && !text.includes("\0")) || "Expected no NUL or lone surrogate"
  )
)

const isPrincipal = Schema.is(Principal)

/** The name as it was given, or `SessionInvalid`. */
export const principalOf = (name: string): Effect.Effect<string, SessionError> =>
  isPrincipal(name) ? Effect.succeed(name) : Effect.fail(new SessionError({ reason: new SessionInvalid({ problem }) }))
const problem = "the principal needs 1 to 256 characters of well-formed text without NUL"

/** What a login tells about the client, to show to its owner. Never trusted. */
export const Device = Schema.Struct({
  userAgent: Schema.optionalKey(Schema.String),
  ip: Schema.optionalKey(Schema.String)
})
export type Device = typeof Device.Type

export const SessionRecord = Schema.Struct({
  id: SessionId,
  /** Who is logged in; null for a visitor. */
  principal: Schema.NullOr(Schema.String),
  /**
   * The operator who opened the session on behalf of its principal; null where the principal logged in. The same as `act` of
   * RFC 8693, section 4.1.
   */
  actor: Schema.NullOr(Schema.String),
  /** The app's data in its encoded form, and the version of its schema. */
  data: Schema.Json,
  dataVersion: Schema.Int,
  /** Counts the updates of the data, from 1. */
  version: Schema.Int,
  device: Device,
  /** The beginning of the session, or the last login in it. */
  createdAt: Schema.DateTimeUtc,
  /** The last request that presented the token, at most one touch interval old. */
  lastSeenAt: Schema.DateTimeUtc,
  /** Not enforced before this moment. */
  idleExpiresAt: Schema.DateTimeUtc,
  /** The session is over at this moment, whatever happens. */
  expiresAt: Schema.DateTimeUtc,
  /**
   * Not null when the token that was presented is older than the renewal time: it is to be replaced by the one that
   * `SessionToken.next` makes of it and this, base64url of 32 random bytes. Everybody who presents that token gets the
   * same, so that parallel renewals arrive at one token.
   */
  renewalNonce: Schema.NullOr(Schema.String)
})
export type SessionRecord = typeof SessionRecord.Type

/**
 * When the principal's identity was last proved: at the last login. Null for a visitor, and for a session that an operator
 * opened on behalf of the principal, because the principal proved nothing there.
 */
export const authenticatedAt = ({ actor, createdAt, principal }: SessionRecord): DateTime.Utc | null =>
  principal === null || actor !== null ? null : createdAt
