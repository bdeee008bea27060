/**
 * The sessions that hold something in this process, each with a lifetime of its own.
 *
 * A session has an entry here from the first `open` until nobody holds it and nothing runs in it any more;
 * most sessions of an app have none most of the time. When a session ends, here or anywhere, its lifetime ends: its fibers
 * are interrupted, its queries cancelled, their connections released, and the fiber that asked for the end waits for all of it.
 *
 * ```
 * session ──┬── handle (a request)
 *           ├── fiber (session.run)
 *           └── query ── connection ── statement
 * ```
 *
 * **Details**
 *
 * The store is the truth. The ends that happen elsewhere are told by its hints, which are only believed when the store
 * says so too, and found by asking it about the sessions held here every `pollInterval`; a store that cannot be reached
 * ends nothing. So an end reaches every instance within 2 seconds, and within 15 when hints are lost or a session expires.
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Lifetime from "../lifetime/Lifetime.ts"
import * as OneEffect from "../lifetime/internal/OneEffect.ts"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as SessionAudit from "./SessionAudit.ts"
import { SessionError, SessionRevoked } from "./SessionError.ts"
import type { SessionId } from "./SessionId.ts"
import { authenticatedAt, type SessionRecord } from "./SessionRecord.ts"
import {
  type Authentication,
  type Ended,
  type Expiry,
  type Login,
  type NewSession,
  SessionStore,
  type Update
} from "./SessionStore.ts"
import * as SessionToken from "./SessionToken.ts"

/** A live session, as it was when it was opened, with the lifetime that work can be tied to. */
export interface OpenSession {
  readonly record: SessionRecord
  readonly lifetime: Lifetime.Lifetime
  /** What keeps it here: a child of the lifetime, which ends before it, and with the scope that it was opened in. */
  readonly hold: Lifetime.Lifetime
}

/** A session that somebody just logged in to. The token is for the client and nobody else. */
export interface CreatedSession {
  readonly record: SessionRecord
  readonly token: SessionToken.SessionToken
  /** The sessions of the same principal that had to make room. They are over, and their end here has begun. */
  readonly displaced: ReadonlyArray<SessionId>
  /** Waits until everything that these held in this process is released. */
  readonly roomMade: Effect.Effect<void>
}

/** A session that was just revoked. */
export interface RevokedSession {
  readonly wasLive: boolean
  /** Waits until everything that it held in this process is released. */
  readonly over: Effect.Effect<void>
}

/** The sessions of a principal that were just revoked. */
export interface RevokedSessions {
  readonly ids: ReadonlyArray<SessionId>
  /** Waits until everything that they held in this process is released. */
  readonly over: Effect.Effect<void>
}

export class Sessions extends Context.Service<
  Sessions,
  {
    /** Stores a new session. Those that had to make room for it end here at once. */
    readonly create: (session: Omit<NewSession, "token">) => Effect.Effect<CreatedSession, SessionError>
    /** The live session of a token, held by nobody. Counts as activity. */
    readonly load: (token: SessionToken.SessionToken) => Effect.Effect<SessionRecord, SessionError>
    /** Holds a session that was just loaded until the scope closes. `SessionRevoked` if it ended here meanwhile. */
    readonly hold: (record: SessionRecord) => Effect.Effect<OpenSession, SessionError, Scope.Scope>
    /** Loads the session of a token and holds it until the scope closes. Counts as activity. */
    readonly open: (token: SessionToken.SessionToken) => Effect.Effect<OpenSession, SessionError, Scope.Scope>
    /** Activity without a request, as a message on an open socket. Fails like a load. */
    readonly touch: (token: SessionToken.SessionToken) => Effect.Effect<void, SessionError>
    readonly update: (update: Update) => Effect.Effect<SessionRecord, SessionError>
    /** Replaces a token by the one that `SessionToken.next` made of it. */
    readonly renew: (
      token: SessionToken.SessionToken,
      next: SessionToken.SessionToken
    ) => Effect.Effect<SessionRecord, SessionError>
    /** Makes a session somebody's, under a new token; the old ones are dead. Ends here what had to make room. */
    readonly authenticate: (
      token: SessionToken.SessionToken,
      authentication: Omit<Authentication, "token" | "next">
    ) => Effect.Effect<CreatedSession, SessionError>
    /** Gives a session a new token in the place of all others; see `SessionStore.rotate`. */
    readonly rotate: (
      token: SessionToken.SessionToken,
      next: SessionToken.SessionToken
    ) => Effect.Effect<SessionRecord, SessionError>
    /** Gives a live session other times; see `SessionStore.setExpiry`. */
    readonly setExpiry: (expiry: Expiry) => Effect.Effect<SessionRecord, SessionError>
    /** The live sessions of visitors, in no order, for an operator to look at. Read from the store as they are pulled. */
    readonly visitors: Stream.Stream<SessionRecord, SessionError>
    /** Ends the sessions of all visitors, as `end` does one; tells how many there were. */
    readonly endVisitors: Effect.Effect<number, SessionError>
    /**
     * How long ago the principal of a session proved who they are, by the store's clock; infinite where that never happened: for
     * a visitor, and where an operator acts on behalf of the principal.
     */
    readonly sinceAuthenticated: (record: SessionRecord) => Effect.Effect<Duration.Duration, SessionError>
    /** The live sessions of a principal, the newest first. */
    readonly list: (principal: string) => Effect.Effect<ReadonlyArray<SessionRecord>, SessionError>
    /** See `SessionStore.epoch`. */
    readonly epoch: (principal: string) => Effect.Effect<number, SessionError>
    /** Ends the session of a token and waits, as `end` does. Fails like a load where there is none. */
    readonly logout: (token: SessionToken.SessionToken) => Effect.Effect<void, SessionError>
    /** Revokes a session; what it held in this process is being released when this returns. */
    readonly revoke: (id: SessionId) => Effect.Effect<RevokedSession, SessionError>
    /** Revokes a session and waits until everything it held in this process is released. True if it was live. */
    readonly end: (id: SessionId) => Effect.Effect<boolean, SessionError>
    /** Revokes the sessions of a principal; what they held in this process is being released when this returns. */
    readonly revokeAll: (
      principal: string,
      options?: { readonly except?: SessionId | undefined }
    ) => Effect.Effect<RevokedSessions, SessionError>
  }
>()("holdfast/session/Sessions") {}

/** How the ends of sessions are found. */
export interface Options {
  /** How often the store is asked about the sessions held here, give or take a fifth. Default: 10 seconds. */
  readonly pollInterval?: Duration.Input | undefined
}

/** How many sessions the store is asked about at once. */
const asked = 1000

/** How many visitors are ended at once. */
const ending = 16

/** Longer than any load can take: one that began before an end must not bring the session back here. */
const rememberEndsFor = Duration.minutes(1)

const revoked = Effect.fail(new SessionError({ reason: new SessionRevoked({}) }))

/** How many hints about sessions that nobody holds here are remembered, for a request that has loaded one and is about to. */
const remembered = 4096

type Restore = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

/** Makes the map; all sessions in it end with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  yield* Effect.withFiber((fiber) => Effect.sync(() => OneEffect.check(fiber)))
  const store = yield* SessionStore
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const clock = yield* Clock.Clock
  const entries = new Map<SessionId, Lifetime.Lifetime>()
  const endedAt = new Map<SessionId, number>()
  const hinted = new Set<SessionId>()

  // One function for all: a closure of each would be most of what an entry costs.
  const forget = (lifetime: Lifetime.Lifetime) => {
    const id = lifetime.entry.id as SessionId
    if (entries.get(id) === lifetime) entries.delete(id)
  }

  const entryOf = (id: SessionId): Effect.Effect<Lifetime.Lifetime> =>
    Effect.suspend(() => {
      const known = entries.get(id)
      if (known !== undefined) return Effect.succeed(known)
      const made = Lifetime.make(scope, {
        kind: "session",
        id,
        release: "parallel",
        endWithLastChild: true,
        onEnded: forget
      })
      return Effect.flatMap(made, (lifetime) => {
        const meanwhile = entries.get(id)
        if (meanwhile !== undefined) return Effect.as(lifetime.end(), meanwhile)
        entries.set(id, lifetime)
        return Effect.succeed(lifetime)
      })
    })

  // A handle is a child, so the session cannot go while a request holds it. Made under a session that is just going,
  // it is over at once, and the next entry is tried.
  const hold = (record: SessionRecord, restore: Restore): Effect.Effect<OpenSession, SessionError, Scope.Scope> =>
    Effect.suspend(() => {
      if (endedAt.has(record.id)) return revoked
      return Effect.flatMap(entryOf(record.id), (lifetime) =>
        Effect.flatMap(Lifetime.child(lifetime, { kind: "handle", id: record.id }), (handle) =>
          held({ record, lifetime, hold: handle }, restore)
        )
      )
    })

  const held = (opened: OpenSession, restore: Restore): Effect.Effect<OpenSession, SessionError, Scope.Scope> => {
    const { hold: handle, lifetime, record } = opened
    // The end may have come while the entry was being made.
    if (endedAt.has(record.id)) return Effect.andThen(lifetime.begin(), revoked)
    if (lifetime.isEnding()) return Effect.andThen(restore(lifetime.ended), hold(record, restore))
    const kept = Effect.flatMap(Effect.scope, (scope) => Scope.addFinalizerExit(scope, handle.end))
    // Loaded before the end and held after the hint: nobody would ask before the next poll.
    return Effect.as(
      hinted.delete(record.id) ? Effect.andThen(kept, Effect.forkIn(ask([record.id]), scope)) : kept,
      opened
    )
  }

  /** Begins the end of a session here; the effect within waits for it. */
  const close = (id: SessionId): Effect.Effect<Effect.Effect<void>> =>
    Effect.suspend(() => {
      // Not the time of day, which somebody may set.
      const now = SteadyClock.millis(clock)
      // The oldest comes first, so that ten thousand ends at once do not look through each other.
      for (const [id, at] of endedAt) {
        if (at >= now - Duration.toMillis(rememberEndsFor)) break
        endedAt.delete(id)
      }
      endedAt.delete(id)
      endedAt.set(id, now)
      const lifetime = entries.get(id)
      return lifetime === undefined ? Effect.succeed(Effect.void) : Effect.as(lifetime.begin(), lifetime.end())
    })

  const closeAll = (ids: ReadonlyArray<SessionId>) =>
    Effect.map(Effect.forEach(ids, close), (ends) => Effect.all(ends, { concurrency: "unbounded", discard: true }))

  // The waiting for the sessions that make room is left to the caller, who has the token by then and may give up.
  const begun = (login: Effect.Effect<Login, SessionError>, token: SessionToken.SessionToken) =>
    Effect.uninterruptible(
      Effect.flatMap(login, ({ displaced, record }) =>
        Effect.map(closeAll(displaced), (roomMade) => ({ record, token, displaced, roomMade }))
      )
    )

  /** Ends here those of these sessions that are over. */
  const ask = (ids: ReadonlyArray<SessionId>) =>
    Effect.forEach(
      Arr.chunksOf(ids, asked),
      (chunk) => Effect.flatMap(Effect.retry(store.endedOf(chunk), { times: 2 }), closeAll),
      {
        discard: true
      }
    ).pipe(
      Effect.catchCause((cause) =>
        LogEvent.debug(
          { event: "session.ends_unknown" },
          "The session store could not be asked which sessions ended",
          cause
        )
      )
    )
  const poll = Effect.suspend(() => ask(Array.from(entries.keys())))
  const remember = (id: SessionId) => {
    hinted.add(id)
    const [oldest] = hinted
    if (hinted.size > remembered && oldest !== undefined) hinted.delete(oldest)
  }
  const hear = (hints: ReadonlyArray<Ended>) => {
    if (hints.some(({ _tag }) => _tag === "Unknown")) return poll
    const ids = new Set(hints.flatMap((hint) => (hint._tag === "Session" ? [hint.id] : [])))
    for (const id of ids) if (!entries.has(id)) remember(id)
    return ask(Array.from(ids).filter((id) => entries.has(id)))
  }
  yield* Effect.forkScoped(Stream.runForEachArray(store.ended, hear), { startImmediately: true })
  const audit = yield* SessionAudit.SessionAudit
  const { flush = Effect.void } = audit
  yield* Effect.addFinalizer(() => flush)
  yield* Effect.forkScoped(Effect.forever(Effect.delay(flush, SessionAudit.burst)))
  yield* Effect.forkScoped(
    Effect.repeat(poll, Schedule.jittered(Schedule.spaced(options.pollInterval ?? "10 seconds")))
  )

  const load = (token: SessionToken.SessionToken) => store.load(SessionToken.hash(token))
  const revoke = (id: SessionId) =>
    Effect.uninterruptible(
      Effect.flatMap(store.revoke(id), (wasLive) => Effect.map(close(id), (over) => ({ wasLive, over })))
    )
  const end = (id: SessionId) => Effect.flatMap(revoke(id), ({ over, wasLive }) => Effect.as(over, wasLive))

  const visitors = Stream.paginate(undefined, (after: string | undefined) =>
    Effect.map(store.visitors({ after, limit: asked }), ({ next, sessions }) => [
      sessions,
      next === undefined ? Option.none() : Option.some(next)
    ])
  )
  // Each is waited for when all have begun to end.
  const endVisitors = visitors.pipe(
    Stream.mapEffect(
      ({ id, principal }) =>
        Effect.uninterruptible(
          Effect.tap(revoke(id), ({ wasLive }) =>
            wasLive ? audit.note({ _tag: "Revoked", session: id, principal, by: "operator" }) : Effect.void
          )
        ),
      { concurrency: ending }
    ),
    Stream.filter(({ wasLive }) => wasLive),
    Stream.mapEffect(({ over }) => over, { concurrency: "unbounded" }),
    Stream.runCount
  )

  return Sessions.of({
    create: (session) =>
      Effect.suspend(() => {
        const token = SessionToken.make()
        return begun(store.create({ ...session, token: SessionToken.hash(token) }), token)
      }),
    load,
    hold: (record) => Effect.uninterruptibleMask((restore) => hold(record, restore)),
    open: (token) =>
      Effect.uninterruptibleMask((restore) => Effect.flatMap(restore(load(token)), (record) => hold(record, restore))),
    touch: (token) => store.touch(SessionToken.hash(token)),
    update: store.update,
    renew: (token, next) => store.renew({ token: SessionToken.hash(token), next: SessionToken.hash(next) }),
    authenticate: (token, authentication) =>
      Effect.suspend(() => {
        const next = SessionToken.make()
        const hashes = { token: SessionToken.hash(token), next: SessionToken.hash(next) }
        return begun(store.authenticate({ ...authentication, ...hashes }), next)
      }),
    rotate: (token, next) => store.rotate({ token: SessionToken.hash(token), next: SessionToken.hash(next) }),
    setExpiry: store.setExpiry,
    visitors,
    endVisitors,
    sinceAuthenticated: (record) => {
      const at = authenticatedAt(record)
      return at === null
        ? Effect.succeed(Duration.infinity)
        : Effect.map(store.ping, (now) => DateTime.distance(at, now))
    },
    list: store.list,
    epoch: store.epoch,
    logout: (token) => Effect.flatMap(load(token), ({ id }) => Effect.asVoid(end(id))),
    revoke,
    end,
    revokeAll: (principal, options) =>
      Effect.uninterruptible(
        Effect.flatMap(store.revokeAll(principal, options), (ids) =>
          Effect.map(closeAll(ids), (over) => ({ ids, over }))
        )
      )
  })
})

/** The sessions of this process, over the store in context. */
export const layer = (options?: Options): Layer.Layer<Sessions, never, SessionStore> =>
  Layer.effect(Sessions, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ pollInterval: Config.Duration("SESSION_POLL") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<Sessions, Config.ConfigError, SessionStore> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
