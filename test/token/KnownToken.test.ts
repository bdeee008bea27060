import { assert, describe, it } from "@effect/vitest"
import * as Redacted from "effect/Redacted"
import * as KnownToken from "../../src/token/internal/KnownToken.ts"

describe("what is known of a token", () => {
  it("a rejected one that is too young to be replaced is given until its pause or its life is over, whichever is first", () => {
    for (const [life, over] of [
      [1000, 1000],
      [60_000, 5000]
    ] as const) {
      let now = 0
      const known = KnownToken.make({ marginMillis: 0, pauseMillis: 5000, nowMillis: () => now })
      const token = known.learn({
        value: Redacted.make("t"),
        version: 2,
        isKept: true,
        obtainedAt: 0,
        validUntil: life,
        isRejected: true,
        isSecondTry: true
      })
      now = over - 1
      assert.strictEqual(known.tooYoung(), token)
      now = over
      assert.isUndefined(known.tooYoung())
    }
  })
})
