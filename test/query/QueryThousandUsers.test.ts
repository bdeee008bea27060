import { assert, it } from "@effect/vitest"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type QueryConnection, QueryDriver } from "../../src/query/QueryDriver.ts"
import { QueryError, StatementFailed } from "../../src/query/QueryError.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import { alone } from "../support/scripted.ts"

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

const heap = Effect.promise(async () => {
  for (let round = 0; round < 5; round++) {
    collectGarbage()
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  const { external, heapUsed } = process.memoryUsage()
  return heapUsed + external
})

const mebibyte = 1024 * 1024

/** What a registry with the default bounds may occupy (`docs/queries.md`), without rows. */
const stated = 500 * mebibyte

it.live(
  "Q6 a thousand users that each keep the most they may: the registry stays under the stated size",
  () =>
    alone(
      Effect.gen(function* () {
        // All bounds are smaller by the same factor, unless the test is scaled.
        const part = Math.max(1, Math.floor(16 / scale))
        const execute: QueryConnection["execute"] = ({ sql }) =>
          sql.startsWith("wait")
            ? Effect.never
            : Effect.fail(
                new QueryError({ reason: new StatementFailed({ problem: "é".repeat(10_000), code: "HF001" }) })
              )
        const driver = QueryDriver.of({ open: Effect.succeed({ id: "1", execute }) })
        const before = yield* heap
        const registry = yield* QueryRegistry.make({
          drain: 0,
          maxKept: 10_000 / part,
          maxKeptText: (64 * mebibyte) / part,
          maxKeys: Math.floor(100_000 / part),
          maxWaiting: Math.floor(1000 / part),
          maxWaitingBytes: (128 * mebibyte) / part
        }).pipe(Effect.provide([Layer.succeed(QueryDriver, driver), QueryResults.layerMemory()]))
        const long = "日".repeat(3000)
        let [key, rejected] = [0, 0]
        for (let round = 0; round < Math.ceil(110 / part); round++) {
          for (let user = 0; user < 1000; user++) {
            const principal = `user ${user}`
            const idempotencyKey = `key ${key++} `.padEnd(255, "k").replaceAll(" ", "_")
            const submission = { statement: { sql: `${key}${long}`, params: [] }, principal }
            const submitted = yield* Effect.exit(registry.submit({ ...submission, idempotencyKey }))
            if (submitted._tag === "Failure") rejected++
            const { id } = submitted._tag === "Success" ? submitted.value : yield* registry.submit(submission)
            yield* registry.await(principal, id)
          }
        }
        let waiting = 0
        for (let user = 0; user < 1000; user++) {
          const statement = { sql: `wait ${long}`, params: ["日".repeat(60_000), user] }
          const submitted = yield* Effect.exit(registry.submit({ statement, principal: `user ${user}` }))
          if (submitted._tag === "Success") waiting++
        }
        assert.isAbove(rejected, 0)
        assert.isAbove(waiting, 10)
        assert.isBelow(waiting, 1000)
        const grown = (yield* heap) - before
        assert.isBelow(grown, stated / part)
      })
    ),
  600_000
)
