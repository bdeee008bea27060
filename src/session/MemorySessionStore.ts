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
import {
  SessionConflict,
  SessionError,
  SessionExpired,
  SessionMissing,
  SessionRevoked,
  SessionsUnavailable
} from "./SessionError.ts"
import * as SessionId from "./SessionId.ts"
import type { Device, SessionRecord } from "./SessionRecord.ts"
import { type NewSession, SessionStore, type Update } from "./SessionStore.ts"
import * as SessionTimes from "./SessionTimes.ts"
import type { TokenHash } from "./SessionToken.ts"

/** A session as it is held. The data is JSON text, so that nobody shares an object with the store. */
interface Held {
  readonly id: SessionId.SessionId
  readonly token: TokenHash
  readonly principal: string | null
  readonly device: Device
  readonly createdAt: number
  readonly idleTimeout: number
  readonly touchInterval: number
  readonly expiresAt: number
  data: string
  dataVersion: number
  version: number
  lastSeenAt: number
  endedAt: number | undefined
}

const isLive = (held: Held, now: number) =>
  held.endedAt === undefined && now < held.expiresAt && now < held.lastSeenAt + held.idleTimeout + held.touchInterval

const recordOf = (held: Held): SessionRecord => ({
  id: held.id,
  principal: held.principal,
  data: JSON.parse(held.data),
  dataVersion: held.dataVersion,
  version: held.version,
  device: held.device,
  createdAt: DateTime.makeUnsafe(held.createdAt),
  lastSeenAt: DateTime.makeUnsafe(held.lastSeenAt),
  idleExpiresAt: DateTime.makeUnsafe(Math.min(held.lastSeenAt + held.idleTimeout, held.expiresAt)),
  expiresAt: DateTime.makeUnsafe(held.expiresAt)
})

const because = (reason: SessionError["reason"]) => new SessionError({ reason })

/** Reads and writes at one moment, in one go: a fiber may be suspended between two effects, so this is one. */
const step = <A>(body: (now: number) => A | SessionError): Effect.Effect<A, SessionError> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) => {
    const result = body(now)
    return result instanceof SessionError ? Effect.fail(result) : Effect.succeed(result)
  })

/** Makes an empty store. */
export const make = Effect.sync((): SessionStore["Service"] => {
  // In the order of creation, which the cap and the list depend on.
  const sessions = new Map<SessionId.SessionId, Held>()
  const byToken = new Map<TokenHash, Held>()

  const liveOf = (principal: string, now: number) =>
    Array.from(sessions.values()).filter((held) => held.principal === principal && isLive(held, now))

  /** The session if it is live, else why it is not. */
  const find = (held: Held | undefined, now: number): Held | SessionError => {
    if (held === undefined) return because(new SessionMissing())
    if (held.endedAt !== undefined) return because(new SessionRevoked())
    return isLive(held, now) ? held : because(new SessionExpired())
  }

  const create = (session: NewSession) =>
    step((now) => {
      const { device, principal, token } = session
      if (byToken.has(token)) {
        return because(new SessionsUnavailable({ cause: new Error("The token is in use already") }))
      }
      if (principal !== null) {
        const live = liveOf(principal, now)
        const room = Math.max(session.maxPerPrincipal - 1, 0)
        for (const held of live.slice(0, Math.max(live.length - room, 0))) held.endedAt = now
      }
      const held: Held = {
        id: SessionId.make(),
        token,
        principal,
        device: { ...device },
        createdAt: now,
        idleTimeout: Duration.toMillis(session.idleTimeout),
        touchInterval: Duration.toMillis(SessionTimes.touchInterval(session.idleTimeout)),
        expiresAt: now + Duration.toMillis(session.absoluteTimeout),
        data: JSON.stringify(session.data),
        dataVersion: session.dataVersion,
        version: 1,
        lastSeenAt: now,
        endedAt: undefined
      }
      sessions.set(held.id, held)
      byToken.set(token, held)
      return recordOf(held)
    })

  const load = (token: TokenHash) =>
    step((now) => {
      const held = find(byToken.get(token), now)
      if (held instanceof SessionError) return held
      if (held.lastSeenAt + held.touchInterval < now) held.lastSeenAt = now
      return recordOf(held)
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

  const revoke = (id: SessionId.SessionId) =>
    step((now) => {
      const held = sessions.get(id)
      const live = held !== undefined && isLive(held, now)
      if (live) held.endedAt = now
      return live
    })

  const revokeAll: SessionStore["Service"]["revokeAll"] = (principal, options) =>
    step((now) => {
      const live = liveOf(principal, now).filter((held) => held.id !== options?.except)
      for (const held of live) held.endedAt = now
      return live.map(({ id }) => id)
    })

  const list = (principal: string) => step((now) => liveOf(principal, now).toReversed().map(recordOf))

  const ended = (ids: ReadonlyArray<SessionId.SessionId>) =>
    step((now) =>
      ids.filter((id) => {
        const held = sessions.get(id)
        return held === undefined || !isLive(held, now)
      })
    )

  const prune = (limit: number) =>
    step((now) => {
      const age = Duration.toMillis(SessionTimes.tombstoneAge)
      let pruned = 0
      for (const held of sessions.values()) {
        if (pruned >= limit) break
        if ((held.endedAt ?? held.expiresAt) + age >= now) continue
        sessions.delete(held.id)
        byToken.delete(held.token)
        pruned++
      }
      return pruned
    })

  return { create, load, update, revoke, revokeAll, list, ended, prune, ping: Effect.void }
})

/** Sessions in the memory of this process, by Effect's `Clock`; gone with the layer. For tests and for trying things out. */
export const layer: Layer.Layer<SessionStore> = Layer.effect(SessionStore, make)
