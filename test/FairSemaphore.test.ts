import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as FairSemaphore from "../src/FairSemaphore.ts"
import { steps } from "../src/testing/InterruptSweep.ts"

describe("FairSemaphore", () => {
  it.effect("gives permits in turn between keys", () =>
    Effect.gen(function* () {
      const semaphore = yield* FairSemaphore.make(1)
      const gate = yield* Deferred.make<void>()
      const order: Array<string> = []
      yield* Effect.forkChild(semaphore.withPermit("first")(Deferred.await(gate)), { startImmediately: true })
      const many = Array.from({ length: 5 }, () => "many")
      const fibers = yield* Effect.forEach([...many, "one", ...many], (key) =>
        Effect.forkChild(semaphore.withPermit(key)(Effect.sync(() => order.push(key))), { startImmediately: true })
      )
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.forEach(fibers, Fiber.join)
      assert.deepStrictEqual(order.slice(0, 3), ["many", "one", "many"])
      assert.strictEqual(order.length, 11)
    })
  )

  it.effect("C4 a waiter or holder that is interrupted at any point loses no permit", () =>
    Effect.forEach(
      steps,
      (step) =>
        Effect.forEach(
          Array.from({ length: 40 }, (_, index) => index),
          (delay) =>
            Effect.scoped(
              Effect.gen(function* () {
                const semaphore = yield* FairSemaphore.make(1)
                const user = semaphore
                  .withPermit("key")(Effect.yieldNow)
                  .pipe(Effect.andThen(Effect.scoped(semaphore.take("key"))))
                const fibers = yield* Effect.forEach([user, user], (effect) =>
                  Effect.forkChild(Effect.provideService(effect, Scheduler.MaxOpsBeforeYield, step))
                )
                yield* Effect.repeat(Effect.yieldNow, { times: delay })
                yield* Effect.forEach(fibers, Fiber.interrupt)
                const free = yield* Effect.timeoutOption(
                  Effect.repeat(Effect.yieldNow, { times: 20 }).pipe(
                    Effect.andThen(semaphore.withPermit("key")(Effect.succeed(true)))
                  ),
                  "1 hour"
                )
                assert.strictEqual(free._tag, "Some", `step ${step}, delay ${delay}`)
              })
            ),
          { discard: true }
        ),
      { discard: true }
    )
  )
})
