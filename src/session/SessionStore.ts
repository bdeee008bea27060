/**
 * The one source of truth about sessions: what a store promises, whatever it is made of.
 *
 * A session lives in its store from `create` until its idle or absolute end or its revocation, as decided by the store's
 * clock; afterwards a tombstone tells for 24 hours which it was. Its tokens come and go meanwhile: `authenticate` puts a
 * new one in the place of all others at once, `renew` lets the old one live until 30 seconds after the new one was first
 * presented. The writes are different operations: `create` never overwrites, none of the others brings an ended session
 * back, `revoke` ends it once.
 *
 * **Details**
 *
 * Stores never see a token, only its hash. Every operation is over within the store's own time limit and fails with
 * `SessionsUnavailable` where the store cannot be reached, and with nothing else in that case. A principal that no store
 * could keep (see `SessionRecord.Principal`) is refused with `SessionInvalid`.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { SessionError } from "./SessionError.ts"
import type { SessionId } from "./SessionId.ts"
import type { Device, SessionRecord } from "./SessionRecord.ts"
import type { TokenHash } from "./SessionToken.ts"

/** How long a session and its tokens live, and how many a principal may have. */
export interface Limits {
  /** Time without a request after which the session is over. Finite, as are the next two. */
  readonly idleTimeout: Duration.Duration
  /** Time after which it is over whatever happens. */
  readonly absoluteTimeout: Duration.Duration
  /** Age from which on a token is to be renewed. */
  readonly renewEvery: Duration.Duration
  /**
   * Live sessions that the principal may have, this one included; the oldest are revoked to make room, in the same
   * transaction, also when many are created at once. From 1; finite and whole. Means nothing for a visitor.
   */
  readonly maxPerPrincipal: number
  /**
   * What `epoch` told before the identity of the principal was proved. If all its sessions were revoked since, the login
   * is refused with `SessionRevoked`. Without it, logins that are under way survive.
   */
  readonly epoch?: number | undefined
}

/** A session to be. */
export interface NewSession extends Limits {
  readonly token: TokenHash
  /**
   * A token that was presented and leads to no live session. Where the store knows it, it belongs to the new session from now
   * on, as one that was replaced (`SessionSuperseded`): so a client that presents it later, or a server that asks again before it answers, knows that
   * another answer has brought a new one. Default: none.
   */
  readonly instead?: TokenHash | undefined
  readonly principal: string | null
  /** The operator who opens the session on behalf of the principal. Default: nobody, the principal logs in. */
  readonly actor?: string | undefined
  readonly data: Schema.Json
  readonly dataVersion: number
  readonly device: Device
}

/** Somebody proved who he is, in a session that exists. */
export interface Authentication extends Limits {
  /** The token that was presented. */
  readonly token: TokenHash
  /** A new, random one, by which the session is known from now on. */
  readonly next: TokenHash
  readonly principal: string
  readonly device: Device
  /** What takes the place of the session's data. Default: the data stays. */
  readonly data?: { readonly value: Schema.Json; readonly version: number } | undefined
}

/** What came of a login: the session, and those of the same principal that had to make room. */
export interface Login {
  readonly record: SessionRecord
  readonly displaced: ReadonlyArray<SessionId>
}

/** A change of data, which takes effect only if the session is still at the given version. */
export interface Update {
  readonly id: SessionId
  readonly version: number
  readonly data: Schema.Json
  readonly dataVersion: number
}

/** Other times for a live session. */
export interface Expiry {
  readonly id: SessionId
  /** From now on, as if somebody had presented the token. Finite, as is the other. */
  readonly idleTimeout: Duration.Duration
  /** From now on. */
  readonly absoluteTimeout: Duration.Duration
}

/** Another token for a live session whose client stays the same, such as after a change of rights. */
export interface Rotation {
  /** The token that was presented. */
  readonly token: TokenHash
  /** A new, random one, by which the session is known from now on. */
  readonly next: TokenHash
}

/** Which visitors' sessions to tell. */
export interface VisitorsAfter {
  /** Where the page before ended: its `next`. Default: from the beginning. */
  readonly after?: string | undefined
  /** How many sessions the store may look at for this page, from 1. */
  readonly limit: number
}

/** Some visitors' sessions. A page can be short or empty while there is a `next`: the store looked at others' sessions. */
export interface Visitors {
  readonly sessions: ReadonlyArray<SessionRecord>
  /** Where the next page begins. None when there is no more. Means something to this store alone. */
  readonly next: string | undefined
}

/** A plain renewal: `next` is what `SessionToken.next` makes of the token, so every server that renews it makes the same. */
export interface Renewal {
  readonly token: TokenHash
  readonly next: TokenHash
}

/** What was removed. Fewer sessions than asked for: no more of them were over at that moment, but where there is `more`. */
export interface Pruned {
  readonly sessions: number
  /** So much belonged to these that the rest is left to another turn. Default: no. */
  readonly more?: boolean | undefined
  /** How long the store was at it, by its own clock. What the way there and back takes says nothing of its load. */
  readonly took: Duration.Duration
}

/**
 * A hint that a session may have ended, or (`Unknown`) that hints may have been lost, so that the store is to be asked about
 * everything. A client that can send notifications can forge them: ask `endedOf` before you believe one.
 */
export type Ended = { readonly _tag: "Session"; readonly id: SessionId } | { readonly _tag: "Unknown" }

/**
 * What stores cannot all promise alike. Everything else in this contract holds for each of them.
 *
 * **When to use**
 *
 * Where an app must know what a logout is worth once it was answered: to refuse to start over a store that may take it back, say.
 */
export interface Capabilities {
  /** Who shares the sessions: all instances that use the same server, or nobody outside this process. */
  readonly sharedBy: "instances" | "process"
  /**
   * An answered write after the server crashed: `kept`; `as configured`, where the server may have been told to answer before
   * the write is safe, and then the last of them can be undone; or `lost`, as all sessions are.
   */
  readonly afterCrash: "kept" | "as configured" | "lost"
  /**
   * The same after a replica took the place of a server that failed. `as configured`: the server can wait for its replicas
   * before it answers. `may be undone`: it cannot, so a session that was just revoked may live again, a token that was
   * replaced may be good again, and a login or a change of data may be gone.
   */
  readonly afterFailover: "as configured" | "may be undone" | "lost"
  /** Whether live sessions may be removed for want of memory, which is then as if they had never been. */
  readonly eviction: "never" | "as configured"
}

export class SessionStore extends Context.Service<
  SessionStore,
  {
    /** What this store promises, known before it is reached. */
    readonly capabilities: Capabilities
    /** Stores a new session under a new id. `SessionTokenTaken` when the token is known already, whatever became of it. */
    readonly create: (session: NewSession) => Effect.Effect<Login, SessionError>
    /**
     * The live session of a token: `SessionMissing`, `SessionExpired`, `SessionRevoked` or `SessionSuperseded` when there is
     * none. Counts as activity: writes `lastSeenAt` if the last write is older than the touch interval (a tenth of the
     * idle timeout, at most 60 seconds), else nothing. A session is never over before its idle timeout, and at most one
     * touch interval after it. The first load of a renewed token begins the time of grace of the one before.
     */
    readonly load: (token: TokenHash) => Effect.Effect<SessionRecord, SessionError>
    /** Activity, as by `load`, without reading the session. Fails as `load` does. */
    readonly touch: (token: TokenHash) => Effect.Effect<void, SessionError>
    /** `SessionConflict` when the version is another; the reason of the end when the session is over. */
    readonly update: (update: Update) => Effect.Effect<SessionRecord, SessionError>
    /**
     * Gives a live token its successor, once: to do it again with the same is allowed, with another fails with
     * `SessionSuperseded`. Fails as `load` does, and with `SessionTokenTaken` when the successor is another's already. The
     * record has no nonce.
     */
    readonly renew: (renewal: Renewal) => Effect.Effect<SessionRecord, SessionError>
    /**
     * Gives a live session to a principal, also one that another principal had: its tokens are all dead at once but the new one, its
     * times and its `createdAt` begin anew, its version counts on, so that no update begun before takes effect. Its id
     * stays. No operator acts in it any more. The cap holds as in `create`. Fails as `renew` does.
     */
    readonly authenticate: (authentication: Authentication) => Effect.Effect<Login, SessionError>
    /**
     * Gives a live session a new token; all others of it are dead at once. Nothing else changes. Fails as `renew` does. The
     * record has no nonce.
     */
    readonly rotate: (rotation: Rotation) => Effect.Effect<SessionRecord, SessionError>
    /**
     * Gives a live session other times, which begin now. It is an activity: activity that was not written yet would else
     * count for less than the new idle time. Fails with the reason of the end when the session is over.
     */
    readonly setExpiry: (expiry: Expiry) => Effect.Effect<SessionRecord, SessionError>
    /** Ends a session. True if it was live. */
    readonly revoke: (id: SessionId) => Effect.Effect<boolean, SessionError>
    /** Ends the live sessions of a principal, also one that is being created at this moment; tells which they were. */
    readonly revokeAll: (
      principal: string,
      options?: { readonly except?: SessionId | undefined }
    ) => Effect.Effect<ReadonlyArray<SessionId>, SessionError>
    /** Grows with each `revokeAll` of the principal; see {@link Limits.epoch}. */
    readonly epoch: (principal: string) => Effect.Effect<number, SessionError>
    /** The live sessions of a principal, the newest first. One that cannot be read is left out and logged. */
    readonly list: (principal: string) => Effect.Effect<ReadonlyArray<SessionRecord>, SessionError>
    /**
     * Live sessions of visitors, in no order that means anything, a page at a time. Who asks for page after page is told
     * every session that lived all the time, and each once unless the server restarted meanwhile. A cursor that is not the
     * store's fails with `SessionInvalid`. One that cannot be read is left out and logged. Not an activity.
     */
    readonly visitors: (page: VisitorsAfter) => Effect.Effect<Visitors, SessionError>
    /** Which of these sessions are over, or unknown. Not an activity. */
    readonly endedOf: (ids: ReadonlyArray<SessionId>) => Effect.Effect<ReadonlyArray<SessionId>, SessionError>
    /**
     * The sessions that are revoked or displaced from now on, by any instance, as hints. Expiry gives none. A reader that is
     * far behind loses the oldest.
     */
    readonly ended: Stream.Stream<Ended>
    /**
     * Removes at most `limit` tombstones older than 24 hours, and what is known of principals without sessions. Nothing
     * depends on it but space.
     */
    readonly prune: (limit: number) => Effect.Effect<Pruned, SessionError>
    /** How long ago the oldest tombstone should have been pruned; zero when there is none to prune. */
    readonly pruneLag: Effect.Effect<Duration.Duration, SessionError>
    /** Succeeds when the store answers and is set up, with the moment by its clock. */
    readonly ping: Effect.Effect<DateTime.Utc, SessionError>
  }
>()("holdfast/session/SessionStore") {}
