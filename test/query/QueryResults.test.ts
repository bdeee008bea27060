import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as FileQueryResults from "../../src/node/FileQueryResults.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import { layerMemory, QueryResults } from "../../src/query/QueryResults.ts"
import * as QueryResultsLaws from "../../src/testing/QueryResultsLaws.ts"

type Limits = QueryResultsLaws.Limits

/** Every store there is, and every way a store has of keeping rows. */
const stores = {
  "in memory": layerMemory,
  "in files that are not needed yet": FileQueryResults.layer,
  "in files from the first row on": (limits?: Limits) => FileQueryResults.layer({ memoryBytes: 0, ...limits }),
  "in files after some rows": (limits?: Limits) => FileQueryResults.layer({ memoryBytes: 300, ...limits }),
  "in files because others take up the memory": (limits?: Limits) =>
    FileQueryResults.layer({ memoryTotalBytes: 200, ...limits })
}

for (const [name, layer] of Object.entries(stores)) {
  QueryResultsLaws.run(
    Layer.succeed(QueryResultsLaws.World, {
      open: (limits) => Effect.map(Layer.build(layer(limits)), (context) => Context.get(context, QueryResults))
    }),
    { name: `rows kept ${name}` }
  )
}

const open = Effect.flatMap(QueryResults, (results) => results.open({ id: QueryId.make(), principal: "alice" }))

const Rows = Schema.Array(Schema.Array(Schema.Json))

describe("rows kept in files", () => {
  it.live.prop(
    "have the pages that they have in memory",
    {
      batches: Schema.Array(Rows),
      pages: Schema.Array(Schema.Tuple([Schema.Natural, Schema.Natural]))
    },
    ({ batches, pages }) =>
      Effect.gen(function* () {
        const kept = yield* Effect.forEach(Object.values(stores), (layer) =>
          Effect.gen(function* () {
            const result = yield* open
            // JSON has no negative zero.
            for (const rows of batches) {
              yield* result.sink.rows(Schema.decodeUnknownSync(Rows)(JSON.parse(JSON.stringify(rows))))
            }
            return yield* Effect.forEach(pages, ([offset, limit]) => result.page(offset % 20, (limit % 20) + 1))
          }).pipe(Effect.scoped, Effect.provide(layer()))
        )
        for (const found of kept) assert.deepStrictEqual(found, kept[0])
      })
  )
})
