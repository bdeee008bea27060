/**
 * Writes states on the way of a query, where they last: most queries are over before that is worth a statement.
 *
 * It lives as long as its scope.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import type { QueryId } from "../../query/QueryId.ts"
import type { Claim } from "../../query/QueryJournal.ts"
import type { QueryRecord } from "../../query/QueryRecord.ts"
import * as QueryState from "../../query/QueryState.ts"

/** How long a state lasts before it is written, and how often that is looked at, in milliseconds. */
const lasting = 25
const looking = 40

interface Note {
  readonly claim: Claim
  readonly record: () => QueryRecord
  readonly at: number
}

/** Over what writes a record. */
export const make = Effect.fnUntraced(function* (write: (claim: Claim, record: QueryRecord) => Effect.Effect<boolean>) {
  const clock = yield* Clock.Clock
  const notes = new Map<QueryId, Note>()
  const some = Latch.makeUnsafe(false)
  const scope = yield* Effect.scope

  const sweep = Effect.gen(function* () {
    yield* some.await
    yield* Effect.sleep(looking)
    const due = SteadyClock.millis(clock) - lasting
    for (const [id, { at, claim, record }] of notes) {
      if (at > due) continue
      notes.delete(id)
      const current = record()
      // An outcome is written by itself.
      if (!QueryState.isTerminal(current.state)) yield* Effect.forkIn(write(claim, current), scope)
    }
    if (notes.size === 0) some.closeUnsafe()
  })
  yield* Effect.forkScoped(Effect.forever(sweep))

  return {
    note: (claim: Claim, record: () => QueryRecord): void => {
      notes.set(claim.id, { claim, record, at: SteadyClock.millis(clock) })
      some.openUnsafe()
    },
    forget: (id: QueryId): void => void notes.delete(id)
  }
})
