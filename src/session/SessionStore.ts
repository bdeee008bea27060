/**
 * The one source of truth about sessions: what a store promises, whatever it is made of.
 *
 * A session lives in its store from `create` until its idle or absolute end or its revocation, as decided by the store's
 * clock; afterwards a tombstone tells for 24 hours which it was. The four writes are different operations: `create` never
 * overwrites, `update` and the touch inside `load` never bring an ended session back, `revoke` ends it once.
 *
 * **Details**
 *
 * Stores never see a token, only its hash. Every operation is over within the store's own time limit and fails with
 * `SessionsUnavailable` where the store cannot be reached, and with nothing else in that case.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type { SessionError } from "./SessionError.ts"
import type { SessionId } from "./SessionId.ts"
import type { Device, SessionRecord } from "./SessionRecord.ts"
import type { TokenHash } from "./SessionToken.ts"

/** A session to be. */
export interface NewSession {
  readonly token: TokenHash
  readonly principal: string | null
  readonly data: Schema.Json
  readonly dataVersion: number
  readonly device: Device
  /** Time without a request after which the session is over. Finite, as is the next. */
  readonly idleTimeout: Duration.Duration
  /** Time after which it is over whatever happens. */
  readonly absoluteTimeout: Duration.Duration
  /**
   * Live sessions that the principal may have, this one included; the oldest are revoked to make room, in the same
   * transaction, also when many are created at once. Means nothing for a visitor.
   */
  readonly maxPerPrincipal: number
}

/** A change of data, which takes effect only if the session is still at the given version. */
export interface Update {
  readonly id: SessionId
  readonly version: number
  readonly data: Schema.Json
  readonly dataVersion: number
}

export class SessionStore extends Context.Service<
  SessionStore,
  {
    /** Stores a new session under a new id. */
    readonly create: (session: NewSession) => Effect.Effect<SessionRecord, SessionError>
    /**
     * The live session of a token: `SessionMissing`, `SessionExpired` or `SessionRevoked` when there is none. Counts as
     * activity: writes `lastSeenAt` if the last write is older than the touch interval (a tenth of the idle timeout, at
     * most 60 seconds), else nothing. A session is never over before its idle timeout, and at most one touch interval
     * after it.
     */
    readonly load: (token: TokenHash) => Effect.Effect<SessionRecord, SessionError>
    /** `SessionConflict` when the version is another; the reason of the end when the session is over. */
    readonly update: (update: Update) => Effect.Effect<SessionRecord, SessionError>
    /** Ends a session. True if it was live. */
    readonly revoke: (id: SessionId) => Effect.Effect<boolean, SessionError>
    /** Ends the live sessions of a principal, also one that is being created at this moment; tells which they were. */
    readonly revokeAll: (
      principal: string,
      options?: { readonly except?: SessionId | undefined }
    ) => Effect.Effect<ReadonlyArray<SessionId>, SessionError>
    /** The live sessions of a principal, the newest first. One that cannot be read is left out and logged. */
    readonly list: (principal: string) => Effect.Effect<ReadonlyArray<SessionRecord>, SessionError>
    /** Which of these sessions are over, or unknown. Not an activity. */
    readonly ended: (ids: ReadonlyArray<SessionId>) => Effect.Effect<ReadonlyArray<SessionId>, SessionError>
    /** Removes at most `limit` tombstones older than 24 hours; tells how many. Nothing depends on it but space. */
    readonly prune: (limit: number) => Effect.Effect<number, SessionError>
    /** Succeeds when the store answers and is set up. */
    readonly ping: Effect.Effect<void, SessionError>
  }
>()("holdfast/session/SessionStore") {}
