import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Durations from "../../src/server/Durations.ts"

describe("a length of time", () => {
  it("is read as Effect writes it, as people write it, and as ISO 8601 does", () => {
    for (const [text, millis] of [
      ["30 minutes", 1_800_000],
      ["30m", 1_800_000],
      [" 30 m ", 1_800_000],
      ["30min", 1_800_000],
      ["1h30m", 5_400_000],
      ["1h 30m", 5_400_000],
      ["1.5h", 5_400_000],
      ["90s", 90_000],
      ["90sec", 90_000],
      ["250ms", 250],
      ["2d", 172_800_000],
      ["1w", 604_800_000],
      ["PT30M", 1_800_000],
      ["P1DT12H", 129_600_000]
    ] as const) {
      assert.deepStrictEqual(Option.map(Durations.parse(text), Duration.toMillis), Option.some(millis), text)
    }
  })

  it("is none without a unit, or with one that nobody knows", () => {
    for (const text of ["", "30", "m", "30 moons", "1h30", "-5m", "P", "PT", "5m;", "1e3s"]) {
      assert.isTrue(Option.isNone(Durations.parse(text)), text)
    }
  })
})
