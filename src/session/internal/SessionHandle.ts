/**
 * What a handle on a session offers.
 *
 * A handle lives as long as the scope it was made in, usually a request's. Nothing is asked of the store until something
 * is asked of the handle; then the session is loaded once, however many ask at the same time, and held until that scope
 * closes.
 */
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Lifetime from "../../lifetime/Lifetime.ts"
import type { Stored } from "../SessionData.ts"
import type { SessionError } from "../SessionError.ts"
import type { SessionId } from "../SessionId.ts"
import type { Device, SessionRecord } from "../SessionRecord.ts"
import type { SessionToken } from "../SessionToken.ts"

/** Times and caps of new sessions, each of which may be infinite: a century, a billion. OWASP's Session Management sheet asks for both timeouts, enforced by the server. */
export interface Policy {
  /** Time without a request after which a session is over. Default: 30 minutes. */
  readonly idleTimeout?: Duration.Input | undefined
  /** Time after which it is over whatever happens. Default: 12 hours. */
  readonly absoluteTimeout?: Duration.Input | undefined
  /** Age at which a token is replaced. Default: 1 hour. */
  readonly renewEvery?: Duration.Input | undefined
  /** Live sessions of one principal; the oldest makes room. Default: 5. */
  readonly maxPerPrincipal?: number | undefined
}

/** How somebody logs in. */
export interface Login extends Device {
  /** Instead of the class's. */
  readonly policy?: Policy | undefined
  /** What `Sessions.epoch` told before the identity was proved, so that a revocation meanwhile counts. */
  readonly epoch?: number | undefined
  /**
   * The operator who logs in on behalf of the principal. That always begins a session of its own, which is marked in its record
   * and in the audit, makes nobody else's make room, and never counts as a proof of the principal's identity. Default: nobody.
   */
  readonly actor?: string | undefined
}

/** Other times for a live session, such as for "remember me". */
export interface Expiry {
  /** Time without a request after which the session is over. Default: the class's. */
  readonly idleTimeout?: Duration.Input | undefined
  /** Time from now on after which it is over whatever happens. Default: the class's. */
  readonly absoluteTimeout?: Duration.Input | undefined
}

/** A token that the client has to learn, or none: it has to forget the one it has. */
export type TokenChange = Option.Option<{
  readonly token: SessionToken
  readonly expiresAt: DateTime.Utc
  /** From the change on, by the store's clock, up to a touch interval too long. */
  readonly livesFor: Duration.Duration
}>

/** Data and the version it has in the store, 0 for a visitor without a session. */
export interface Versioned<Data> {
  readonly data: Data
  readonly version: number
}

/** One of somebody's sessions, as shown to them. */
export interface SessionDevice {
  readonly id: SessionId
  /** Whether it is the one that asks. */
  readonly current: boolean
  /** The operator who opened it on behalf of its principal; null where that was nobody. */
  readonly actor: string | null
  readonly device: Device
  readonly createdAt: DateTime.Utc
  /** At most one touch interval old. */
  readonly lastSeenAt: DateTime.Utc
  readonly idleExpiresAt: DateTime.Utc
  readonly expiresAt: DateTime.Utc
}

/** What is shown of a session to its principal, who asks from `current`. */
export const deviceOf = (record: SessionRecord, current: SessionId): SessionDevice => {
  const { actor, createdAt, device, expiresAt, id, idleExpiresAt, lastSeenAt } = record
  return { id, current: id === current, actor, device, createdAt, lastSeenAt, idleExpiresAt, expiresAt }
}

/**
 * A session, seen from one request.
 *
 * **Details**
 *
 * Where there is no session, or the token that was presented is refused, the handle is a visitor's: `principal` is null,
 * `data` is the initial data, and what needs a session fails with the reason. A session that ends while the handle is in
 * use stays ended for it. Everything fails with `SessionsUnavailable` when the store does not answer.
 */
export interface Session<Data> {
  /** As of the last read or write through this handle. Fails with the reason where there is no session. */
  readonly record: Effect.Effect<SessionRecord, SessionError>
  /** Fails as `record` does. */
  readonly id: Effect.Effect<SessionId, SessionError>
  /** Who is logged in; null for a visitor. */
  readonly principal: Effect.Effect<string | null, SessionError>
  /**
   * When the principal last proved who they are: at the last login. Null for a visitor, and where an operator acts on behalf
   * of the principal.
   */
  readonly authenticatedAt: Effect.Effect<DateTime.Utc | null, SessionError>
  /** As of the last read or write through this handle; initial for a visitor. */
  readonly data: Effect.Effect<Data, SessionError>
  /** The data with its version, for {@link Session.replace}. */
  readonly versioned: Effect.Effect<Versioned<Data>, SessionError>
  /** Data of this session that could not be read and was kept, in the form it had; see the policy `"quarantine"`. */
  readonly quarantined: Effect.Effect<ReadonlyArray<Stored>, SessionError>
  /** For work that goes on after the request and must end with the session. Fails as `record` does. */
  readonly lifetime: Effect.Effect<Lifetime.Lifetime, SessionError>

  /**
   * Changes the data: it is in the store when this returns, and the new data is the result.
   *
   * **Details**
   *
   * When somebody else changed the data meanwhile, it is read again and `change` runs again, up to 16 times in all, then
   * this fails with `SessionConflict`. Between two tries it waits, up to 32 times as long as a try took. Nothing is written
   * when the data stays the same. The first change of a visitor's data makes a session; one whose token was followed by a
   * newer one is told so by `SessionSuperseded`.
   *
   * **Gotchas**
   *
   * `change` may run more than once, so it should do nothing but compute.
   */
  readonly modify: <E = never, R = never>(
    change: (data: Data) => Data | Effect.Effect<Data, E, R>
  ) => Effect.Effect<Data, E | SessionError, R>
  /** Puts new data in the place of that version; `SessionConflict` when it is another. */
  readonly replace: (data: Data, expected: { readonly version: number }) => Effect.Effect<Versioned<Data>, SessionError>

  /**
   * Lets somebody be the session's principal, whose identity was just proved.
   *
   * **Details**
   *
   * The session has a new token; all others of it are dead at once, and its times begin anew. A visitor's session goes on
   * with its data, as does one's own. Another principal's session ends, with all it held, and nothing of it is handed on.
   */
  readonly authenticate: (principal: string, login?: Login) => Effect.Effect<SessionRecord, SessionError>
  /**
   * Replaces the token if it is due, and tells whether it did. The old one is good until 30 seconds after the new one was
   * first presented, so that requests under way are not refused. Over HTTP this happens by itself.
   */
  readonly renew: Effect.Effect<boolean, SessionError>
  /**
   * Replaces the token at once; all others of the session are dead. For a change of rights without a login (OWASP Session
   * Management, "Renew the Session ID After Any Privilege Level Change"). The other requests of the client that are under way
   * with the old token are refused, so it is no substitute for `renew`.
   */
  readonly rotate: Effect.Effect<SessionRecord, SessionError>
  /**
   * Gives the session other times, and the client's cookie with them. For "remember me" at a login, pass `policy` to
   * `authenticate` instead. Fails as `record` does, and with `SessionInvalid` where the client cannot be told any more.
   */
  readonly setExpiry: (expiry: Expiry) => Effect.Effect<SessionRecord, SessionError>
  /** Activity without a request, such as a message on an open socket. */
  readonly touch: Effect.Effect<void, SessionError>
  /**
   * Ends the session everywhere; returns when everything it held in this process is released. Fails with
   * `SessionSuperseded`, and ends nothing, where the session goes on under a newer token.
   */
  readonly logout: Effect.Effect<void, SessionError>

  /** The live sessions of the principal, the newest first; none for a visitor. */
  readonly devices: Effect.Effect<ReadonlyArray<SessionDevice>, SessionError>
  /** Ends one of the principal's sessions, as `logout` does. False if it is not one of them or was over. */
  readonly revoke: (id: SessionId) => Effect.Effect<boolean, SessionError>
  /** Ends all other sessions of the principal, also one that is just beginning; tells which they were. */
  readonly revokeOthers: Effect.Effect<ReadonlyArray<SessionId>, SessionError>

  /** Forks work that cannot outlive the session. Fails as `record` does. */
  readonly run: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<Fiber.Fiber<A, E>, SessionError, R>
  /**
   * Provides a layer that is built once per session in this process and released when the session ends.
   *
   * **Details**
   *
   * Work that uses it is interrupted first and fails with `SessionRevoked`. Who asks while it is being built waits for it;
   * a build that failed is tried again by the next. See `SessionLayers`.
   */
  readonly provide: <ROut, E2, RIn>(
    layer: Layer.Layer<ROut, E2, RIn>
  ) => <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E | E2 | SessionError, Exclude<R, ROut> | RIn>
}
