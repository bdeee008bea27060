import { randomBytes } from "node:crypto"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { layerPerTenant, layerRegistry, orderReport, readReport, watch } from "../../docs/examples/queries.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
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

  it.live("runs each tenant's statements as a role of their own", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const connection = yield* PgConnection.make({ url })
      const password = randomBytes(12).toString("hex")
      const tenants = [randomBytes(6).toString("hex"), randomBytes(6).toString("hex")]
      for (const tenant of tenants) {
        yield* Effect.acquireRelease(
          connection.query(`create role tenant_${tenant} login password '${password}'`),
          () => Effect.orDie(connection.query(`drop role tenant_${tenant}`))
        )
      }
      const registry = layerPerTenant(url, () => Redacted.make(password))
      yield* Effect.gen(function* () {
        const queries = yield* QueryRegistry.QueryRegistry
        for (const principal of [...tenants, ...tenants]) {
          const statement = { sql: "select current_user::text", params: [] }
          const { id } = yield* queries.submit({ principal, statement })
          assert.deepStrictEqual(yield* readReport(principal, id), [[`tenant_${principal}`]])
        }
      }).pipe(Effect.provide(registry))
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )
})
