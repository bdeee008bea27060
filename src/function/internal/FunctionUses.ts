/**
 * Which functions are executed here, for whom.
 *
 * A use is a lifetime under that of a session, with the executions of one function in it. It lives as long as it holds some.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Lifetime from "../../lifetime/Lifetime.ts"
import type { FunctionId } from "../FunctionId.ts"

/** A function that a session executes, or nobody's session. */
export interface Use {
  readonly lifetime: Lifetime.Lifetime
  /** Whether the function was ended, and its executions with it. */
  readonly isEnded: () => boolean
}

interface Kept extends Use {
  ended: boolean
}

/** Makes the uses of an engine; those without a session are in a scope of its own. */
export const make = (scope: Scope.Scope) => {
  const uses = new Map<FunctionId, Map<Lifetime.Lifetime | undefined, Kept>>()

  const forget = (id: FunctionId, owner: Lifetime.Lifetime | undefined, use: Kept | undefined) => {
    const theirs = uses.get(id)
    if (theirs?.get(owner) !== use) return
    theirs?.delete(owner)
    if (theirs?.size === 0) uses.delete(id)
  }

  /** The use of a function for a session, which an execution begins in, at once. */
  const enter = (id: FunctionId, owner: Lifetime.Lifetime | undefined): Effect.Effect<Use> =>
    Effect.suspend(() => {
      const theirs = uses.get(id) ?? new Map<Lifetime.Lifetime | undefined, Kept>()
      const known = theirs.get(owner)
      if (known !== undefined) return Effect.succeed(known)
      let use: Kept | undefined
      const options: Lifetime.Options = {
        kind: "function",
        id,
        release: "parallel",
        endWithLastChild: true,
        onEnding: () => forget(id, owner, use)
      }
      return Effect.map(
        owner === undefined ? Lifetime.make(scope, options) : Lifetime.child(owner, options),
        (lifetime) => {
          const made: Kept = { lifetime, ended: false, isEnded: () => made.ended }
          use = made
          if (!lifetime.isEnding()) {
            theirs.set(owner, made)
            uses.set(id, theirs)
          }
          return made
        }
      )
    })

  /** Ends all that is executed of a function, and waits for it. */
  const end = (id: FunctionId): Effect.Effect<void> =>
    Effect.suspend(() =>
      Effect.forEach(
        Array.from(uses.get(id)?.values() ?? []),
        (use) => {
          use.ended = true
          return use.lifetime.end()
        },
        { concurrency: "unbounded", discard: true }
      )
    )

  return { enter, end, ids: (): ReadonlyArray<FunctionId> => Array.from(uses.keys()) }
}
