/**
 * How a registry ends: short queries may end by themselves, the others are cancelled, and all rows are freed.
 *
 * It is over when everything was released, or at the end of its time; what is left then is stuck in a driver or a store and
 * stands in the ledger as `stalled`.
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Semaphore from "effect/Semaphore"
import type * as Ledger from "../../lifetime/Ledger.ts"
import type { Entries } from "./QueryRegistryEntries.ts"
import { type Entry, inParallel } from "./QueryRegistryEntry.ts"

/** What closing needs to know of the registry. */
export interface Closing {
  /** For those that end by themselves. */
  readonly drain: Duration.Duration
  /** For all of it. */
  readonly closeTimeout: Duration.Duration
  readonly now: () => DateTime.Utc
  /** Milliseconds of the steady clock. */
  readonly steady: () => number
  readonly ledger: Ledger.Ledger
  /** Held by the fiber that frees rows already. */
  readonly freeing: Semaphore.Semaphore
}

/** The part of what is left of the time that ending queries has; the rest is for freeing rows. */
const endingShare = 0.8

/** Ends what is in a registry that takes nothing in any more. */
export const close = Effect.fnUntraced(function* (
  entries: Entries,
  { closeTimeout, drain, freeing, ledger, now, steady }: Closing
) {
  const until = steady() + Duration.toMillis(closeTimeout)
  const left = () => Math.max(until - steady(), 0)
  const abandon = (entry: Entry) =>
    Effect.map(entry.lifetime(), (lifetime) => {
      if (lifetime !== null) ledger.note(lifetime.entry, "stalled")
    })
  yield* Effect.timeoutOption(
    inParallel(entries.all(), (entry) => entry.when(() => entry.isOver || undefined)),
    drain
  )
  yield* Effect.timeoutOption(
    inParallel(entries.all(), (entry) => entry.end()),
    left() * endingShare
  )
  yield* inParallel(entries.all(), abandon)
  yield* inParallel([...entries.due(steady()), ...entries.all()], (entry) => entries.forget(entry, now(), left()))
  yield* Effect.timeoutOption(freeing.withPermit(Effect.void), left())
})
