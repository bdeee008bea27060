import { assert, describe, it } from "@effect/vitest"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { eventually } from "../support/conditions.ts"
import { type Act, act, alone, open } from "../support/scripted.ts"

const alice = "alice"

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

describe("records of queries that are over", () => {
  it.effect("are so many of a principal and so many of all; the oldest goes first, and its rows with it", () =>
    alone(
      Effect.gen(function* () {
        let kept = 0
        const counted = Layer.effect(
          QueryResults.QueryResults,
          Effect.map(QueryResults.QueryResults, (results) =>
            QueryResults.QueryResults.of({
              ready: results.ready,
              open: (id) =>
                Effect.acquireRelease(
                  Effect.tap(results.open(id), () => Effect.sync(() => kept++)),
                  () => Effect.sync(() => kept--)
                )
            })
          )
        ).pipe(Layer.provide(QueryResults.layerMemory()))
        const { registry, submit } = yield* open({ maxKept: 5, maxKeptPerPrincipal: 3 }, undefined, counted)
        const run = (principal: string, key?: string) =>
          Effect.gen(function* () {
            const { id } = yield* submit(act({ rows: 1 }), { principal, idempotencyKey: key })
            return (yield* registry.await(principal, id)).id
          })
        const hanging = yield* submit(act({ hangs: true }), { deadline: "2 hours" })
        const ids = [yield* run(alice, "k")]
        for (let count = 0; count < 3; count++) ids.push(yield* run(alice))
        const left = Effect.map(Effect.all([registry.list(alice), registry.list("bob")]), (lists) =>
          lists.map(({ queries }) => queries.map(({ id }) => id))
        )
        assert.deepStrictEqual(yield* left, [[ids[3], ids[2], ids[1], hanging.id], []])
        assert.strictEqual(
          (yield* Effect.flip(registry.status(alice, ids[0] ?? assert.fail()))).reason._tag,
          "QueryNotFound"
        )
        assert.deepInclude(yield* submit(act({ rows: 1 }), { idempotencyKey: "k" }), {
          id: ids[0] ?? assert.fail(),
          state: "Expired"
        })
        const bobs = [yield* run("bob"), yield* run("bob"), yield* run("bob")]
        assert.deepStrictEqual(yield* left, [[ids[3], ids[2], hanging.id], bobs.toReversed()])
        yield* TestClock.adjust("1 second")
        // And that of the one that runs.
        assert.strictEqual(kept, 6)
        yield* TestClock.adjust("1 hour")
        assert.deepStrictEqual([yield* left, kept], [[[hanging.id], []], 1])
      })
    )
  )
})

it.effect("the statements of records that are kept take up so much: the oldest goes first, never the last one", () =>
  alone(
    Effect.gen(function* () {
      const { registry, submit } = yield* open({ maxKeptText: 4000, maxKept: 100 })
      const run = (length: number, principal = alice) =>
        Effect.gen(function* () {
          const { params, sql } = act({ rows: 1 })
          const { id } = yield* submit({ sql: sql.padEnd(length), params }, { principal })
          return (yield* registry.await(principal, id)).id
        })
      const left = (principal: string) =>
        Effect.map(registry.list(principal), ({ queries }) => queries.map(({ id }) => id))
      const ids = [yield* run(400), yield* run(400), yield* run(400)]
      assert.deepStrictEqual(yield* left(alice), [ids[2], ids[1]])
      // More than all may have, and yet it is told how it ended.
      const large = yield* run(5000)
      assert.deepStrictEqual(yield* left(alice), [large])
      const small = yield* run(100)
      assert.deepStrictEqual(yield* left(alice), [small])
      const others = yield* Effect.forEach(["a", "b", "c", "d", "e"], (principal) => run(900, principal))
      // Of those who have the most: alice has less.
      assert.deepStrictEqual([yield* left(alice), yield* left("a")], [[small], []])
      assert.deepStrictEqual([yield* left("b"), yield* left("c")], [[], [others[2]]])
    })
  )
)

it.live("what is kept of a query that is over is its record and its rows, and nothing of what ran", () =>
  alone(
    Effect.gen(function* () {
      const { registry, submit } = yield* open()
      const run = (what: Act) =>
        Effect.gen(function* () {
          const { id, params } = yield* Effect.suspend(() => {
            const params = ["x".repeat(1000)]
            return Effect.map(submit({ ...act(what), params }), ({ id }) => ({ id, params: new WeakRef(params) }))
          })
          yield* registry.await(alice, id)
          const collected = Effect.sync(() => {
            collectGarbage()
            return params.deref() === undefined
          })
          yield* eventually(collected, Boolean)
          return id
        })
      const id = yield* run({ rows: 1 })
      assert.lengthOf((yield* registry.page(alice, id, { offset: 0, limit: 9 })).rows, 1)
      // An error keeps the functions alive that were running when it was made.
      assert.deepInclude((yield* registry.status(alice, yield* run({ fails: true }))).error, { problem: "as asked" })
    })
  )
)

it.effect("the ledger tells whose a query is, since when it is held and how far it has come", () =>
  alone(
    Effect.gen(function* () {
      const { registry, submit } = yield* open({ maxRunning: 1 })
      const ledger = yield* Ledger.Ledger
      const told = Effect.map(ledger.holdings, (holdings) =>
        holdings
          .filter(({ kind }) => kind === "query")
          .map(({ attributes, id, since, state }): Record<string, unknown> => ({
            ...attributes,
            id,
            since,
            holding: state
          }))
      )
      const first = yield* submit(act({ hangs: true }))
      yield* TestClock.adjust("1 second")
      const second = yield* submit(act({ hangs: true }), { principal: "bob" })
      const before = yield* told
      assert.deepStrictEqual(before, [
        { id: first.id, principal: alice, state: "Running", since: 0, holding: "held" },
        { id: second.id, principal: "bob", state: "Queued", since: 1000, holding: "held" }
      ])
      yield* registry.cancel(alice, first.id)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* told, [
        { id: second.id, principal: "bob", state: "Running", since: 1000, holding: "held" }
      ])
      // What was looked at stays as it was.
      assert.strictEqual(before[1]?.["state"], "Queued")
    })
  )
)
