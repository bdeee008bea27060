import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { layerRegistry, orderReport, readReport, watch } from "../../docs/examples/queries.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { freshDatabase } from "../support/postgres.ts"

describe("the example of queries", () => {
  it.live("runs a report once however often it is asked for, tells its states and reads its rows", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const connection = yield* PgConnection.make({ url })
      yield* connection.query("create table orders (id int, month text, total numeric)")
      yield* connection.query("insert into orders values (1, '2026-01', 1.10), (2, '2026-01', 2), (3, '2026-02', 3)")
      yield* Effect.gen(function* () {
        const { id } = yield* orderReport("alice", "2026-01")
        assert.strictEqual((yield* orderReport("alice", "2026-01")).id, id)
        assert.deepStrictEqual(yield* Stream.runCollect(watch("alice", id)), [
          "1 Queued",
          "2 Starting",
          "3 Running",
          "4 Succeeded"
        ])
        assert.deepStrictEqual(yield* readReport("alice", id), [
          [1, "1.10"],
          [2, "2"]
        ])
        assert.strictEqual((yield* Effect.flip(readReport("bob", id))).reason._tag, "QueryNotFound")
      }).pipe(Effect.provide(layerRegistry(url)))
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )
})
