import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PgFunctionStore from "holdfast/postgres/PgFunctionStore"
import { layerFunctions, total } from "../../docs/examples/functions.ts"
import { freshDatabase } from "../support/postgres.ts"

describe("docs/functions.md", () => {
  it.live("the function of the example is executed", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* PgFunctionStore.migrate({ url })
      const { console, result } = yield* Effect.provide(total, Layer.fresh(layerFunctions(url)))
      assert.deepStrictEqual(JSON.parse(result ?? ""), { total: 7, currency: "EUR" })
      assert.deepStrictEqual(console, [{ level: "log", text: "asking for the price" }])
    }).pipe(Effect.scoped)
  )
})
