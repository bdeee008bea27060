/**
 * The sessions that somebody holds in this process: their lifetimes, and how their ends are begun.
 *
 * An entry lives from the first hold of its session until nobody holds it and nothing runs in it any more. All of them are in the
 * scope that is given, and end with it.
 *
 * **Details**
 *
 * An end is begun by the caller that asks for it, or, for ends elsewhere, by what is heard or polled. What is heard is only
 * believed when the store says so, too.
 */
import * as Arr from "effect/Array"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import * as Lifetime from "../../lifetime/Lifetime.ts"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import { SessionError, SessionRevoked, SessionsUnavailable } from "../SessionError.ts"
import type { SessionId } from "../SessionId.ts"
import type { SessionRecord } from "../SessionRecord.ts"
import type { Ended, SessionStore } from "../SessionStore.ts"
import { longestLoad, type RecentSessions } from "./RecentSessions.ts"

/** A live session, as it was when it was opened, with the lifetime that work can be tied to. It is held until the scope closes that it was opened in. */
export interface OpenSession {
  readonly record: SessionRecord
  readonly lifetime: Lifetime.Lifetime
}

/** How many sessions the store is asked about at once. */
const asked = 1000

const revoked = Effect.fail(new SessionError({ reason: new SessionRevoked({}) }))

const closed = Effect.fail(
  new SessionError({
    reason: new SessionsUnavailable({ cause: new Error("The sessions of this process are closed: it shuts down.") })
  })
)

/** How many hints about sessions that nobody holds here are remembered, for a request that has loaded one and is about to. */
const remembered = 4096

/** An end that a caller here has asked the store for, and what was heard meanwhile of the sessions that it may end. */
interface RequestedEnd {
  readonly ends: (id: SessionId) => boolean
  readonly heard: Array<SessionId>
}

type OnEnd = Lifetime.Holding["onEnd"]
type Held = Effect.Effect<OpenSession, SessionError, Scope.Scope>

/** Makes the map of a process over a store. */
export const make = (
  store: SessionStore["Service"],
  scope: Scope.Scope,
  clock: Clock.Clock,
  recent: RecentSessions | undefined
) => {
  const entries = new Map<SessionId, Lifetime.Lifetime>()
  const endedAt = new Map<SessionId, number>()
  const hinted = new Set<SessionId>()

  // One function for all: a closure of each would be most of what an entry costs.
  const forget = (lifetime: Lifetime.Lifetime) => {
    const id = lifetime.entry.id as SessionId
    if (entries.get(id) === lifetime) entries.delete(id)
  }

  const entryOf = ({ id, principal }: SessionRecord, fiber: Fiber.Fiber<unknown, unknown>): Lifetime.Lifetime => {
    const known = entries.get(id)
    if (known !== undefined) return known
    const made = Lifetime.makeUnsafe(
      scope,
      {
        kind: "session",
        id,
        attributes: principal === null ? undefined : { principal },
        release: "parallel",
        endWithLastChild: true,
        onEnded: forget
      },
      fiber
    )
    entries.set(id, made)
    return made
  }

  // A handle holds the session, so it cannot go while a request has it: looked at and held in one step. One that is just going
  // is waited for, and the next entry is tried.
  const hold = (record: SessionRecord, onEnd: OnEnd): Held =>
    Effect.uninterruptibleMask((restore) =>
      Effect.withFiber((fiber) => {
        const { id } = record
        if (endedAt.has(id)) return revoked
        if (scope.state._tag === "Closed") return closed
        const lifetime = entryOf(record, fiber)
        if (lifetime.isEnding()) return restore(Effect.andThen(lifetime.ended, hold(record, onEnd)))
        const opened: OpenSession = { record, lifetime }
        const held = Effect.as(Lifetime.holdUnsafe(lifetime, { kind: "handle", id, onEnd }, fiber), opened)
        // Loaded before the end and held after the hint: nobody would ask before the next poll.
        return hinted.delete(id) ? Effect.tap(held, Effect.forkIn(ask([id]), scope)) : held
      })
    )

  /** Begins the end of a session here; the effect within waits for it. */
  const close = (id: SessionId): Effect.Effect<Effect.Effect<void>> =>
    Effect.suspend(() => {
      // Not the time of day, which somebody may set.
      const now = SteadyClock.millis(clock)
      // The oldest comes first, so that ten thousand ends at once do not look through each other.
      for (const [id, at] of endedAt) {
        if (at >= now - longestLoad) break
        endedAt.delete(id)
      }
      endedAt.delete(id)
      endedAt.set(id, now)
      recent?.changed(id)
      const lifetime = entries.get(id)
      return lifetime === undefined ? Effect.succeed(Effect.void) : Effect.as(lifetime.begin(), lifetime.end())
    })

  const closeAll = (ids: ReadonlyArray<SessionId>) =>
    Effect.map(Effect.forEach(ids, close), (ends) => Effect.all(ends, { concurrency: "unbounded", discard: true }))

  const requested = new Set<RequestedEnd>()
  /**
   * Ends sessions because a caller here asks for it. News of the same end may be faster than the store's answer; the end is begun
   * by the caller all the same, so that a request that ends its own session is known as the one that does.
   */
  const request = <A>(
    ends: (id: SessionId) => boolean,
    asked: Effect.Effect<A, SessionError>,
    of: (answer: A) => ReadonlyArray<SessionId>
  ) =>
    Effect.suspend(() => {
      const own: RequestedEnd = { ends, heard: [] }
      requested.add(own)
      const heard = Effect.suspend(() => {
        requested.delete(own)
        return closeAll(own.heard)
      })
      return Effect.ensuring(asked, heard).pipe(
        Effect.flatMap((answer) => Effect.map(closeAll(of(answer)), (over) => ({ answer, over }))),
        Effect.uninterruptible
      )
    })
  const closeHeard = (ids: ReadonlyArray<SessionId>) => {
    if (requested.size === 0) return closeAll(ids)
    const ends = Array.from(requested)
    return closeAll(
      ids.filter((id) => {
        const own = ends.find((one) => one.ends(id))
        own?.heard.push(id)
        return own === undefined
      })
    )
  }

  /** Ends here those of these sessions that are over. */
  const ask = (ids: ReadonlyArray<SessionId>) =>
    Effect.forEach(
      Arr.chunksOf(ids, asked),
      (chunk) => Effect.flatMap(Effect.retry(store.endedOf(chunk), { times: 2 }), closeHeard),
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
    if (hints.some(({ _tag }) => _tag === "Unknown")) {
      recent?.allChanged()
      return poll
    }
    const ids = new Set(hints.flatMap((hint) => (hint._tag === "Session" ? [hint.id] : [])))
    for (const id of ids) {
      recent?.changed(id)
      if (!entries.has(id)) remember(id)
    }
    return ask(Array.from(ids).filter((id) => entries.has(id)))
  }

  return {
    closeAll,
    hear,
    hold,
    open: (load: Effect.Effect<SessionRecord, SessionError>, onEnd: OnEnd) =>
      Effect.flatMap(load, (record) => hold(record, onEnd)),
    poll,
    request
  }
}
