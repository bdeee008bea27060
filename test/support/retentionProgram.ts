/**
 * Runs statements that fail with long texts, or tables with many columns, and says by how many bytes it has grown:
 * `<url> <texts or columns> <count>`. Start it with `--expose-gc`.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as FileQueryResults from "../../src/node/FileQueryResults.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"

const [, , url = "", what, count = "1"] = process.argv

const memory = Effect.promise(async () => {
  for (let round = 0; round < 5; round++) {
    globalThis.gc?.()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  const { external, heapUsed, rss } = process.memoryUsage()
  return { resident: rss, used: heapUsed + external }
})

const fails = "do $$ begin raise exception '%', repeat('x', 15000000); end $$"
const columns = Array.from({ length: 1600 }, (_, index) => `null as "${`column ${index} `.padEnd(60, "x")}"`).join(",")

const program = Effect.gen(function* () {
  const queries = yield* QueryRegistry.make()
  let number = 0
  const run = (sql: string) =>
    Effect.gen(function* () {
      const principal = `user ${number++ % 100}`
      const submission = { statement: { sql, params: [] }, principal, idempotencyKey: `key ${number}` }
      yield* queries.await(principal, (yield* queries.submit(submission)).id)
    })
  const each = run(what === "texts" ? fails : `select ${columns} where false`)
  yield* Effect.repeat(each, { times: 9 })
  const before = yield* memory
  yield* Effect.repeat(each, { times: Number(count) - 1 })
  const after = yield* memory
  console.log(JSON.stringify({ resident: after.resident - before.resident, used: after.used - before.used }))
}).pipe(
  Effect.scoped,
  Effect.provide(
    Layer.merge(FileQueryResults.layer(), PgQueryDriver.layer).pipe(
      Layer.provide(ConnectionPool.layer({ max: 1 })),
      Layer.provide(PgConnectionSource.layer({ url: Redacted.make(url), recycle: PgRecycle.foreign })),
      Layer.provide(Ledger.layer)
    )
  )
)

await Effect.runPromise(program)
