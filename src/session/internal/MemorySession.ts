/**
 * A session and its tokens as `MemorySessionStore` holds them. Moments and durations are in milliseconds.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as SessionId from "../SessionId.ts"
import type { Device, SessionRecord } from "../SessionRecord.ts"
import type { Limits } from "../SessionStore.ts"
import * as SessionTimes from "../SessionTimes.ts"
import type { TokenHash } from "../SessionToken.ts"

/** How many hints a reader of `ended` may be behind. A room for as many is made at once. Default: 16,384. */
export const Hints = Context.Reference("holdfast/session/MemorySession/Hints", { defaultValue: () => 16_384 })

/** A session as it is held. The data is JSON text, so that nobody shares an object with the store. */
export interface Held {
  readonly id: SessionId.SessionId
  principal: string | null
  actor: string | null
  device: Device
  createdAt: number
  idleTimeout: number
  touchInterval: number
  renewEvery: number
  expiresAt: number
  data: string
  dataVersion: number
  version: number
  lastSeenAt: number
  endedAt: number | undefined
  /** It was past its time when it was ended, and stays expired, whatever the clock says later. */
  isExpired: boolean
}

/** A token of a session. It has a predecessor until it is presented, and a successor once it was renewed. */
export interface Token {
  readonly session: Held
  readonly issuedAt: number
  readonly nonce: string
  predecessor: Token | undefined
  successor: TokenHash | undefined
  validUntil: number
}

export const expiryOf = (limits: Pick<Limits, "idleTimeout" | "absoluteTimeout">, now: number) => ({
  idleTimeout: Duration.toMillis(limits.idleTimeout),
  touchInterval: Duration.toMillis(SessionTimes.touchInterval(limits.idleTimeout)),
  expiresAt: now + Duration.toMillis(limits.absoluteTimeout)
})

export const timesOf = (limits: Limits, now: number) => ({
  ...expiryOf(limits, now),
  createdAt: now,
  lastSeenAt: now,
  renewEvery: Duration.toMillis(limits.renewEvery)
})

export const isLive = (held: Held, now: number) =>
  held.endedAt === undefined && now < held.expiresAt && now < held.lastSeenAt + held.idleTimeout + held.touchInterval

export const recordOf = (held: Held, renewalNonce: string | null = null): SessionRecord => ({
  id: held.id,
  principal: held.principal,
  actor: held.actor,
  data: JSON.parse(held.data),
  dataVersion: held.dataVersion,
  version: held.version,
  device: { ...held.device },
  createdAt: DateTime.makeUnsafe(held.createdAt),
  lastSeenAt: DateTime.makeUnsafe(held.lastSeenAt),
  idleExpiresAt: DateTime.makeUnsafe(Math.min(held.lastSeenAt + held.idleTimeout, held.expiresAt)),
  expiresAt: DateTime.makeUnsafe(held.expiresAt),
  renewalNonce
})
