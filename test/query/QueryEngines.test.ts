import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"

const never: ScriptedQueryDriver.Script = {
  execute: (_, sink, execution) => ScriptedQueryDriver.answer({ turns: Number.POSITIVE_INFINITY }, sink, execution)
}

/** Two engines of two places each: `slow` never answers, `quick` does at once. */
const open = Effect.gen(function* () {
  const quick = ScriptedQueryDriver.make()
  const slow = ScriptedQueryDriver.make(never)
  const limits = { maxRunning: 2, maxRunningPerPrincipal: 2, maxWaiting: 1, reservedRunning: 0 }
  const scope = yield* Scope.fork(yield* Effect.scope)
  const registry = yield* QueryRegistry.makeEngines(
    new Map([
      ["quick", { driver: quick.driver, limits }],
      ["slow", { driver: slow.driver, limits }]
    ]),
    { drain: 0 }
  ).pipe(Scope.provide(scope), Effect.provide(QueryResults.layerMemory()))
  const submit = (engine?: string, more: Partial<QueryRegistry.Submission> = {}) =>
    registry.submit({ principal: "alice", statement: { sql: "select 1", params: [] }, engine, ...more })
  return { registry, submit, quick: quick.log, slow: slow.log, close: Scope.close(scope, Exit.void) }
})

describe("a registry of several engines", () => {
  it.effect("I1 an engine whose places are all taken rejects its own queries and nobody else's", () =>
    Effect.gen(function* () {
      const { quick, registry, slow, submit } = yield* open
      for (let n = 0; n < 3; n++) yield* submit("slow")
      assert.strictEqual((yield* Effect.flip(submit("slow"))).reason._tag, "QueryRejected")
      for (let n = 0; n < 10; n++) {
        const { engine, id } = yield* submit()
        assert.strictEqual(engine, "quick")
        assert.strictEqual((yield* registry.await("alice", id)).state, "Succeeded")
      }
      assert.deepStrictEqual([quick.opened(), slow.opened()], [10, 2])
      assert.deepStrictEqual(
        (yield* registry.list("alice")).queries.map(({ engine }) => engine),
        [...Array.from({ length: 10 }, () => "quick"), "slow", "slow", "slow"]
      )
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.effect("Q3 a key starts one query, on one engine", () =>
    Effect.gen(function* () {
      const { submit } = yield* open
      const first = yield* submit("quick", { idempotencyKey: "k" })
      assert.strictEqual((yield* submit(undefined, { idempotencyKey: "k" })).id, first.id)
      assert.strictEqual(
        (yield* Effect.flip(submit("slow", { idempotencyKey: "k" }))).reason._tag,
        "IdempotencyConflict"
      )
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.effect("an engine that there is not is refused with the names of those that there are", () =>
    Effect.gen(function* () {
      const { submit } = yield* open
      const { message, reason } = yield* Effect.flip(submit("swamp"))
      assert.deepInclude(reason, { _tag: "EngineUnknown", engines: ["quick", "slow"] })
      assert.include(message, "quick, slow")
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.effect("Q7 closing ends the queries of every engine, and leaves nothing", () =>
    Effect.gen(function* () {
      const { close, slow, submit } = yield* open
      yield* submit("slow")
      yield* submit("quick")
      yield* close
      assert.strictEqual(slow.busy.size, 0)
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )
})
