/**
 * Who waits for news of which query. It lives as long as the journal.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { QueryId } from "../../query/QueryId.ts"

const isId = Schema.is(QueryId)

/** What a notification says. Others may notify, too: what is none of ours says nothing. */
export interface Said {
  readonly changed: ReadonlyArray<QueryId>
  readonly canceled: ReadonlyArray<QueryId>
  /** Whether an instance has come. */
  readonly isJoined: boolean
  /** Whether somebody has asked all instances something. */
  readonly isAsked: boolean
}

export const parse = (payload: string): Said => {
  const [what, ...ids] = payload.split(" ")
  const known = ids.filter((id) => isId(id))
  return {
    changed: what === "n" ? known : [],
    canceled: what === "c" ? known : [],
    isJoined: what === "j",
    isAsked: what === "q"
  }
}

type Listener = Deferred.Deferred<void>

export const make = () => {
  const listeners = new Map<QueryId, Set<Listener>>()
  const tell = (id: QueryId) => {
    for (const listener of listeners.get(id) ?? []) Deferred.doneUnsafe(listener, Exit.void)
  }
  return {
    tell,
    tellAll: () => {
      for (const id of listeners.keys()) tell(id)
    },
    /** Listens from now on; the effect within returns when there is news. */
    of: (id: QueryId) =>
      Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => {
            const listener: Listener = Deferred.makeUnsafe()
            const all = listeners.get(id) ?? new Set()
            listeners.set(id, all.add(listener))
            return listener
          }),
          (listener) =>
            Effect.sync(() => {
              const all = listeners.get(id)
              all?.delete(listener)
              if (all?.size === 0) listeners.delete(id)
            })
        ),
        (listener) => Deferred.await(listener)
      )
  }
}
