import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { spawnSync } from "node:child_process"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"

describe("a clock that goes wrong", () => {
  it("a program's is wrong by so much, in every way of asking", () => {
    const ask =
      "console.log(Date.now(), +new Date(), performance.timeOrigin + performance.now(), new Date(5).getTime())"
    const env = { PATH: process.env["PATH"], ...SkewedClock.environment("-1 hour") }
    const before = Date.now()
    const { stderr, stdout } = spawnSync(process.execPath, ["-e", ask], { env, encoding: "utf8" })
    const after = Date.now()
    const [now = 0, made = 0, origin = 0, given] = stdout.trim().split(" ").map(Number)
    for (const told of [now, made, origin]) {
      assert.isAtLeast(told + 3_600_000, before - 2, stderr)
      assert.isAtMost(told + 3_600_000, after + 2, stderr)
    }
    assert.strictEqual(given, 5)
  })

  it.effect("a test's is set, and time goes on as before", () =>
    SkewedClock.settable(({ back, forward }) =>
      Effect.gen(function* () {
        yield* forward("1 day")
        assert.strictEqual(yield* Clock.currentTimeMillis, Duration.toMillis("1 day"))
        const fiber = yield* Effect.forkChild(Effect.sleep("1 minute"))
        yield* back("2 days")
        yield* TestClock.adjust("1 minute")
        yield* Fiber.join(fiber)
        assert.strictEqual(yield* Clock.currentTimeMillis, Duration.toMillis("1 minute") - Duration.toMillis("1 day"))
      })
    )
  )

  it.effect("a fast one sleeps a tenth of the time", () =>
    Effect.gen(function* () {
      const fiber = yield* Effect.forkChild(SkewedClock.fast(10, Effect.sleep("10 minutes")))
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
    })
  )
})
