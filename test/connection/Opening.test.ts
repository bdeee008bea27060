/** Failing to open leaves no waiter in the dark, whoever gave up just before. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import { ConnectionPool } from "../../src/connection/ConnectionPool.ts"
import { layerOf } from "../support/connections.ts"
import { urlOf } from "../support/postgres.ts"

it.live("C4 failing to open is told to whoever waits, also right after somebody gave up", () =>
  Effect.forEach(
    Array.from({ length: 400 }, (_, index) => index),
    (index) =>
      Effect.gen(function* () {
        const { lease } = yield* ConnectionPool
        const gaveUp = yield* Effect.forkChild(Effect.scoped(lease()))
        // Opening takes some hundreds of turns.
        yield* Effect.repeat(Effect.yieldNow, { times: (index % 45) * 20 })
        yield* Fiber.interrupt(gaveUp)
        const { reason } = yield* Effect.flip(Effect.scoped(lease()))
        assert.strictEqual(reason._tag, "Unavailable", `of attempt ${index}`)
      }).pipe(
        Effect.provide(layerOf(urlOf("no_such_database"), { max: 1, acquireTimeout: "3 seconds" })),
        Effect.provideService(Scheduler.MaxOpsBeforeYield, 3 + (index % 62))
      ),
    { concurrency: 8, discard: true }
  )
)
