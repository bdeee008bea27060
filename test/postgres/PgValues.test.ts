import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { withQueries } from "../support/queries.ts"
import * as ValuesLaw from "./valuesLaw.ts"

describe("values of PostgreSQL", () => {
  it.live(
    "Q8 what a page of rows shows is the same value when it is sent back as a parameter, of every type of the server",
    () =>
      withQueries(({ url }) =>
        Effect.gen(function* () {
          const { arrays, differences, nameless, refused, types, values } = yield* ValuesLaw.check(url)
          assert.deepStrictEqual(differences, [])
          assert.deepStrictEqual(refused, [])
          assert.deepStrictEqual(nameless, [])
          assert.isAbove(types, 80)
          assert.isAbove(values, 1500)
          assert.isAbove(arrays, 3000)
        })
      ),
    120_000
  )
})
