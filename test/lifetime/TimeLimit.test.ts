import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Duration from "effect/Duration"
import * as Fiber from "effect/Fiber"
import * as TimeLimit from "../../src/lifetime/TimeLimit.ts"

describe("TimeLimit", () => {
  it.live("work is late in time, also when somebody sets the clock back meanwhile", () =>
    Effect.gen(function* () {
      const real = Clock.Clock.defaultValue()
      let setBack = 0
      const clock: Clock.Clock = Object.create(real, {
        currentTimeMillisUnsafe: { value: () => real.currentTimeMillisUnsafe() - setBack }
      })
      const within = yield* Effect.provideService(
        TimeLimit.make(Duration.millis(20), () => "late"),
        Clock.Clock,
        clock
      )
      const before = yield* Effect.forkChild(Effect.flip(within(Effect.never)), { startImmediately: true })
      setBack = 3_600_000
      const after = Effect.flip(within(Effect.never))
      const answers = Effect.all([Fiber.join(before), after], { concurrency: 2 })
      assert.deepStrictEqual(yield* Effect.timeout(answers, "2 seconds"), ["late", "late"])
    })
  )
})
