/**
 * Turns of the event loop for work whose size is somebody else's choice.
 *
 * The loop belongs to the process, and so does the account: in one turn all long work together gets a few milliseconds. Who
 * comes later waits for a turn to come, first come, first served; between two turns everybody else's input is read and
 * answered.
 *
 * **Details**
 *
 * Work is cut into slices of a millisecond or two at most. Before each slice {@link next} is asked, or {@link isSpent} within a
 * loop. While nobody else works, `next` waits for nothing.
 */
import * as Effect from "effect/Effect"

/** What all slices of one turn may take together. */
const turnMillis = 4

/** When the first slice of this turn began. */
let begun: number | undefined

/** In the order in which they came. */
const waiting = new Set<() => void>()

const enter = (): boolean => {
  const now = performance.now()
  if (begun !== undefined) return now - begun < turnMillis
  begun = now
  setImmediate(turn)
  return true
}

const turn = (): void => {
  begun = undefined
  for (const resume of waiting) {
    if (!enter()) return
    waiting.delete(resume)
    resume()
  }
}

/** Whether the turn has had what it may: the slice ends here, and {@link next} is asked before the following one. */
export const isSpent = (): boolean => begun === undefined || performance.now() - begun >= turnMillis

/** Returns when a slice may begin, which is at once where the turn has time left. */
export const next: Effect.Effect<void> = Effect.suspend(() =>
  waiting.size === 0 && enter()
    ? Effect.void
    : Effect.callback<void>((resume) => {
        const go = () => resume(Effect.void)
        waiting.add(go)
        if (begun === undefined) {
          begun = performance.now()
          setImmediate(turn)
        }
        return Effect.sync(() => waiting.delete(go))
      })
)

/** Runs work to its end, slice by slice: what it yields is a place where it may be cut. */
export const run = <A>(work: Iterator<unknown, A>): Effect.Effect<A> => {
  const slice: Effect.Effect<A> = Effect.andThen(
    next,
    Effect.suspend(() => {
      for (let step = work.next(); ; step = work.next()) {
        if (step.done === true) return Effect.succeed(step.value)
        if (isSpent()) return slice
      }
    })
  )
  return slice
}
