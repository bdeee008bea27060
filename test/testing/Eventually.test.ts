import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { eventually } from "../support/conditions.ts"

/** Counts how often it was asked, and takes its time for each answer. */
const counting = () => {
  let asked = 0
  return Effect.as(
    Effect.sleep("4 millis"),
    Effect.sync(() => ++asked)
  ).pipe(Effect.flatten)
}

describe("a condition that is waited for", () => {
  it.live("has as many answers as on a machine with nothing else to do, when its time is over", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* eventually(counting(), (asked) => asked === 40, "20 millis"), 40)
    })
  )

  it.live("is given up in the end, with the last answer", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(eventually(counting(), () => false, "100 millis"))
      assert.match(Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "", /still not so. The last answer: \d+/)
    })
  )
})
