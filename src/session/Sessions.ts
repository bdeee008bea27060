/**
 * The sessions that hold something in this process, each with a lifetime of its own.
 *
 * A session has an entry here from the first {@link Sessions.open} until nobody holds it and nothing runs in it any more;
 * most sessions of an app have none most of the time. When a session ends, here or anywhere, its lifetime ends: its fibers
 * are interrupted, its queries cancelled, their connections released, and whoever asked for the end waits for all of it.
 *
 * ```
 * session ──┬── handle (a request)
 *           ├── fiber (session.run)
 *           └── query ── connection ── statement
 * ```
 *
 * **Details**
 *
 * The store is the truth. The ends that happen elsewhere are found by asking it about the sessions held here every
 * `pollInterval`; a store that cannot be reached ends nothing.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Lifetime from "../Lifetime.ts"
import { SessionError, SessionRevoked } from "./SessionError.ts"
import type { SessionId } from "./SessionId.ts"
import type { SessionRecord } from "./SessionRecord.ts"
import { type NewSession, SessionStore } from "./SessionStore.ts"
import * as SessionToken from "./SessionToken.ts"

/** A live session, as it was when it was opened, with the lifetime that work can be tied to. */
export interface OpenSession {
  readonly record: SessionRecord
  readonly lifetime: Lifetime.Lifetime
}

/** A session that was just created. The token is for the client and nobody else. */
export interface CreatedSession {
  readonly record: SessionRecord
  readonly token: SessionToken.SessionToken
}

export class Sessions extends Context.Service<
  Sessions,
  {
    readonly create: (session: Omit<NewSession, "token">) => Effect.Effect<CreatedSession, SessionError>
    /** Loads the session of a token and holds it until the scope closes. Counts as activity. */
    readonly open: (token: SessionToken.SessionToken) => Effect.Effect<OpenSession, SessionError, Scope.Scope>
    /** Ends the session of a token and waits, as `end` does. Fails like a load where there is none. */
    readonly logout: (token: SessionToken.SessionToken) => Effect.Effect<void, SessionError>
    /** Revokes a session and waits until everything it held in this process is released. */
    readonly end: (id: SessionId) => Effect.Effect<void, SessionError>
  }
>()("holdfast/session/Sessions") {}

/** How the ends of sessions are found. */
export interface Options {
  /** How often the store is asked about the sessions held here. Default: 10 seconds. */
  readonly pollInterval?: Duration.Input | undefined
}

/** Longer than any load can take: one that began before an end must not bring the session back here. */
const rememberEndsFor = Duration.minutes(1)

const revoked = Effect.fail(new SessionError({ reason: new SessionRevoked({}) }))

/** Makes the map; all sessions in it end with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const store = yield* SessionStore
  const scope = yield* Scope.fork(yield* Effect.scope, "parallel")
  const clock = yield* Clock.Clock
  const entries = new Map<SessionId, Lifetime.Lifetime>()
  const endedAt = new Map<SessionId, number>()

  const entryOf = (id: SessionId): Effect.Effect<Lifetime.Lifetime> =>
    Effect.suspend(() => {
      const known = entries.get(id)
      if (known !== undefined) return Effect.succeed(known)
      const made = Lifetime.make(scope, {
        kind: "session",
        id,
        release: "parallel",
        endWithLastChild: true,
        onEnded: (lifetime) => entries.get(id) === lifetime && entries.delete(id)
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
  const hold = (record: SessionRecord): Effect.Effect<OpenSession, SessionError, Scope.Scope> =>
    Effect.gen(function* () {
      if (endedAt.has(record.id)) return yield* revoked
      const lifetime = yield* entryOf(record.id)
      const handle = yield* Lifetime.child(lifetime, { kind: "handle", id: record.id })
      // The end may have come while the entry was being made.
      if (endedAt.has(record.id)) {
        yield* lifetime.begin()
        return yield* revoked
      }
      if (lifetime.isEnding()) {
        yield* lifetime.ended
        return yield* hold(record)
      }
      yield* Effect.addFinalizer(handle.end)
      return { record, lifetime }
    })

  /** Begins the end of a session here; the effect within waits for it. */
  const close = (id: SessionId): Effect.Effect<Effect.Effect<void>> =>
    Effect.suspend(() => {
      const now = clock.currentTimeMillisUnsafe()
      for (const [id, at] of endedAt) if (at < now - Duration.toMillis(rememberEndsFor)) endedAt.delete(id)
      endedAt.set(id, now)
      const lifetime = entries.get(id)
      return lifetime === undefined ? Effect.succeed(Effect.void) : Effect.as(lifetime.begin(), lifetime.end())
    })

  // What is revoked in the store ends here too, also when the caller is gone; the waiting can be given up.
  const end = (id: SessionId) => Effect.flatten(Effect.uninterruptible(Effect.andThen(store.revoke(id), close(id))))

  const poll = Effect.suspend(() =>
    entries.size === 0 ? Effect.succeed([]) : store.ended(Array.from(entries.keys()))
  ).pipe(
    Effect.flatMap((ids) => Effect.forEach(ids, close, { discard: true })),
    Effect.catchCause((cause) => Effect.logDebug("The session store could not be asked which sessions ended", cause))
  )
  yield* Effect.forkScoped(Effect.repeat(poll, Schedule.spaced(options.pollInterval ?? "10 seconds")))

  return Sessions.of({
    create: (session) =>
      Effect.suspend(() => {
        const token = SessionToken.make()
        return Effect.map(store.create({ ...session, token: SessionToken.hash(token) }), (record) => ({
          record,
          token
        }))
      }),
    open: (token) =>
      Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(store.load(SessionToken.hash(token))), (record) => hold(record))
      ),
    logout: (token) => Effect.flatMap(store.load(SessionToken.hash(token)), ({ id }) => end(id)),
    end
  })
})

/** The sessions of this process, over the store in context. */
export const layer = (options?: Options): Layer.Layer<Sessions, never, SessionStore> =>
  Layer.effect(Sessions, make(options))
