import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import { countOrders, layerPool, placeOrder } from "../../docs/examples/connections.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { freshDatabase } from "../support/postgres.ts"

describe("the example of connections", () => {
  it.live(
    "places orders on connections of their own, and counts them on a shared one that keeps no setting of theirs",
    () =>
      Effect.gen(function* () {
        const { url } = yield* freshDatabase
        yield* Effect.gen(function* () {
          const sql = yield* SqlClient.SqlClient
          yield* sql`create table orders (id int generated always as identity, item text)`
          yield* sql`create table stock (item text primary key, amount int check (amount >= 0))`
          yield* sql`insert into stock values ('apple', 2)`
          yield* Effect.forEach(["apple", "apple"], placeOrder, { concurrency: "unbounded" })
          const error = yield* Effect.flip(placeOrder("apple"))
          assert.strictEqual(error._tag, "SqlError")
          assert.strictEqual(yield* countOrders, 2)
          assert.deepStrictEqual(yield* sql`select current_setting('lock_timeout') as it`, [{ it: "0" }])
        }).pipe(Effect.provide(layerPool(url)))
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )
})
