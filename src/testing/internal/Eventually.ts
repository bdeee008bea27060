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

/** Asks again and again until the answer is right. Fails with the last answer when the patience is over. */
export const eventually = <A, E, R>(ask: Effect.Effect<A, E, R>, isRight: (answer: A) => boolean) =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const patience = yield* Patience
    let last: A | undefined
    // The question is asked by the clock of the test, and the wait is in real time.
    const asked = Effect.tap(Effect.provideService(ask, Clock.Clock, clock), (answer) =>
      Effect.sync(() => {
        last = answer
      })
    )
    return yield* asked.pipe(
      Effect.filterOrFail(isRight, () => "not yet" as const),
      Effect.retry(Schedule.spaced("5 millis")),
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () =>
          Effect.die(
            new Error(
              `After ${Duration.format(Duration.fromInputUnsafe(patience))} it is still not so. The last answer: ${JSON.stringify(last)}`
            )
          )
      }),
      live
    )
  })
