/** Clocks that do what those of machines do. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/**
 * Runs a test on the clock in use, whose time of day it can set forward or back. Time itself passes as before, and so does that
 * of `TestClock`.
 */
export const onSettableClock = <A, E, R>(
  test: (clock: {
    readonly forward: (by: Duration.Input) => Effect.Effect<void>
    readonly back: (by: Duration.Input) => Effect.Effect<void>
  }) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, Scope.Scope>> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
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
    return yield* Effect.provideService(test({ forward: set(1), back: set(-1) }), Clock.Clock, settable)
  }).pipe(Effect.scoped)
/** Runs a test on a clock that goes so many times as fast as the one in use: for limits of seconds and a server that is real. */
export const onFastClock = <A, E, R>(times: number, test: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
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
