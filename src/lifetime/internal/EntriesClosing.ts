/**
 * How a registry ends: short work may end by itself, the rest is cancelled, and what is kept is freed.
 *
 * It is over when everything was released, or at the end of its time; what is left then is stuck and stands in the ledger as
 * `stalled`.
 */
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Semaphore from "effect/Semaphore"
import type * as Ledger from "../Ledger.ts"
import type { Entries } from "./Entries.ts"
import { type Described, type Entry, inParallel } from "./Entry.ts"

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
  /** Held by the fiber that frees already. */
  readonly freeing: Semaphore.Semaphore
  /** Waits until what is over is written, where that takes time. */
  readonly written?: Effect.Effect<void> | undefined
}

/** The part of what is left of the time that ending the work has; the rest is for freeing what is kept. */
const endingShare = 0.8

/** Ends what is in a registry that takes nothing in any more. */
export const close = Effect.fnUntraced(function* <Record extends Described, E extends Entry<Record>>(
  entries: Entries<Record, E>,
  { closeTimeout, drain, freeing, ledger, now, steady, written = Effect.void }: Closing
) {
  const until = steady() + Duration.toMillis(closeTimeout)
  const left = () => Math.max(until - steady(), 0)
  const abandon = (entry: E) =>
    Effect.map(entry.lifetime(), (lifetime) => {
      if (lifetime !== null) ledger.note(lifetime.entry, "stalled")
    })
  yield* Effect.timeoutOption(
    inParallel(entries.all(), (entry) => entry.when(() => entry.isOver || undefined)),
    drain
  )
  yield* Effect.timeoutOption(
    Effect.andThen(
      inParallel(entries.all(), (entry) => entry.end()),
      written
    ),
    left() * endingShare
  )
  yield* inParallel(entries.all(), abandon)
  yield* inParallel([...entries.due(steady()), ...entries.all()], (entry) => entries.forget(entry, now(), left()))
  yield* Effect.timeoutOption(freeing.withPermit(Effect.void), left())
})
