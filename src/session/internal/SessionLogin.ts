/**
 * Logging in: what a handle and a session class have in common about it.
 *
 * Nothing here lives longer than the call.
 */
import * as Effect from "effect/Effect"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as SessionAudit from "../SessionAudit.ts"
import type { SessionData } from "../SessionData.ts"
import type { SessionError } from "../SessionError.ts"
import type { Login } from "./SessionHandle.ts"
import type { Device, SessionRecord } from "../SessionRecord.ts"
import type { CreatedSession, Sessions } from "../Sessions.ts"
import type { Limits, NewSession } from "../SessionStore.ts"

/** What a session class decides for all its handles. */
export interface Config<Data> {
  readonly codec: SessionData<Data>
  readonly limits: (login?: Pick<Login, "policy" | "epoch">) => Limits
}

/** Whether an error means that the token leads to no session, and how. */
export const refusalOf = ({ reason }: SessionError): SessionAudit.Refusal | undefined => {
  switch (reason._tag) {
    case "SessionMissing":
    case "SessionExpired":
    case "SessionRevoked":
    case "SessionSuperseded":
      return reason._tag
    default:
      return undefined
  }
}

/** Whether a login goes on in a session: in a visitor's, or in one's own. An operator has one apart. */
export const goesOnIn = ({ principal }: SessionRecord, name: string, { actor }: Login) =>
  actor === undefined && (principal === null || principal === name)

/** Says in the log that a session cannot be read, which is the operator's to mend. */
export const warn = (error: SessionError) =>
  error.reason._tag === "SessionUndecodable"
    ? LogEvent.warning({ event: "session.unreadable" }, "A session could not be read", error.message)
    : Effect.void

/** What is kept of the client. */
export const deviceOf = ({ ip, userAgent }: Login): Device => ({
  ...(userAgent !== undefined && { userAgent }),
  ...(ip !== undefined && { ip })
})

/** Takes note of a login and of what had to make room for it. */
export const noteLogin = (audit: SessionAudit.SessionAudit, { displaced, record }: CreatedSession, principal: string) =>
  Effect.andThen(
    audit.note({ _tag: "Authenticated", session: record.id, principal, actor: record.actor, device: record.device }),
    Effect.forEach(displaced, (session) => audit.note({ _tag: "Revoked", session, principal, by: "cap" }), {
      discard: true
    })
  )

/** Starts a session for somebody whose identity was just proved, with the initial data. */
export const create = Effect.fnUntraced(function* <Data>(
  { codec, limits }: Config<Data>,
  sessions: Sessions["Service"],
  audit: SessionAudit.SessionAudit,
  login: Pick<Login, "policy" | "epoch" | "actor"> &
    Pick<NewSession, "instead"> & { readonly principal: string; readonly device?: Device | undefined }
) {
  const { actor, device = {}, instead, principal } = login
  // Nobody is logged out because an operator looks after them.
  const times = limits(
    actor === undefined ? login : { ...login, policy: { ...login.policy, maxPerPrincipal: Infinity } }
  )
  const { stored } = yield* codec.write((yield* codec.initial).value, [])
  return yield* Effect.uninterruptible(
    Effect.tap(sessions.create({ ...stored, ...times, principal, actor, device, instead }), (session) =>
      Effect.andThen(
        audit.note({ _tag: "Created", ...SessionAudit.subject(session.record), device: session.record.device }),
        noteLogin(audit, session, principal)
      )
    )
  )
})
