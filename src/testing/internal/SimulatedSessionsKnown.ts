/** What a model knows of sessions, tokens and operations. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { SessionError } from "../../session/SessionError.ts"
import type { SessionId } from "../../session/SessionId.ts"
import type { SessionStore } from "../../session/SessionStore.ts"
import type { SessionToken } from "../../session/SessionToken.ts"
import type { World } from "./SimulatedScenario.ts"

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

/** A session that is seen for the first time. */
export const newlyKnown = (name: string, now: number): Known => ({
  name,
  endedAt: undefined,
  mayEnd: false,
  principal: null,
  marks: new Set(),
  mayMarks: new Set(),
  bornLow: -Infinity,
  bornHigh: Infinity,
  seenLow: -Infinity,
  seenHigh: Infinity,
  peak: now,
  active: 0,
  logins: new Set()
})

export const nobody: Seen["whose"] = new Map()

/** Whose sessions are now. */
export const whose = (all: Iterable<Known>): Seen["whose"] =>
  new Map(Array.from(all, (known) => [known, known.principal] as const))

/** When it is over at the latest, by its idle and its absolute timeout. */
export const latestOf = ({ bornHigh, seenHigh }: Known): number =>
  Math.min(bornHigh + Duration.toMillis(absolute), seenHigh + Duration.toMillis(idle) + touch)

/** Ends sessions of others. */
export const isEnder = ({ kind }: Seen) => kind === "login" || kind === "revokeOthers"

/** Why there was no session. */
export const reasonOf = (exit: Exit.Exit<unknown, SessionError>): SessionError["reason"]["_tag"] | undefined =>
  Option.getOrUndefined(Option.map(Exit.findErrorOption(exit), ({ reason }) => reason._tag))

/** By the earliest times that it may have: those of a login count that nobody has seen return. */
export const mayBeExpired = ({ bornLow, logins, seenLow }: Known, at: number): boolean => {
  const low = Math.min(...Array.from(logins, ({ low }) => low))
  return (
    at >= Math.min(seenLow, low) + Duration.toMillis(idle) || at >= Math.min(bornLow, low) + Duration.toMillis(absolute)
  )
}

/** What holds in the store at any moment. */
export const checkStore = (world: World, store: SessionStore["Service"]): Effect.Effect<void> =>
  Effect.forEach(
    ["alice", "bob"],
    (principal) =>
      Effect.map(Effect.exit(store.list(principal)), (exit) => {
        if (Exit.isSuccess(exit) && exit.value.length > cap)
          world.broke("S8 the cap holds", `${principal} has ${exit.value.length} sessions`)
      }),
    { discard: true }
  )
