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
import type * as Lifetime from "../lifetime/Lifetime.ts"
import * as OneEffect from "../lifetime/internal/OneEffect.ts"
import * as SessionAudit from "./SessionAudit.ts"
import type { SessionError } from "./SessionError.ts"
import type { SessionId } from "./SessionId.ts"
import { authenticatedAt, type SessionRecord } from "./SessionRecord.ts"
import {
  type Authentication,
  type Expiry,
  type Login,
  type NewSession,
  SessionStore,
  type Update
} from "./SessionStore.ts"
import * as SessionToken from "./SessionToken.ts"
import * as LocalSessions from "./internal/LocalSessions.ts"
import type { OpenSession } from "./internal/LocalSessions.ts"
import { RecentSessions } from "./internal/RecentSessions.ts"

export type { OpenSession }

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
    /**
     * Holds a session that was just loaded until the scope closes. `SessionRevoked` if it ended here meanwhile. When it ends while
     * it is held, the end runs `onEnd` and waits for it.
     */
    readonly hold: (
      record: SessionRecord,
      onEnd?: Lifetime.Holding["onEnd"]
    ) => Effect.Effect<OpenSession, SessionError, Scope.Scope>
    /** Loads the session of a token and holds it as `hold` does. Counts as activity. */
    readonly open: (
      token: SessionToken.SessionToken,
      onEnd?: Lifetime.Holding["onEnd"]
    ) => Effect.Effect<OpenSession, SessionError, Scope.Scope>
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
  /**
   * How old an answer of `open`, and so of a request's session, may be. Default: as new as the store, which is asked each time.
   * At most 10 seconds; more is taken as that.
   *
   * **When to use**
   *
   * Where many requests of the same sessions reach the same process, and a session may go on for so long after its end elsewhere
   * if the store's news of the end is lost.
   *
   * **Details**
   *
   * A session that was loaded within this time is not asked for again. For so long, a request may see the data that another process
   * has just replaced, and a token that another process has just replaced is still accepted. What this process changes shows at
   * once, and so do ends that it hears of. Times are not stretched: a session that may be over by its times is asked for. Activity
   * is told to the store up to three times as late, so an idle session ends that much later. `modify` meets a conflict where the
   * data was old, and runs again on what the store has.
   */
  readonly staleness?: Duration.Input | undefined
}

/** The longest staleness. */
const longestStaleness = Duration.seconds(10)

/** How many visitors the store is asked for at once. */
const visitorsAtOnce = 1000

/** How many visitors are ended at once. */
const ending = 16

/** Makes the map; all sessions in it end with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  yield* Effect.withFiber((fiber) => Effect.sync(() => OneEffect.check(fiber)))
  const given = yield* SessionStore
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const clock = yield* Clock.Clock
  const staleness = Duration.min(Duration.fromInputUnsafe(options.staleness ?? Duration.zero), longestStaleness)
  const recent = Duration.isPositive(staleness) ? new RecentSessions(given.load, clock, staleness) : undefined
  const store = recent === undefined ? given : recent.watching(given)
  const held = LocalSessions.make(store, scope, clock, recent)
  // The waiting for the sessions that make room is left to the caller, who has the token by then and may give up.
  const begun = (login: Effect.Effect<Login, SessionError>, token: SessionToken.SessionToken) =>
    Effect.uninterruptible(
      Effect.flatMap(login, ({ displaced, record }) =>
        Effect.map(held.closeAll(displaced), (roomMade) => ({ record, token, displaced, roomMade }))
      )
    )

  yield* Effect.forkScoped(Stream.runForEachArray(store.ended, held.hear), { startImmediately: true })
  const audit = yield* SessionAudit.SessionAudit
  const { flush = Effect.void } = audit
  yield* Effect.addFinalizer(() => flush)
  yield* Effect.forkScoped(Effect.forever(Effect.delay(flush, SessionAudit.burst)))
  yield* Effect.forkScoped(
    Effect.repeat(held.poll, Schedule.jittered(Schedule.spaced(options.pollInterval ?? "10 seconds")))
  )

  if (recent !== undefined) {
    yield* Effect.addFinalizer(() => recent.settleAll)
    yield* Effect.forkScoped(Effect.forever(Effect.delay(recent.settle, staleness)))
  }

  const load = (token: SessionToken.SessionToken) => store.load(SessionToken.hash(token))
  const revoke = (id: SessionId) =>
    Effect.map(
      held.request(
        (one) => one === id,
        store.revoke(id),
        () => [id]
      ),
      ({ answer, over }) => ({ wasLive: answer, over })
    )
  const end = (id: SessionId) => Effect.flatMap(revoke(id), ({ over, wasLive }) => Effect.as(over, wasLive))

  const visitors = Stream.paginate(undefined, (after: string | undefined) =>
    Effect.map(store.visitors({ after, limit: visitorsAtOnce }), ({ next, sessions }) => [
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
    hold: held.hold,
    open:
      recent === undefined
        ? (token, onEnd) => held.open(load(token), onEnd)
        : (token, onEnd) =>
            Effect.suspend(() => {
              const hash = SessionToken.hash(token)
              const record = recent.find(hash)
              return record === undefined ? held.open(recent.fresh(hash), onEnd) : held.hold(record, onEnd)
            }),
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
    // Whose the sessions held here are is not known, so news of any of them waits for the answer.
    revokeAll: (principal, options) =>
      Effect.map(
        held.request(
          () => true,
          store.revokeAll(principal, options),
          (ids) => ids
        ),
        ({ answer, over }) => ({ ids: answer, over })
      )
  })
})

/** The sessions of this process, over the store in context. */
export const layer = (options?: Options): Layer.Layer<Sessions, never, SessionStore> =>
  Layer.effect(Sessions, make(options))

/** As {@link layer}, from wrapped configuration: `layerConfig({ pollInterval: Config.Duration("SESSION_POLL") })`. */
export const layerConfig = (config: Config.Wrap<Options>): Layer.Layer<Sessions, Config.ConfigError, SessionStore> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
