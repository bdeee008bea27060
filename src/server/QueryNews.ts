/**
 * Which queries were just submitted, for the streams of their principals in this process.
 *
 * It lives as long as the service and remembers nothing: what nobody listens for is not kept.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { QueryId } from "../query/QueryId.ts"

type Listener = (id: QueryId) => void

export class QueryNews extends Context.Service<
  QueryNews,
  {
    /** Tells a principal's listeners of a query of theirs. */
    readonly submitted: (principal: string, id: QueryId) => void
    /** Listens, until what it answers with is called. A listener must not fail. */
    readonly listen: (principal: string, listener: Listener) => () => void
  }
>()("holdfast/server/QueryNews") {}

export const layer: Layer.Layer<QueryNews> = Layer.effect(
  QueryNews,
  Effect.sync(() => {
    const listeners = new Map<string, Set<Listener>>()
    return QueryNews.of({
      submitted: (principal, id) => {
        for (const listener of listeners.get(principal) ?? []) listener(id)
      },
      listen: (principal, listener) => {
        const theirs = listeners.get(principal) ?? new Set()
        listeners.set(principal, theirs.add(listener))
        return () => {
          theirs.delete(listener)
          if (theirs.size === 0 && listeners.get(principal) === theirs) listeners.delete(principal)
        }
      }
    })
  })
)
