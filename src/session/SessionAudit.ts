/**
 * What happens to sessions, for operators and auditors: structured log events and metrics.
 *
 * An audit lives as long as the process, or as the layer that puts another one in its place.
 *
 * **Details**
 *
 * An event names a session by its public id. No token, hash or cookie is in any of them, by their types (OWASP Session
 * Management, "Logging Sessions Life Cycle"; ASVS 5.0 16.2.5). Tokens that are refused are counted one by one and logged in
 * bursts, so that guessing fills no disk: the first at once, the next ones together, at most once a minute per reason. What is
 * held back is told within a minute, and when `Sessions` closes.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Bursts from "../lifetime/internal/Bursts.ts"
import type { SessionError } from "./SessionError.ts"
import type { SessionId } from "./SessionId.ts"
import type { Device, SessionRecord } from "./SessionRecord.ts"

/** Why a token is refused: it is unknown, or its session is over, or another token took its place. */
export type Refusal = Extract<
  SessionError["reason"]["_tag"],
  "SessionMissing" | "SessionExpired" | "SessionRevoked" | "SessionSuperseded"
>

/**
 * Who ended a session: its user there, its owner elsewhere, a login beyond the cap, a login as somebody else, or nobody, who
 * could have learned its token any more.
 */
export type EndedBy = "logout" | "owner" | "operator" | "cap" | "another login" | "untold"

/** What happened. */
export type Event =
  /** A session began, of a visitor or with a login. */
  | {
      readonly _tag: "Created"
      readonly session: SessionId
      readonly principal: string | null
      readonly device: Device
    }
  /** Somebody proved who they are, or an operator acts on their behalf, and the session has a new token. */
  | {
      readonly _tag: "Authenticated"
      readonly session: SessionId
      readonly principal: string
      /** The operator who acts on behalf of the principal, or null. */
      readonly actor: string | null
      readonly device: Device
    }
  /** The session has a new token because the old one was due. */
  | { readonly _tag: "Renewed"; readonly session: SessionId; readonly principal: string | null }
  /** The session has a new token because the app asked for one, as after a change of rights. */
  | { readonly _tag: "Rotated"; readonly session: SessionId; readonly principal: string | null }
  | { readonly _tag: "Revoked"; readonly session: SessionId; readonly principal: string | null; readonly by: EndedBy }
  /** A token was presented and refused. There is no session to name. */
  | { readonly _tag: "Refused"; readonly reason: Refusal }
  /** Stored data could not be read: the app's policy says whether the session goes on without it. */
  | { readonly _tag: "Undecodable"; readonly session: SessionId; readonly problem: string }

/** Takes note of events. Must not fail; what it does holds up the request. */
export interface SessionAudit {
  readonly note: (event: Event) => Effect.Effect<void>
  /** Tells what was held back to be told together. `Sessions` asks for it once a minute and when it closes. */
  readonly flush?: Effect.Effect<void> | undefined
}

const events = Metric.counter("holdfast_sessions_events_total", {
  description: "What happened to sessions, by event",
  incremental: true
})
const refused = Metric.counter("holdfast_sessions_refused_total", {
  description: "Tokens refused, by reason",
  incremental: true
})

const ended = Metric.counter("holdfast_sessions_ended_total", {
  description: "Sessions that were ended, by who ended them; those that expire are not counted",
  incremental: true
})

/** How long refusals are held back to be told together. */
export const burst = Bursts.length

const names: { readonly [Tag in Exclude<Event["_tag"], "Refused">]: readonly [event: string, message: string] } = {
  Created: ["session.created", "A session began"],
  Authenticated: ["session.authenticated", "Somebody logged in"],
  Rotated: ["session.rotated", "The token of a session was replaced"],
  Renewed: ["session.renewed", "A session has a new token"],
  Revoked: ["session.revoked", "A session was ended"],
  Undecodable: ["session.undecodable", "The data of a session could not be read"]
}

const refusals: { readonly [Reason in Refusal]: readonly [event: string, message: string] } = {
  SessionMissing: ["session.unknown", "Tokens that belong to no session were refused"],
  SessionExpired: ["session.expired", "Tokens of expired sessions were refused"],
  SessionRevoked: ["session.ended", "Tokens of ended sessions were refused"],
  SessionSuperseded: ["session.superseded", "Tokens that were followed by another were refused"]
}

/** One for each event: what counts is looked up by its attributes only once. */
const counts = new Map(
  Object.values(names).map(([event]) => [event, Metric.update(Metric.withAttributes(events, { event }), 1)])
)

/**
 * Logs at info level, refusals at warning level, with the event's parts as annotations; and counts. A session that begins with a login is
 * counted and not logged: the login is.
 */
export const makeUnsafe = (): SessionAudit => {
  const refusing = Bursts.makeUnsafe((reason: Refusal, count) => {
    const [event, message] = refusals[reason]
    return Effect.annotateLogs(Effect.logWarning(message), { event, count })
  })

  return {
    flush: refusing.flush,
    note: (event) => {
      if (event._tag === "Refused") {
        const { reason } = event
        return Effect.andThen(Metric.update(Metric.withAttributes(refused, { reason }), 1), refusing.note(reason))
      }
      const { _tag, ...parts } = event
      const [name, message] = names[_tag]
      const one = counts.get(name) ?? Effect.void
      const counting =
        event._tag === "Revoked"
          ? Effect.andThen(one, Metric.update(Metric.withAttributes(ended, { by: event.by }), 1))
          : one
      return event._tag === "Created" && event.principal !== null
        ? counting
        : Effect.andThen(counting, Effect.annotateLogs(Effect.logInfo(message), { event: name, ...parts }))
    }
  }
}

/** The audit in use. Default: one per process, see {@link makeUnsafe}. */
export const SessionAudit = Context.Reference<SessionAudit>("holdfast/session/SessionAudit", {
  defaultValue: makeUnsafe
})

/** Another audit, such as one that keeps the events in a table. */
export const layer = (audit: SessionAudit): Layer.Layer<never> => Layer.succeed(SessionAudit, audit)

/** Which record an event speaks of. */
export const subject = ({ id, principal }: SessionRecord) => ({ session: id, principal })
