/**
 * Writes down what happens in the ledger, and checks that nothing is left in it.
 *
 * A recording begins when it is made and ends with the scope it was made in.
 */
import * as Effect from "effect/Effect"
import * as Ledger from "../lifetime/Ledger.ts"

/** What was recorded so far. */
export interface LedgerRecorder {
  readonly changes: () => ReadonlyArray<Ledger.Change>
  /** `kind event` of everything that happened to or under the first entry of this kind, in order. */
  readonly story: (kind: string) => ReadonlyArray<string>
}

/** Starts recording the ledger in context. */
export const make = Effect.gen(function* () {
  const ledger = yield* Ledger.Ledger
  const changes: Array<Ledger.Change> = []
  yield* Effect.acquireRelease(
    Effect.sync(() => ledger.subscribe((change) => changes.push(change))),
    (unsubscribe) => Effect.sync(unsubscribe)
  )
  return {
    changes: () => changes,
    story: (kind) => {
      const root = changes.find((change) => change.kind === kind)?.key
      const family = new Set<number | undefined>([root])
      for (const { key, parent } of changes) if (parent !== undefined && family.has(parent)) family.add(key)
      return changes.filter(({ key }) => family.has(key)).map(({ event, kind }) => `${kind} ${event}`)
    }
  } satisfies LedgerRecorder
})

/** Fails with what is still held, or was not released as often as it was acquired. `except` names kinds to leave out. */
export const assertEmpty = (options?: { readonly except?: ReadonlyArray<string> | undefined }) =>
  Effect.gen(function* () {
    const ledger = yield* Ledger.Ledger
    const except = options?.except ?? []
    const held = (yield* ledger.holdings).filter(({ kind }) => !except.includes(kind))
    const uneven = Array.from(yield* ledger.totals).filter(
      ([kind, { acquired, released }]) => !except.includes(kind) && acquired !== released
    )
    if (held.length > 0 || uneven.length > 0) {
      return yield* Effect.die(
        new Error(
          `The ledger is not empty. Held: ${JSON.stringify(held)}; acquired ≠ released: ${JSON.stringify(uneven)}. ` +
            "Something was acquired outside of a scope that has closed."
        )
      )
    }
  })
