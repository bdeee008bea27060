import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as PgQueryJournal from "holdfast/postgres/PgQueryJournal"
import { QueryRegistry } from "holdfast/query/QueryRegistry"
import { layerSharedQueries } from "../../docs/examples/scaling.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"

describe("docs/scaling.md", () => {
  it.live("a query of one instance of the example is known to another one", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      yield* PgQueryJournal.migrate({ url })
      const instance = Effect.map(
        Layer.build(Layer.fresh(layerSharedQueries({ journal: url, queries: url }))),
        (context) => Effect.provideContext(QueryRegistry, context)
      )
      const [a, b] = yield* Effect.all([yield* instance, yield* instance])
      const statement = { sql: "select 1 as one", params: [] }
      const { id } = yield* eventually(
        Effect.option(a.submit({ principal: "alice", statement })),
        ({ _tag }) => _tag === "Some"
      ).pipe(Effect.map((submitted) => (submitted._tag === "Some" ? submitted.value : assert.fail())))
      assert.strictEqual((yield* b.await("alice", id)).state, "Succeeded")
      assert.deepStrictEqual((yield* b.page("alice", id, { offset: 0, limit: 1 })).rows, [[1]])
    }).pipe(Effect.scoped)
  )
})
