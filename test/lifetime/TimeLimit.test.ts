import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Duration from "effect/Duration"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { once } from "node:events"
import { Worker } from "node:worker_threads"
import * as TimeLimit from "../../src/lifetime/TimeLimit.ts"

describe("TimeLimit", () => {
  it.live("work is late in time, also when somebody sets the clock back meanwhile", () =>
    Effect.gen(function* () {
      const real = Clock.Clock.defaultValue()
      let setBack = 0
      const clock: Clock.Clock = Object.create(real, {
        currentTimeMillisUnsafe: { value: () => real.currentTimeMillisUnsafe() - setBack }
      })
      const within = yield* Effect.provideService(
        TimeLimit.make(Duration.millis(20), () => "late"),
        Clock.Clock,
        clock
      )
      const before = yield* Effect.forkChild(Effect.flip(within(Effect.never)), { startImmediately: true })
      setBack = 3_600_000
      const after = Effect.flip(within(Effect.never))
      const answers = Effect.all([Fiber.join(before), after], { concurrency: 2 })
      assert.deepStrictEqual(yield* Effect.timeout(answers, "2 seconds"), ["late", "late"])
    })
  )

  it.live("a process that stood still until the time was over hears answers before it calls anything late", () =>
    Effect.gen(function* () {
      const within = yield* TimeLimit.make(Duration.millis(100), () => "late")
      const echo = yield* Effect.acquireRelease(
        Effect.sync(
          () =>
            new Worker(
              `const { parentPort: it } = require("node:worker_threads")
          it.on("message", (message) => it.postMessage(message))`,
              { eval: true }
            )
        ),
        (worker) => Effect.promise(() => worker.terminate())
      )
      const ask = (message: string) =>
        Effect.promise(async () => {
          const answered = once(echo, "message")
          echo.postMessage(message)
          return String(await answered)
        })
      yield* ask("ready")
      for (const still of [300, 300, 300, 120, 300]) {
        const asked = Effect.all([ask("one"), ask("two"), ask("three")])
        const answers = yield* Effect.forkChild(within(asked), { startImmediately: true })
        yield* Effect.sync(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, still))
        assert.deepStrictEqual(yield* Fiber.join(answers), ["one", "two", "three"])
      }
    }).pipe(Effect.scoped)
  )

  it.effect("work that is late is interrupted, and what that takes keeps nobody waiting", () =>
    Effect.gen(function* () {
      const within = yield* TimeLimit.make(Duration.seconds(1), (limit) => `late after ${limit}`)
      const gate = yield* Deferred.make<void>()
      let ended = 0
      const work = Effect.onInterrupt(Effect.never, () =>
        Effect.andThen(
          Deferred.await(gate),
          Effect.sync(() => ended++)
        )
      )
      const waiting = yield* Effect.forkChild(Effect.flip(within(work)), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(waiting), "late after 1s")
      assert.strictEqual(ended, 0)
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.yieldNow
      assert.strictEqual(ended, 1)
    }).pipe(Effect.scoped)
  )

  it.effect("work whose caller is interrupted goes on, within the limit", () =>
    Effect.gen(function* () {
      const within = yield* TimeLimit.make(Duration.seconds(10), () => "late")
      const done: Array<string> = []
      const start = (seconds: number) =>
        Effect.forkChild(
          within(
            Effect.andThen(
              Effect.sleep(Duration.seconds(seconds)),
              Effect.sync(() => done.push(`${seconds}`))
            )
          ),
          { startImmediately: true }
        )
      const callers = [yield* start(5), yield* start(15)]
      for (const caller of callers) yield* Fiber.interrupt(caller)
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(done, ["5"])
    }).pipe(Effect.scoped)
  )

  it.effect("works that run at the end are ended side by side", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const within = yield* Scope.provide(
        TimeLimit.make(Duration.seconds(10), () => "late"),
        scope
      )
      const first = yield* Deferred.make<void>()
      const start = (end: Effect.Effect<unknown>) =>
        Effect.forkDetach(within(Effect.onInterrupt(Effect.never, () => end)), { startImmediately: true })
      yield* start(Deferred.succeed(first, undefined))
      yield* start(Deferred.await(first))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* Effect.repeat(Effect.yieldNow, { times: 20 })
      assert.isDefined(closing.pollUnsafe())
    })
  )

  it.effect("work that was done in time leaves nobody asleep after the end", () =>
    Effect.gen(function* () {
      let asleep = 0
      const real = yield* Clock.Clock
      const clock: Clock.Clock = Object.create(real, {
        sleep: {
          value: (duration: Duration.Duration) =>
            Effect.acquireUseRelease(
              Effect.sync(() => asleep++),
              () => real.sleep(duration),
              () => Effect.sync(() => asleep--)
            )
        }
      })
      const scope = yield* Scope.make()
      const made = TimeLimit.make(Duration.seconds(10), () => "late")
      const within = yield* Effect.provideService(Scope.provide(made, scope), Clock.Clock, clock)
      yield* within(Effect.andThen(Effect.yieldNow, Effect.yieldNow))
      assert.strictEqual(asleep, 1)
      yield* Scope.close(scope, Exit.void)
      yield* Effect.yieldNow
      assert.strictEqual(asleep, 0)
    })
  )
})
