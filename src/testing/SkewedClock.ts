/**
 * Clocks that go wrong as those of machines do: set back, ahead, or faster than they should.
 *
 * A clock in a test lives as long as the effect that it is given to; that of a program, as long as the program.
 *
 * **When to use**
 *
 * {@link settable} to find out what happens when somebody sets the time of day of a machine; time itself passes as before, which is what
 * limits and intervals must go by. {@link environment} to start a program whose machine is an hour ahead of the database. {@link fast} for
 * limits of seconds on a server that is real.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { extname } from "node:path"

/** The time of day of a test, which it can set. */
export interface SettableClock {
  readonly forward: (by: Duration.Input) => Effect.Effect<void>
  readonly back: (by: Duration.Input) => Effect.Effect<void>
}

/**
 * Runs a test on the clock in use, whose time of day it can set forward or back. Time itself passes as before, and so does that
 * of `TestClock`.
 */
export const settable = <A, E, R>(test: (clock: SettableClock) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Clock.Clock, (clock) => {
    let ahead = 0
    const millis = () => clock.currentTimeMillisUnsafe() + ahead
    const nanos = () => clock.currentTimeNanosUnsafe() + BigInt(ahead) * 1_000_000n
    const settable: Clock.Clock = Object.create(clock, {
      currentTimeMillisUnsafe: { value: millis },
      currentTimeMillis: { value: Effect.sync(millis) },
      currentTimeNanosUnsafe: { value: nanos },
      currentTimeNanos: { value: Effect.sync(nanos) }
    })
    const set = (sign: number) => (by: Duration.Input) =>
      Effect.sync(() => {
        ahead += sign * Duration.toMillis(Duration.fromInputUnsafe(by))
      })
    return Effect.provideService(test({ forward: set(1), back: set(-1) }), Clock.Clock, settable)
  })

/** Runs a test on a clock that goes so many times as fast as the one in use. */
export const fast = <A, E, R>(times: number, test: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Clock.Clock, (clock) => {
    const nanos = () => clock.monotonicTimeNanosUnsafe() * BigInt(times)
    const fast: Clock.Clock = Object.create(clock, {
      monotonicTimeNanosUnsafe: { value: nanos },
      monotonicTimeNanos: { value: Effect.sync(nanos) },
      sleep: {
        value: (duration: Duration.Duration) => clock.sleep(Duration.millis(Duration.toMillis(duration) / times))
      }
    })
    return Effect.provideService(test, Clock.Clock, fast)
  })

/**
 * Variables that make the clock of a Node program go wrong by so much; negative values set it back. What `NODE_OPTIONS` says already
 * is kept.
 */
export const environment = (
  by: Duration.Input
): Readonly<Record<"NODE_OPTIONS" | "HOLDFAST_TEST_CLOCK_SKEW", string>> => {
  const preload = new URL(`./internal/SkewedDate${extname(import.meta.url)}`, import.meta.url)
  return {
    NODE_OPTIONS: [process.env.NODE_OPTIONS, `--import=${preload.href}`].filter((option) => option).join(" "),
    HOLDFAST_TEST_CLOCK_SKEW: String(Duration.toMillis(Duration.fromInputUnsafe(by)))
  }
}
