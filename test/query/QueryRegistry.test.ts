import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Ledger from "../../src/Ledger.ts"
import { QueryDriver, type Row } from "../../src/query/QueryDriver.ts"
import { QueryError, StatementFailed } from "../../src/query/QueryError.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { steps } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"

const statement = { sql: "select 1", params: [] }

/** A driver without a server. */
const driver = (execute: QueryDriver["Service"]["open"]) =>
  Layer.succeed(QueryDriver, QueryDriver.of({ open: execute }))

const answering = (rows: ReadonlyArray<Row>) =>
  driver(
    Effect.succeed({
      id: "1",
      execute: (_, sink) =>
        sink
          .columns([{ name: "a", type: "text" }])
          .pipe(Effect.andThen(sink.rows(rows)), Effect.as({ command: "SELECT", rowCount: rows.length }))
    })
  )

const make = (scope: Scope.Scope, results = QueryResults.layerMemory()) =>
  QueryRegistry.make({ drain: "1 millis" }).pipe(Scope.provide(scope), Effect.provide(results))

describe("QueryRegistry", () => {
  it.effect("a connection that is taken away by nobody's order fails the query, and leaves it no secret", () =>
    Effect.gen(function* () {
      const registry = yield* make(yield* Effect.scope)
      const { id } = yield* registry.submit({ statement, principal: "alice" })
      const { error, state } = yield* registry.await("alice", id)
      assert.deepStrictEqual([state, error?._tag], ["Failed", "QueriesUnavailable"])
    }).pipe(Effect.scoped, Effect.provide(driver(Effect.interrupt)))
  )

  it.live("Q7 closing while queries are submitted leaves nothing, whatever comes first", () =>
    Effect.forEach(
      steps.filter((step) => step < 24),
      (step) =>
        Effect.forEach(
          [0, 1, 2, 3, 5, 8, 13, 21],
          (delay) =>
            Effect.gen(function* () {
              const scope = yield* Scope.make()
              const registry = yield* make(scope)
              const submitting = yield* Effect.forkChild(
                Effect.provideService(
                  Effect.exit(registry.submit({ statement, principal: "alice" })),
                  Scheduler.MaxOpsBeforeYield,
                  step
                )
              )
              for (let yields = 0; yields < delay; yields++) yield* Effect.yieldNow
              yield* Scope.close(scope, Exit.void)
              yield* Fiber.join(submitting)
              assert.deepStrictEqual((yield* registry.list("alice")).queries, [], `step ${step}, delay ${delay}`)
              yield* LedgerRecorder.assertEmpty()
            }).pipe(Effect.provide(answering([["x"]])), Effect.provide(Layer.fresh(Ledger.layer))),
          { discard: true }
        ),
      { discard: true }
    )
  )

  it.effect("rows have a limit for each query and one for all, and those of a query that failed take no room", () => {
    let attempts = 0
    const failingFirst = driver(
      Effect.succeed({
        id: "1",
        execute: (_, sink) =>
          Effect.andThen(
            sink.rows([["x".repeat(400)]]),
            Effect.suspend(() =>
              ++attempts === 1
                ? Effect.fail(new QueryError({ reason: new StatementFailed({ problem: "broken" }) }))
                : Effect.succeed({ command: "SELECT", rowCount: 1 })
            )
          )
      })
    )
    return Effect.gen(function* () {
      const results = QueryResults.layerMemory({ limitBytes: 1000, totalBytes: 1500 })
      const registry = yield* make(yield* Effect.scope, results)
      const outcome = Effect.gen(function* () {
        const { id } = yield* registry.submit({ statement, principal: "alice" })
        const { error, state } = yield* registry.await("alice", id)
        return error?._tag ?? state
      })
      assert.deepStrictEqual(
        [yield* outcome, yield* outcome, yield* outcome],
        ["StatementFailed", "Succeeded", "ResultsFull"]
      )
    }).pipe(Effect.scoped, Effect.provide(failingFirst))
  })
})
