/**
 * Sessions in the memory of one process, for tests and for trying things out.
 *
 * They live as long as the layer and are known to no other instance. Time is Effect's `Clock`, so a `TestClock` moves it.
 * Every operation is one synchronous step: nothing can come between its reading and its writing.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import {
  SessionConflict,
  SessionError,
  SessionExpired,
  SessionMissing,
  SessionRevoked,
  SessionSuperseded,
  SessionTokenTaken
} from "./SessionError.ts"
import { expiryOf, type Held, isLive, recordOf, timesOf, type Token, Hints } from "./internal/MemorySession.ts"
import * as SessionPages from "./internal/SessionPages.ts"
import * as SessionId from "./SessionId.ts"
import { principalOf } from "./SessionRecord.ts"
import {
  type Authentication,
  type Ended,
  type Expiry,
  type Limits,
  type NewSession,
  type Renewal,
  type Rotation,
  SessionStore,
  type Update,
  type VisitorsAfter
} from "./SessionStore.ts"
import * as SessionPruning from "./SessionPruning.ts"
import * as SessionTimes from "./SessionTimes.ts"
import type { TokenHash } from "./SessionToken.ts"

const because = (reason: SessionError["reason"]) => new SessionError({ reason })

const inUse = because(new SessionTokenTaken())

/** Reads and writes at one moment, in one go: a fiber may be suspended between two effects, so this is one. */
const step = <A>(body: (now: number) => A | SessionError): Effect.Effect<A, SessionError> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const result = body(now)
    return result instanceof SessionError ? Effect.fail(result) : Effect.succeed(result)
  })

/** The time until which a token is good that is replaced at once: no clock that is set back comes before it. */
const dead = Number.NEGATIVE_INFINITY

/** Makes an empty store. */
export const make = Effect.gen(function* () {
  const sessions = new Map<SessionId.SessionId, Held>()
  const tokens = new Map<TokenHash, Token>()
  const epochs = new Map<string, { count: number; at: number }>()
  const ended = yield* PubSub.sliding<Ended>(yield* Hints)

  // The last of equals was the last to be created or authenticated, which the cap and the list depend on.
  const liveOf = (principal: string, now: number) =>
    Array.from(sessions.values()).filter((held) => held.principal === principal && isLive(held, now))

  /** Returns whether it was live; subscribers are told only of those. */
  const finish = (held: Held, now: number): boolean => {
    if (held.endedAt !== undefined) return false
    held.isExpired = !isLive(held, now)
    // A tombstone that is found late is as old as the absolute end.
    held.endedAt = Math.min(now, held.expiresAt)
    if (!held.isExpired) PubSub.publishUnsafe(ended, { _tag: "Session", id: held.id })
    return !held.isExpired
  }

  /** The session if it is live, else why it is not. */
  const find = (held: Held | undefined, now: number): Held | SessionError => {
    if (held === undefined) return because(new SessionMissing())
    if (held.endedAt !== undefined) return because(held.isExpired ? new SessionExpired() : new SessionRevoked())
    return isLive(held, now) ? held : because(new SessionExpired())
  }

  /** The token if it and its session are live, else why not. */
  const findToken = (hash: TokenHash, now: number): Token | SessionError => {
    const token = tokens.get(hash)
    const held = find(token?.session, now)
    if (held instanceof SessionError) return held
    if (token === undefined || now >= token.validUntil) return because(new SessionSuperseded())
    return token
  }

  const issue = (hash: TokenHash, session: Held, now: number, predecessor?: Token) =>
    tokens.set(hash, {
      session,
      issuedAt: now,
      nonce: randomBytes(32).toString("base64url"),
      predecessor,
      successor: undefined,
      validUntil: Infinity
    })

  /** Makes a token of a session that is over one of another, which took its place. */
  const follow = (hash: TokenHash, session: Held, now: number) => {
    const token = tokens.get(hash)
    if (token === undefined || isLive(token.session, now)) return
    tokens.set(hash, { ...token, session, predecessor: undefined, validUntil: dead })
  }

  const killTokens = (held: Held) => {
    for (const token of tokens.values()) if (token.session === held) token.validUntil = dead
  }

  const present = (token: Token, now: number) => {
    if (token.predecessor !== undefined)
      token.predecessor.validUntil = now + Duration.toMillis(SessionTimes.renewalGrace)
    token.predecessor = undefined
    if (token.session.lastSeenAt + token.session.touchInterval < now) token.session.lastSeenAt = now
  }

  /** Ends the oldest so that there is room for one more. */
  const makeRoom = (principal: string, limits: Limits, now: number, except?: Held) => {
    // Those that are past their time are over for good, also when the clock is set back: they are not counted any more.
    for (const held of sessions.values()) if (held.principal === principal && !isLive(held, now)) finish(held, now)
    const others = liveOf(principal, now).filter((held) => held !== except)
    const displaced = others.slice(0, Math.max(others.length - Math.max(limits.maxPerPrincipal - 1, 0), 0))
    for (const held of displaced) finish(held, now)
    return displaced.map(({ id }) => id)
  }

  const isRevokedSince = (principal: string, { epoch }: Limits) =>
    epoch !== undefined && (epochs.get(principal)?.count ?? 0) > epoch

  const create = (session: NewSession) =>
    step((now) => {
      const { actor = null, device, instead, principal, token } = session
      if (tokens.has(token)) return inUse
      if (principal !== null && isRevokedSince(principal, session)) return because(new SessionRevoked())
      const displaced = principal === null ? [] : makeRoom(principal, session, now)
      const held: Held = {
        ...timesOf(session, now),
        id: SessionId.make(),
        principal,
        actor,
        device: { ...device },
        data: JSON.stringify(session.data),
        dataVersion: session.dataVersion,
        version: 1,
        endedAt: undefined,
        isExpired: false
      }
      sessions.set(held.id, held)
      issue(token, held, now)
      if (instead !== undefined) follow(instead, held, now)
      return { record: recordOf(held), displaced }
    })

  const load = (hash: TokenHash) =>
    step((now) => {
      const token = findToken(hash, now)
      if (token instanceof SessionError) return token
      present(token, now)
      return recordOf(token.session, token.issuedAt + token.session.renewEvery <= now ? token.nonce : null)
    })

  const update = ({ data, dataVersion, id, version }: Update) =>
    step((now) => {
      const held = find(sessions.get(id), now)
      if (held instanceof SessionError) return held
      if (held.version !== version) return because(new SessionConflict())
      held.data = JSON.stringify(data)
      held.dataVersion = dataVersion
      held.version++
      return recordOf(held)
    })

  const renew = ({ next, token: hash }: Renewal) =>
    step((now) => {
      const token = findToken(hash, now)
      if (token instanceof SessionError) return token
      if ((token.successor ?? next) !== next) return because(new SessionSuperseded())
      if (token.successor === undefined) {
        if (tokens.has(next)) return inUse
        present(token, now)
        token.successor = next
        issue(next, token.session, now, token)
      }
      return recordOf(token.session)
    })

  const authenticate = (authentication: Authentication) =>
    step((now) => {
      const { data, device, next, principal } = authentication
      const presented = findToken(authentication.token, now)
      if (presented instanceof SessionError) return presented
      if (tokens.has(next)) return inUse
      if (isRevokedSince(principal, authentication)) return because(new SessionRevoked())
      const held = presented.session
      const displaced = makeRoom(principal, authentication, now, held)
      killTokens(held)
      Object.assign(held, timesOf(authentication, now), { principal, actor: null, device: { ...device } })
      if (data !== undefined) Object.assign(held, { data: JSON.stringify(data.value), dataVersion: data.version })
      held.version++
      sessions.delete(held.id)
      sessions.set(held.id, held)
      issue(next, held, now)
      return { record: recordOf(held), displaced }
    })

  const rotate = ({ next, token }: Rotation) =>
    step((now) => {
      const presented = findToken(token, now)
      if (presented instanceof SessionError) return presented
      if (tokens.has(next)) return inUse
      killTokens(presented.session)
      issue(next, presented.session, now)
      return recordOf(presented.session)
    })

  const setExpiry = ({ id, ...times }: Expiry) =>
    step((now) => {
      const held = find(sessions.get(id), now)
      if (held instanceof SessionError) return held
      Object.assign(held, expiryOf(times, now), { lastSeenAt: now })
      return recordOf(held)
    })

  const revoke = (id: SessionId.SessionId) =>
    step((now) => {
      const held = sessions.get(id)
      return held !== undefined && finish(held, now)
    })

  const revokeAll: SessionStore["Service"]["revokeAll"] = (principal, options) =>
    step((now) => {
      const theirs = Array.from(sessions.values()).filter(
        (held) => held.principal === principal && held.id !== options?.except
      )
      const live = theirs.filter((held) => finish(held, now))
      epochs.set(principal, { count: (epochs.get(principal)?.count ?? 0) + 1, at: now })
      return live.map(({ id }) => id)
    })

  const epoch = (principal: string) => step(() => epochs.get(principal)?.count ?? 0)

  const list = (principal: string) =>
    step((now) =>
      liveOf(principal, now)
        .toReversed()
        .map((held) => recordOf(held))
    )

  const pageOf = (after: SessionId.SessionId | undefined, limit: number) =>
    step((now) => {
      const ids = Array.from(sessions.keys()).toSorted()
      const seen = ids.filter((id) => after === undefined || id > after).slice(0, limit)
      const records = seen.flatMap((id) => {
        const held = sessions.get(id)
        return held !== undefined && held.principal === null && isLive(held, now) ? [recordOf(held)] : []
      })
      return { sessions: records, next: seen.length < limit ? undefined : seen.at(-1) }
    })
  const visitors = ({ after, limit }: VisitorsAfter) =>
    Effect.flatMap(SessionPages.after(after), (after) => pageOf(after, limit))

  const endedOf = (ids: ReadonlyArray<SessionId.SessionId>) =>
    step((now) =>
      ids.filter((id) => {
        const held = sessions.get(id)
        return held === undefined || !isLive(held, now)
      })
    )

  const prunableFrom = (held: Held) => (held.endedAt ?? held.expiresAt) + Duration.toMillis(SessionTimes.tombstoneAge)

  const prune = (limit: number) =>
    step((now) => {
      let pruned = 0
      for (const held of sessions.values()) {
        if (pruned >= limit) break
        if (prunableFrom(held) >= now) continue
        sessions.delete(held.id)
        for (const [hash, { session }] of tokens) if (session === held) tokens.delete(hash)
        pruned++
      }
      for (const [principal, { at }] of epochs) {
        if (at + Duration.toMillis(SessionTimes.tombstoneAge) < now) epochs.delete(principal)
      }
      return { sessions: pruned, took: Duration.zero }
    })

  const pruneLag = step((now) =>
    Duration.millis(Array.from(sessions.values()).reduce((lag, held) => Math.max(lag, now - prunableFrom(held)), 0))
  )

  /** Refuses what no store could keep. */
  const checked = <A>(principal: string, work: Effect.Effect<A, SessionError>) =>
    Effect.andThen(principalOf(principal), work)

  return SessionStore.of({
    capabilities: { sharedBy: "process", afterCrash: "lost", afterFailover: "lost", eviction: "never" },
    create: (session) =>
      [session.principal, session.actor ?? null].reduce(
        (work, name) => (name === null ? work : checked(name, work)),
        create(session)
      ),
    load,
    touch: (token) => Effect.asVoid(load(token)),
    update,
    renew,
    rotate,
    setExpiry,
    visitors,
    authenticate: (authentication) => checked(authentication.principal, authenticate(authentication)),
    revoke,
    revokeAll: (principal, options) => checked(principal, revokeAll(principal, options)),
    epoch: (principal) => checked(principal, epoch(principal)),
    list: (principal) => checked(principal, list(principal)),
    endedOf,
    ended: Stream.fromPubSub(ended),
    prune,
    pruneLag,
    ping: step((now) => DateTime.makeUnsafe(now))
  })
})

/** What may be chosen about the store. */
export interface Options {
  /** How sessions that are over are pruned; `false` for never. Default: every minute. */
  readonly pruning?: SessionPruning.Options | false | undefined
}

/** A store with these options. */
export const layerWith = ({ pruning }: Options): Layer.Layer<SessionStore> =>
  SessionPruning.withStore(Layer.effect(SessionStore, make), pruning)

/** Sessions in the memory of this process, by Effect's `Clock`; gone with the layer. For tests and for trying things out. */
export const layer: Layer.Layer<SessionStore> = layerWith({})
