/** What a model knows of sessions, tokens and operations. */
import * as Duration from "effect/Duration"
import type * as Option from "effect/Option"
import type { SessionId } from "../../session/SessionId.ts"
import type { SessionToken } from "../../session/SessionToken.ts"

/** The limits of the sessions. */
export const idle = Duration.minutes(30)
export const absolute = Duration.hours(2)
export const renewEvery = Duration.minutes(5)
export const cap = 2
/** The touch interval in milliseconds. */
export const touch = 60_000

/** What is known of a session. Times are those of the store's clock. */
export interface Known {
  /** In the report: the number in which it was seen first. */
  readonly name: string
  /** When its end had returned: the tick. */
  endedAt: number | undefined
  /** Whether somebody has begun to end it, or to log in where it may have to make room. */
  mayEnd: boolean
  principal: string | null
  /** Marks whose change has returned. */
  readonly marks: Set<number>
  readonly mayMarks: Set<number>
  bornLow: number
  bornHigh: number
  seenLow: number
  seenHigh: number
  /** The highest time of day since it was certainly seen: somebody may have written down then that it was over. */
  peak: number
  /** Operations on it that are under way. */
  active: number
  /** Logins in it of which nobody has said that they failed before the store: its times may have begun anew with each. */
  readonly logins: Set<Seen>
}

/** What is known of a token. */
export interface Held {
  readonly known: Known
  readonly id: SessionId
  /** The tick at which something that kills it at once had returned. */
  deadAt: number | undefined
  mayBeDead: boolean
}

/** One operation, from its beginning. */
export interface Seen {
  readonly kind: string
  readonly tick: number
  readonly token: Option.Option<SessionToken>
  readonly held: Held | undefined
  readonly faults: number
  /** The lowest and the highest time of day since it began. */
  low: number
  high: number
  /** Marks that must be in what it reads. */
  readonly must: ReadonlyMap<Known, ReadonlySet<number>>
  /** Where it revokes others: whose the sessions were when it began. */
  readonly whose: ReadonlyMap<Known, string | null>
  issued: SessionToken | undefined
  known: Known | undefined
}
