/**
 * Sessions that this process loaded a moment ago, for an app that has declared how old an answer may be.
 *
 * A session is kept here for the declared time, from the moment that the store was asked. It is given up before, when this process
 * changes the session or hears of its end; a change that another process makes shows when the time is over.
 *
 * **Details**
 *
 * A request that is answered from here counts as activity: if no load of the same token follows, the store is told afterwards, so a
 * session never expires early. What the store could call over within the time is not kept.
 */
import type * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import type { SessionError } from "../SessionError.ts"
import type { SessionId } from "../SessionId.ts"
import type { SessionRecord } from "../SessionRecord.ts"
import type { SessionStore } from "../SessionStore.ts"
import type { TokenHash } from "../SessionToken.ts"
import * as SessionMemory from "./SessionMemory.ts"
import * as SessionTimes from "../SessionTimes.ts"

/** A session as it was at a moment, in milliseconds of a steady clock, and until when that may be told. */
interface Recent {
  readonly record: SessionRecord
  readonly at: number
  readonly until: number
}

/** How many bytes of sessions are kept, about. */
const maxBytes = 16 * 1024 * 1024

/** Longer than any load can take, in milliseconds. */
export const longestLoad = Duration.toMillis(Duration.minutes(1))

/** Of how many sessions it is known that they changed; beyond that, all are taken to have changed. */
const maxChanged = 10_000

export class RecentSessions {
  private readonly load: (token: TokenHash) => Effect.Effect<SessionRecord, SessionError>
  private readonly now: () => number
  private readonly millis: number
  private readonly memory: SessionMemory.SessionMemory<Recent>
  /** When a session, or the one of a token, was changed here last, the oldest first. */
  private readonly changedAt = new Map<SessionId | TokenHash, number>()
  private allChangedAt = -1
  /** The tokens that were presented without the store's knowledge. */
  private readonly owed = new Map<TokenHash, number>()

  constructor(
    load: (token: TokenHash) => Effect.Effect<SessionRecord, SessionError>,
    clock: Clock.Clock,
    staleness: Duration.Duration
  ) {
    this.load = load
    this.now = () => SteadyClock.millis(clock)
    this.millis = Duration.toMillis(staleness)
    this.memory = SessionMemory.make(maxBytes, this.now, this.millis)
  }

  /** The session of a token, if it was loaded lately. */
  find(token: TokenHash): SessionRecord | undefined {
    const known = this.memory.get(token)
    if (known === undefined || known.until <= this.now() || this.isChanged(token, known)) return undefined
    if (!this.owed.has(token)) this.owed.set(token, known.at)
    return known.record
  }

  private isChanged(token: TokenHash, { at, record }: Recent): boolean {
    return (
      at <= this.allChangedAt || at <= (this.changedAt.get(record.id) ?? -1) || at <= (this.changedAt.get(token) ?? -1)
    )
  }

  /** Loads the session of a token, and keeps it. */
  fresh(token: TokenHash): Effect.Effect<SessionRecord, SessionError> {
    return Effect.suspend(() => {
      const at = this.now()
      return Effect.map(this.load(token), (record) => {
        this.owed.delete(token)
        const kept = Math.min(this.millis, certainMillis(record))
        if (kept > 0) this.memory.put(token, { record, at, until: at + kept }, JSON.stringify(record.data).length)
        return record
      })
    })
  }

  /** What was loaded of a session, or of the one of a token, is not told any more. */
  changed(one: SessionId | TokenHash): void {
    this.changedAt.delete(one)
    this.changedAt.set(one, this.now())
    if (this.changedAt.size > maxChanged) this.allChanged()
  }

  /** Nothing that was loaded is told any more. */
  allChanged(): void {
    this.allChangedAt = this.now()
    this.changedAt.clear()
  }

  /** The store, as this process changes sessions in it: what it changes is not told any more. */
  watching(store: SessionStore["Service"]): SessionStore["Service"] {
    const changing =
      <C, A>(
        change: (input: C) => Effect.Effect<A, SessionError>,
        before: (input: C) => SessionId | TokenHash,
        after: (answer: A) => SessionId
      ) =>
      (input: C) =>
        // Also when the answer is lost.
        Effect.onExit(change(input), (exit) =>
          Effect.sync(() => {
            this.changed(before(input))
            if (Exit.isSuccess(exit)) this.changed(after(exit.value))
          })
        )
    const id = (record: SessionRecord) => record.id
    return {
      ...store,
      update: changing(store.update, (update) => update.id, id),
      setExpiry: changing(store.setExpiry, (expiry) => expiry.id, id),
      renew: changing(store.renew, ({ token }) => token, id),
      rotate: changing(store.rotate, ({ token }) => token, id),
      authenticate: changing(
        store.authenticate,
        ({ token }) => token,
        ({ record }) => record.id
      )
    }
  }

  /** Tells the store of the activity that it does not know of. Run it again and again, and at the end. */
  readonly settle: Effect.Effect<void> = Effect.suspend(() => {
    const now = this.now()
    for (const [one, at] of this.changedAt) {
      if (now - at <= longestLoad + this.millis) break
      this.changedAt.delete(one)
    }
    // A client that goes on is about to load its session anyway.
    const over = Array.from(this.owed).filter(([, at]) => now - at > 2 * this.millis)
    return this.tell(over.map(([token]) => token))
  })

  readonly settleAll: Effect.Effect<void> = Effect.suspend(() => this.tell(Array.from(this.owed.keys())))

  private tell(tokens: ReadonlyArray<TokenHash>): Effect.Effect<void> {
    for (const token of tokens) this.owed.delete(token)
    return Effect.forEach(tokens, (token) => Effect.ignore(this.load(token)), {
      concurrency: "unbounded",
      discard: true
    })
  }
}

/**
 * For how long a session that was just loaded cannot be over by its times, in milliseconds. The store's clock is not told, but the
 * session was last seen a touch interval before the load at most.
 */
const certainMillis = ({ expiresAt, idleExpiresAt, lastSeenAt }: SessionRecord): number => {
  const left = Math.min(DateTime.toEpochMillis(expiresAt), DateTime.toEpochMillis(idleExpiresAt))
  const idle = left - DateTime.toEpochMillis(lastSeenAt)
  return Math.min(
    idle * (1 - 1 / SessionTimes.touchShare),
    DateTime.toEpochMillis(expiresAt) -
      DateTime.toEpochMillis(lastSeenAt) -
      Duration.toMillis(SessionTimes.longestTouchInterval)
  )
}
