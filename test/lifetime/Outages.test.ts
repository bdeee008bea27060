import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as Outages from "../../src/lifetime/internal/Outages.ts"

const target = (source: string, where = "here") => ({ name: `The store (${where})`, where, source })

const recorder = () => {
  const lines: Array<string> = []
  const outages = Outages.makeUnsafe((line) => Effect.sync(() => void lines.push(line)))
  return { lines, outages }
}

describe("the log of outages", () => {
  it.effect("a cause is told once, however often and by whomever it is met, and another one as well", () =>
    Effect.gen(function* () {
      const { lines, outages } = recorder()
      const [readers, writers] = [outages.source(target("readers")), outages.source(target("writers"))]
      for (const source of [readers, writers, readers]) yield* source.failed("refused (ECONNREFUSED)")
      assert.deepStrictEqual(lines, ["The store (here) cannot be used: refused (ECONNREFUSED)"])
      yield* writers.failed("wrong password (28P01)")
      yield* readers.failed("refused (ECONNREFUSED)")
      assert.deepStrictEqual(lines.slice(1), ["The store (here) cannot be used: wrong password (28P01)"])
      yield* outages.source(target("readers", "there")).failed("refused (ECONNREFUSED)")
      assert.deepStrictEqual(lines.slice(2), ["The store (there) cannot be used: refused (ECONNREFUSED)"])
    })
  )

  it.effect("the end is told once, when all that failed works and nothing has failed for a moment", () =>
    Effect.gen(function* () {
      const { lines, outages } = recorder()
      const [readers, writers] = [outages.source(target("readers")), outages.source(target("writers"))]
      yield* readers.worked
      yield* readers.failed("away")
      yield* writers.failed("away")
      yield* readers.worked
      yield* TestClock.adjust("3 seconds")
      yield* readers.worked
      assert.lengthOf(lines, 1)
      yield* writers.failed("away")
      yield* writers.worked
      yield* TestClock.adjust("3 seconds")
      assert.lengthOf(lines, 1)
      yield* writers.worked
      yield* writers.worked
      assert.deepStrictEqual(lines.slice(1), ["The store (here) can be used again"])
      yield* writers.failed("away.")
      assert.deepStrictEqual(lines.slice(2), ["The store (here) cannot be used: away"])
      // Who uses it alone need not be asked twice.
      yield* writers.recovered
      assert.deepStrictEqual(lines.slice(3), ["The store (here) can be used again"])
    })
  )
})
