/**
 * Ending sessions: what a handle does about it, and what the audit is told.
 *
 * Nothing here lives longer than the call. An end is told as soon as the store has said so; the waiting for what the session
 * held can be given up, the end cannot.
 */
import * as Effect from "effect/Effect"
import type * as SessionAudit from "../SessionAudit.ts"
import type { SessionError } from "../SessionError.ts"
import type { SessionId } from "../SessionId.ts"
import type { SessionRecord } from "../SessionRecord.ts"
import type { Sessions } from "../Sessions.ts"

type Subject = Pick<SessionRecord, "id" | "principal">

export interface SessionEnding {
  /** Ends a session and waits; true if that was it. `onEnd` runs as soon as the store has said so. */
  readonly one: (
    session: Subject,
    by: SessionAudit.EndedBy,
    onEnd?: Effect.Effect<void>
  ) => Effect.Effect<boolean, SessionError>
  /** Ends all sessions of its principal but this one and waits; tells which they were. */
  readonly others: (session: Subject) => Effect.Effect<ReadonlyArray<SessionId>, SessionError>
  /** As `one`, but waits for nothing: for callers that cannot be interrupted. */
  readonly begin: (session: Subject, by: SessionAudit.EndedBy) => Effect.Effect<void, SessionError>
}

/** What is said of ended sessions goes to `audit`. */
export const make = (sessions: Sessions["Service"], audit: SessionAudit.SessionAudit): SessionEnding => {
  const note = ({ id, principal }: Subject, by: SessionAudit.EndedBy) =>
    audit.note({ _tag: "Revoked", session: id, principal, by })

  const revoke = (session: Subject, by: SessionAudit.EndedBy) =>
    Effect.tap(sessions.revoke(session.id), ({ wasLive }) => (wasLive ? note(session, by) : Effect.void))

  return {
    one: (session, by, onEnd = Effect.void) =>
      Effect.uninterruptible(
        Effect.flatMap(revoke(session, by), ({ over, wasLive }) => Effect.as(onEnd, Effect.as(over, wasLive)))
      ).pipe(Effect.flatten),
    others: ({ id: except, principal }) =>
      principal === null
        ? Effect.succeed([])
        : Effect.uninterruptible(
            Effect.flatMap(sessions.revokeAll(principal, { except }), ({ ids, over }) =>
              Effect.as(
                Effect.forEach(ids, (id) => note({ id, principal }, "owner"), { discard: true }),
                Effect.as(over, ids)
              )
            )
          ).pipe(Effect.flatten),
    begin: (session, by) => Effect.asVoid(Effect.uninterruptible(revoke(session, by)))
  }
}
