/** The suite of laws names each fault of a driver that is broken on purpose. `HOLDFAST_TEST_SCALE=2` prints all laws that a fault breaks. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { scale } from "../../src/testing/InterruptSweep.ts"
import * as QueryDriverLaws from "../../src/testing/QueryDriverLaws.ts"
import * as ToyEngine from "./toyEngine.ts"

const worldOf = (fault?: ToyEngine.Fault) => Layer.sync(QueryDriverLaws.World, () => ToyEngine.make(fault))
const engine = { name: "an engine in memory", engine: ToyEngine.capabilities, dialect: ToyEngine.dialect }

QueryDriverLaws.run(worldOf(), engine)

/** The law that each fault breaks, by its beginning. */
const faults: Readonly<Record<ToyEngine.Fault, string>> = {
  "columns late": "rows come after their columns",
  "columns never": "columns are told where there are no rows",
  "count wrong": "a statement that writes says how many rows it wrote",
  "big numbers": "Q8 a value that a row shows",
  "texts mended": "Q9 a text that would not arrive",
  "code lost": "a statement that fails says why",
  "sink ignored": "a sink that takes no more",
  "rows at once": "Q6 rows wait for the sink",
  "rows at the end": "rows are handed over while the statement runs",
  "cancel not awaited": "C2 an interruption returns when the server is done",
  "done before written": "C2 also when it lands on any point",
  "interrupt says nothing": "Q2 a cancel that races with the end",
  "connection kept": "C1 a connection is released once",
  "settings stay": "a setting holds for its statement alone",
  "deadline ignored": "the server ends a statement by itself",
  "notice lost": "what the server remarks is told"
}
const names = QueryDriverLaws.laws(ToyEngine.dialect).map(({ name }) => name)

describe("a driver that is broken on purpose", () => {
  it("has a fault for each law", () => {
    assert.deepStrictEqual(
      names.filter((name) => Object.values(faults).filter((law) => name.startsWith(law)).length !== 1),
      []
    )
    assert.lengthOf(Object.keys(faults), names.length)
  })

  for (const [fault, beginning] of Object.entries(faults)) {
    it.live(
      `is found where ${fault}: ${beginning}`,
      () =>
        Effect.gen(function* () {
          const law = names.find((name) => name.startsWith(beginning)) ?? assert.fail(beginning)
          const only = scale > 1 ? undefined : [law]
          const found = yield* QueryDriverLaws.check(worldOf(fault as ToyEngine.Fault), engine, {
            only,
            limit: "300 millis"
          })
          assert.include(
            found.map(({ law }) => law),
            law
          )
          if (scale > 1) console.log(`${fault} | ${found.map(({ law }) => law).join(" | ")}`)
        }),
      120_000
    )
  }
})
