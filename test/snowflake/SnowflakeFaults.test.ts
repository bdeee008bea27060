import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import type { Call, Fault, SnowflakeServer } from "../../src/testing/SnowflakeServer.ts"
import { busyBackends } from "../support/conditions.ts"
import { withSnowflake } from "../support/snowflake.ts"

const principal = "alice"

const registryOf = (options: QueryRegistry.Options = {}) =>
  QueryRegistry.make({ maxRunning: 12, ...options }).pipe(Effect.provide(QueryResults.layerMemory()))

type Registry = QueryRegistry.QueryRegistry["Service"]

const submitted = (registry: Registry, sql: string) =>
  Effect.map(registry.submit({ statement: { sql, params: [] }, principal }), ({ id }) => id)

const outcome = Effect.fnUntraced(function* (registry: Registry, sql: string) {
  return yield* registry.await(principal, yield* submitted(registry, sql))
})

const numbers = (count: number, salt: number) =>
  `select n, 'row ' || n as label, ${salt} as salt from generate_series(1, ${count}) n`

const insertOf = (value: number) => `insert into written select ${value} from pg_sleep(0.01)`

const writtenOf = Effect.fnUntraced(function* (registry: Registry) {
  const id = yield* submitted(registry, "select n from written order by n")
  yield* registry.await(principal, id)
  const { rows } = yield* registry.page(principal, id, { offset: 0, limit: 10_000 })
  return rows.map(([value]) => Number(value))
})

/** Statements that write and statements that read many rows, all at once. All of them succeed, each having run once. */
const load = Effect.fnUntraced(function* (
  server: SnowflakeServer["Service"],
  database: string,
  fault: (call: Call) => Fault
) {
  const registry = yield* registryOf()
  yield* outcome(registry, "create table written (n int)")
  yield* server.decide(fault)
  yield* Effect.forEach(
    Array.from({ length: 24 }, (_, index) => index),
    (index) =>
      Effect.gen(function* () {
        const sql = index % 2 === 0 ? insertOf(index) : numbers(1000, index)
        const { error, rowCount, state } = yield* outcome(registry, sql)
        assert.deepStrictEqual(
          { state, error, rowCount },
          { state: "Succeeded", error: null, rowCount: index % 2 === 0 ? 1 : 1000 }
        )
        assert.strictEqual(yield* server.executions(sql), 1)
      }),
    { concurrency: "unbounded" }
  )
  yield* server.decide(() => "pass")
  assert.deepStrictEqual(
    yield* writtenOf(registry),
    Array.from({ length: 12 }, (_, index) => index * 2)
  )
  assert.deepStrictEqual(yield* busyBackends(database), [])
})

/** Every so many calls of these kinds meet the fault. */
const some =
  (kinds: ReadonlyArray<Call["kind"]>, every: number, fault: Fault) =>
  ({ kind, number }: Call): Fault =>
    kinds.includes(kind) && number % every === 0 ? fault : "pass"

const faults: Readonly<Record<string, (call: Call) => Fault>> = {
  "429 with Retry-After": some(["submit", "status", "partition"], 15, { status: 429, retryAfter: 1 }),
  "429 that says that the statement runs": some(["status"], 2, { status: 429, handle: true }),
  "500, 503 and 504": (call) =>
    some(["submit", "status", "partition"], 2, { status: [500, 503, 504][call.number % 3] ?? 503 })(call),
  "an answer that is lost after the statement was begun": some(["submit"], 2, "lose"),
  "answers that are lost, and connections that break": (call) =>
    call.number % 3 === 0 ? "lose" : call.number % 4 === 0 ? "reset" : "pass",
  "looks that hang": some(["status", "partition"], 6, "hang"),
  "a statement that runs on, says the server, when it is over": some(["status"], 2, "pending"),
  "slow answers": some(["submit", "status", "partition"], 2, { delay: 100 })
}

describe.concurrent("under load no statement runs twice, none is lost, and none is reported wrongly, with", () => {
  for (const [name, fault] of Object.entries(faults)) {
    it.live(name, () =>
      withSnowflake(({ database, server }) => load(server, database, fault), {
        server: { partitionBytes: 4000 },
        driver: { callTimeout: "500 millis" }
      })
    )
  }

  it.live(`all of them at once, and cancels at any moment, ${60 * scale} times`, () =>
    withSnowflake(
      ({ database, server }) =>
        Effect.gen(function* () {
          const registry = yield* registryOf({ maxKept: 100_000, maxKeptPerPrincipal: 100_000 })
          yield* outcome(registry, "create table written (n int)")
          yield* server.decide(({ kind }) => {
            const chance = Math.random()
            if (chance > 0.4) return "pass"
            if (chance < 0.05) return kind === "cancel" ? "feign" : "reset"
            if (chance < 0.1) return "lose"
            if (chance < 0.12) return "hang"
            if (chance < 0.2) return { status: [429, 500, 503, 504][Math.trunc(Math.random() * 4)] ?? 503 }
            return kind === "status" ? "pending" : { delay: Math.random() * 30 }
          })
          const states = new Map<number, string>()
          yield* Effect.forEach(
            Array.from({ length: 60 * scale }, (_, index) => index),
            (index) =>
              Effect.gen(function* () {
                const id = yield* submitted(registry, insertOf(index))
                yield* Effect.sleep(Math.random() * 80)
                const { error, state } = yield* registry.cancel(principal, id)
                const written = error !== null && "written" in error ? `, ${error.written}` : ""
                states.set(index, state + written)
                assert.isAtMost(yield* server.executions(insertOf(index)), 1)
              }),
            { concurrency: 12 }
          )
          yield* server.decide(() => "pass")
          const there = new Set(yield* writtenOf(registry))
          for (const [index, state] of states) {
            if (state.endsWith("unknown")) continue
            assert.strictEqual(
              there.has(index),
              state === "Succeeded" || state.endsWith("committed"),
              `${index}: ${state}`
            )
          }
          assert.deepStrictEqual(yield* busyBackends(database), [])
        }),
      { driver: { callTimeout: "500 millis" } }
    )
  )
})
