/**
 * The law Q8 against a database: what a page of rows shows is the same value when it is sent back as a parameter.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as ValuesLaw from "../postgres/valuesLaw.ts"
import { layerQueries } from "../support/queries.ts"
import { CompatError } from "./programs.ts"

/** How many values of how many types were the same; fails with those that were not. */
export const values = Effect.fnUntraced(function* (url: Redacted.Redacted<string>) {
  const found = yield* ValuesLaw.check(url).pipe(
    Effect.provide(layerQueries(url, { max: 2 }).pipe(Layer.provide(Ledger.layer)))
  )
  const wrong = [...found.differences.map((one) => JSON.stringify(one)), ...found.refused, ...found.nameless]
  if (wrong.length > 0) {
    const some = wrong.slice(0, 20).map((text) => text.slice(0, 300))
    return yield* new CompatError({ problem: `${wrong.length} values are not the same:\n${some.join("\n")}` })
  }
  return `${found.values + found.arrays} values of ${found.types} types`
})
