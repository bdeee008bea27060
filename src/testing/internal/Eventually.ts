/** Waits for a condition in real time, also where a `TestClock` stands still. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/** How long to wait before a condition counts as broken. Default: 10 seconds. */
export const Patience = Context.Reference<Duration.Input>("holdfast/testing/Patience", {
  defaultValue: () => "10 seconds"
})

/** Time as it passes outside of a test. */
export const live = Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())

/** A machine that is busy asks seldom: so many answers are waited for, but no longer than six times as long, or five seconds. */
const leastAnswers = 50
const longest = (patience: Duration.Duration) => Duration.max(Duration.times(patience, 6), Duration.seconds(5))

/**
 * Asks again and again until the answer is right. Fails with the last answer when the patience is over, or `within`, and as often
 * as a machine with nothing else to do would have asked in a fraction of a second.
 */
export const eventually = <A, E, R>(
  ask: Effect.Effect<A, E, R>,
  isRight: (answer: A) => boolean,
  within?: Duration.Input
) =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const patience = Duration.fromInputUnsafe(within ?? (yield* Patience))
    const real = Clock.Clock.defaultValue()
    const began = real.monotonicTimeNanosUnsafe()
    const isLate = () => Number(real.monotonicTimeNanosUnsafe() - began) / 1e6 > Duration.toMillis(patience)
    let answers = 0
    let last: A | undefined
    // The question is asked by the clock of the test, and the wait is in real time.
    const asked = Effect.tap(Effect.provideService(ask, Clock.Clock, clock), (answer) =>
      Effect.sync(() => {
        last = answer
      })
    )
    const notSo = Effect.suspend(() =>
      Effect.die(
        new Error(
          `After ${Duration.format(patience)} and ${answers} answers it is still not so. The last answer: ${JSON.stringify(last)}`
        )
      )
    )
    return yield* asked.pipe(
      Effect.filterOrFail(isRight, () => "not yet" as const),
      // A server that is too busy to answer is asked again, too.
      Effect.catch((error) => (++answers >= leastAnswers && isLate() ? notSo : Effect.fail(error))),
      Effect.retry(Schedule.spaced("5 millis")),
      Effect.timeoutOrElse({ duration: longest(patience), orElse: () => notSo }),
      live
    )
  })
