/** The tests of `sandbox.ts`: so many, each empty or in a sandbox, in which a row is written and read. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestSql from "../../src/testing/TestSql.ts"

const url = process.env["HOLDFAST_SUITE_URL"]
const count = Number(process.env["HOLDFAST_SUITE_TESTS"])

const writesAndReads = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`insert into fruit values ('apple')`
  assert.deepStrictEqual(yield* sql`select name from fruit`, [{ name: "apple" }])
}).pipe(Effect.provide(TestSql.layerSandbox))

const database: Layer.Layer<TestSql.TestDatabase, unknown> =
  url === undefined
    ? Layer.succeed(TestSql.TestDatabase, { sandbox: Effect.never, copy: Effect.never })
    : TestSql.layerExisting({ url: Redacted.make(url) })

layer(database)("a file of tests", (it) => {
  for (let n = 0; n < count; n++) it.effect(`test ${n}`, () => (url === undefined ? Effect.void : writesAndReads))
})
