/**
 * What the requests of a session find out about it, for the other requests of the same session in this process.
 *
 * It lives as long as the {@link Sessions} that it is put around, and remembers nothing: a record that nobody listens for is not
 * kept. What other instances find out is in the store.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { SessionId } from "../../session/SessionId.ts"
import type { SessionRecord } from "../../session/SessionRecord.ts"
import { Sessions } from "../../session/Sessions.ts"

export class SessionNews extends Context.Service<
  SessionNews,
  {
    /** Listens until the scope closes. A slow listener finds the latest record only. */
    readonly listen: (id: SessionId) => Effect.Effect<Queue.Dequeue<SessionRecord>, never, Scope.Scope>
  }
>()("holdfast/http/internal/SessionNews") {}

/** The sessions in context, and what becomes known of them. */
export const layer: Layer.Layer<SessionNews | Sessions, never, Sessions> = Layer.effectContext(
  Effect.map(Sessions, (sessions) => {
    const listeners = new Map<SessionId, Set<Queue.Queue<SessionRecord>>>()

    const tell = (record: SessionRecord): void => {
      if (listeners.size === 0) return
      for (const queue of listeners.get(record.id) ?? []) Queue.offerUnsafe(queue, record)
    }
    const told = <A, E, R>(known: Effect.Effect<A, E, R>, recordOf: (found: A) => SessionRecord) =>
      Effect.map(known, (found) => {
        tell(recordOf(found))
        return found
      })
    const itself = (record: SessionRecord) => record

    const listen = (id: SessionId) =>
      Effect.acquireRelease(
        Effect.map(Queue.sliding<SessionRecord>(1), (queue) => {
          const theirs = listeners.get(id) ?? new Set()
          listeners.set(id, theirs.add(queue))
          return queue
        }),
        (queue) =>
          Effect.sync(() => {
            const theirs = listeners.get(id)
            theirs?.delete(queue)
            if (theirs?.size === 0) listeners.delete(id)
          })
      )

    return Context.make(SessionNews, SessionNews.of({ listen })).pipe(
      Context.add(
        Sessions,
        Sessions.of({
          ...sessions,
          open: (token) => told(sessions.open(token), ({ record }) => record),
          renew: (token, next) => told(sessions.renew(token, next), itself),
          authenticate: (token, login) => told(sessions.authenticate(token, login), ({ record }) => record),
          setExpiry: (expiry) => told(sessions.setExpiry(expiry), itself)
        })
      )
    )
  })
)
