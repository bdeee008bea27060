/**
 * What a handle knows of its session: the states that `SessionEngine` leads it through, and the errors it answers with.
 */
import * as DateTime from "effect/DateTime"
import type * as Option from "effect/Option"
import type * as Lifetime from "../../lifetime/Lifetime.ts"
import type { Read } from "../SessionData.ts"
import { SessionConflict, SessionError, SessionInvalid, SessionMissing, SessionRevoked } from "../SessionError.ts"
import type { SessionId } from "../SessionId.ts"
import type { SessionRecord } from "../SessionRecord.ts"
import * as SessionToken from "../SessionToken.ts"
import type { Versioned } from "./SessionHandle.ts"

export interface Live {
  readonly _tag: "Live"
  /** The token that the client has shown. Its successor is not presented for it: that would end this one's time. */
  readonly token: SessionToken.SessionToken
  readonly successor: SessionToken.SessionToken | undefined
  readonly lifetime: Lifetime.Lifetime
  readonly record: SessionRecord
}

/** Data as it was read, and the session that it is of, none for a visitor's. */
export interface Snapshot<Data> extends Read<Data>, Versioned<Data> {
  readonly session: SessionId | undefined
}

export type State =
  | { readonly _tag: "Unloaded"; readonly token: Option.Option<SessionToken.SessionToken> }
  | { readonly _tag: "Visitor"; readonly error: SessionError }
  | Live
  | { readonly _tag: "Ended"; readonly error: SessionError }

export const because = (reason: SessionError["reason"]) => new SessionError({ reason })
export const missing = because(new SessionMissing())
export const revoked = because(new SessionRevoked())
export const tooLate = because(
  new SessionInvalid({ problem: "the response has begun, so the client cannot learn its token. Do it before" })
)

export const conflict = because(new SessionConflict())

export const isSuperseded = ({ reason }: SessionError) => reason._tag === "SessionSuperseded"
export const isUnreadable = ({ reason }: SessionError) => reason._tag === "SessionUndecodable"
export const isMissing = ({ reason }: SessionError) => reason._tag === "SessionMissing"

/** What the client has to know of a session: its token, and how long it lives by the store's clock. */
export const tokenOf = ({ record, successor, token }: Live) => ({
  token: successor ?? token,
  expiresAt: record.expiresAt,
  livesFor: DateTime.distance(record.lastSeenAt, record.expiresAt)
})

/** The token that follows on the one of a session: the one that it was given, or that the renewal gives it. */
export const successorOf = ({ record: { renewalNonce }, successor, token }: Live) =>
  successor ?? (renewalNonce === null ? undefined : SessionToken.next(token, renewalNonce))
