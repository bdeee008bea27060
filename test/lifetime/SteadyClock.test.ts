import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as SteadyClock from "../../src/lifetime/internal/SteadyClock.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"

describe("SteadyClock", () => {
  it.effect("begins at the time of day, and goes on from there by the time that passes, whoever sets the clock", () =>
    SkewedClock.settable(({ back, forward }) =>
      Effect.gen(function* () {
        yield* forward("40 days")
        const clock = yield* Clock.Clock
        const began = clock.currentTimeMillisUnsafe()
        const steady = SteadyClock.from(clock)
        const told = Effect.map(Effect.all([steady.currentTimeMillis, steady.currentTimeNanos]), ([millis, nanos]) => [
          millis - began,
          Number(nanos) / 1e6 - began
        ])
        assert.deepStrictEqual(yield* told, [0, 0])
        yield* back("1 hour")
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(yield* told, [3000, 3000])
        yield* forward("2 hours")
        assert.deepStrictEqual(yield* told, [3000, 3000])
        assert.strictEqual(steady.currentTimeMillisUnsafe() - began, 3000)
      })
    )
  )
})
