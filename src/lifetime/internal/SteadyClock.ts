/**
 * Time that nobody sets, for spans: the time of day goes on or back when somebody sets the clock of the machine.
 *
 * A steady clock holds nothing and lives as long as somebody looks at it.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Milliseconds since a moment that nobody knows: only the difference of two means something. */
export const millis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/**
 * A clock whose time of day goes on from that of another, but is never set: for parts of Effect that measure spans by it.
 *
 * **Gotchas**
 *
 * What is a moment, such as since when something is held, is another clock's to say.
 */
export const from = (clock: Clock.Clock): Clock.Clock => {
  const ahead = clock.currentTimeNanosUnsafe() - clock.monotonicTimeNanosUnsafe()
  const nanos = () => clock.monotonicTimeNanosUnsafe() + ahead
  const nowMillis = () => Number(nanos()) / 1e6
  return {
    currentTimeMillisUnsafe: nowMillis,
    currentTimeMillis: Effect.sync(nowMillis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: clock.monotonicTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  }
}
