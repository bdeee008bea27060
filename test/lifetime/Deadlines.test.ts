import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Deadlines from "../../src/lifetime/Deadlines.ts"
import * as FairSemaphore from "../../src/lifetime/FairSemaphore.ts"
import * as TimeLimit from "../../src/lifetime/TimeLimit.ts"
import { steps } from "../../src/testing/InterruptSweep.ts"
import { eventually } from "../support/conditions.ts"

const limit = Duration.seconds(10)

/** Deadlines in a scope of their own. */
const open = Effect.gen(function* () {
  const scope = yield* Scope.make()
  const deadlines = yield* Scope.provide(Deadlines.make(limit), scope)
  const late: Array<string> = []
  return { deadlines, scope, late, add: (name: string) => deadlines.add(() => void late.push(name)) }
})

describe("a deadline is kept until it is taken back or reached", () => {
  it.effect("also when the scope closes meanwhile", () =>
    Effect.gen(function* () {
      const { add, late, scope } = yield* open
      add("first")
      yield* TestClock.adjust("4 seconds")
      add("second")
      const takeBack = add("third")
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(late, [])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(late, ["first"])
      takeBack()
      yield* TestClock.adjust("4 seconds")
      assert.deepStrictEqual(late, ["first", "second"])
      add("after the end")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(late, ["first", "second", "after the end"])
    })
  )

  it.effect("also when it is added in the very moment in which the last one before is over", () =>
    Effect.forEach(
      steps,
      (step) =>
        Effect.forEach([0, 1, 2, 3, 4, 5, 6, 7, 8], (delay) =>
          Effect.gen(function* () {
            const afterwards = Effect.repeat(Effect.yieldNow, { times: delay })
            const taken = yield* open
            const takeBack = taken.add("taken back")
            yield* Scope.close(taken.scope, Exit.void)
            yield* Effect.sync(takeBack)
            if (delay > 0) yield* afterwards
            taken.add("added after it was taken back")
            const reached = yield* open
            let isReached = false
            reached.deadlines.add(() => (isReached = true))
            const adding = yield* Effect.forkChild(
              Effect.repeat(Effect.yieldNow, { until: () => isReached }).pipe(
                Effect.andThen(afterwards),
                Effect.andThen(Effect.sync(() => reached.add("added after it was reached")))
              ),
              { startImmediately: true }
            )
            yield* TestClock.adjust("10 seconds")
            yield* Fiber.join(adding)
            yield* TestClock.adjust("10 seconds")
            assert.deepStrictEqual(
              [taken.late, reached.late],
              [["added after it was taken back"], ["added after it was reached"]],
              `step ${step}, delay ${delay}`
            )
          }).pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, step))
        ),
      { discard: true }
    )
  )

  it.effect("also while the scope closes, by what was made in it later", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const over = yield* Latch.make(false)
      yield* Effect.gen(function* () {
        const deadlines = yield* Deadlines.make(limit)
        yield* Effect.addFinalizer(() => over.await)
        deadlines.add(() => over.openUnsafe())
      }).pipe(Scope.provide(scope))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("9 seconds")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
    })
  )

  it.effect("also when it is added at any moment while the one who watches goes to sleep or ends", () =>
    Effect.forEach(
      steps,
      (step) =>
        Effect.forEach(
          Array.from({ length: 15 }, (_, index) => index),
          (delay) =>
            Effect.gen(function* () {
              const slow = Effect.provideService(open, Scheduler.MaxOpsBeforeYield, step)
              for (const isTakenBack of [false, true]) {
                const { add, late, scope } = yield* slow
                const takeBack = add("first")
                const wait = Effect.repeat(Effect.yieldNow, { times: delay })
                yield* Effect.yieldNow
                if (isTakenBack) {
                  yield* Scope.close(scope, Exit.void)
                  takeBack()
                } else {
                  yield* Effect.forkChild(TestClock.adjust(limit), { startImmediately: true })
                }
                yield* wait
                add("second")
                yield* Effect.repeat(Effect.yieldNow, { times: 30 })
                yield* TestClock.adjust("20 seconds")
                yield* Effect.repeat(Effect.yieldNow, { times: 30 })
                const expected = isTakenBack ? ["second"] : ["first", "second"]
                assert.deepStrictEqual(late, expected, `step ${step}, delay ${delay}, taken back ${isTakenBack}`)
              }
            }),
          { discard: true }
        ),
      { discard: true }
    )
  )

  it.effect("each at its own time, however many come later", () =>
    Effect.gen(function* () {
      const { add, late } = yield* open
      for (const name of ["first", "second", "third"]) {
        add(name)
        yield* TestClock.adjust("3 seconds")
      }
      for (const expected of [["first"], ["first", "second"], ["first", "second", "third"]]) {
        yield* TestClock.adjust(expected.length === 1 ? "1 second" : "3 seconds")
        assert.deepStrictEqual(late, expected)
      }
    })
  )

  it.live("in the order of their times, also by a process that stood still, and whoever made them", () =>
    Effect.gen(function* () {
      for (let turn = 0; turn < 5; turn++) {
        const called: Array<string> = []
        const early = yield* Deadlines.make(Duration.millis(40))
        const later = yield* Deadlines.make(Duration.millis(60))
        early.add(() => called.push("early"))
        later.add(() => called.push("later"))
        yield* Effect.sync(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 62))
        yield* eventually(
          Effect.sync(() => called.length),
          (count) => count === 2
        )
        assert.deepStrictEqual(called, ["early", "later"])
      }
    }).pipe(Effect.scoped)
  )

  it.effect("and for one that is never reached nobody sleeps at all", () =>
    Effect.gen(function* () {
      let slept = 0
      const real = yield* Clock.Clock
      const clock: Clock.Clock = Object.create(real, {
        sleep: {
          value: (duration: Duration.Duration) => {
            slept++
            return real.sleep(duration)
          }
        }
      })
      const deadlines = yield* Effect.provideService(Deadlines.make(Duration.infinity), Clock.Clock, clock)
      const takeBack = deadlines.add(() => assert.fail("it was reached"))
      yield* TestClock.adjust("1000 days")
      takeBack()
      assert.strictEqual(slept, 0)
    }).pipe(Effect.scoped)
  )

  it.effect("and nobody is asleep for those that are not", () =>
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
      const opened = Effect.provideService(open, Clock.Clock, clock)
      const idle = yield* opened
      idle.add("taken back before")()
      yield* Effect.yieldNow
      yield* Scope.close(idle.scope, Exit.void)
      const busy = yield* opened
      const takeBack = [busy.add("one"), busy.add("another")]
      yield* Effect.yieldNow
      yield* Scope.close(busy.scope, Exit.void)
      assert.strictEqual(asleep, 1)
      for (const forget of takeBack) forget()
      yield* Effect.yieldNow
      assert.strictEqual(asleep, 0)
      busy.add("later")()
      yield* Effect.yieldNow
      assert.strictEqual(asleep, 0)
      // In the very moment in which the last one is reached, too.
      busy.deadlines.add(() => void busy.add("another at once"))
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(busy.late, ["another at once"])
      assert.strictEqual(asleep, 0)
    })
  )
})

describe("whoever waits in a scope that closes", () => {
  it.effect("for a permit is patient as long as he is to be", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const bounds: FairSemaphore.Bounds<FairSemaphore.Refusal> = {
        maxWaiting: 10,
        patience: limit,
        refuse: (refusal) => Effect.fail(refusal)
      }
      const permits = yield* Scope.provide(FairSemaphore.make<FairSemaphore.Refusal>(1, bounds), scope)
      permits.enterUnsafe("key")
      const waiting = yield* Effect.forkChild(Effect.flip(permits.withPermit("key")(Effect.void)), {
        startImmediately: true
      })
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(limit)
      assert.strictEqual(yield* Fiber.join(waiting), "late")
    })
  )

  it.effect("has his limit for what he does at the end", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const outcomes: Array<string> = []
      yield* Effect.gen(function* () {
        const within = yield* TimeLimit.make(limit, () => "late")
        // Something went on before.
        yield* within(Effect.yieldNow)
        yield* Effect.addFinalizer(() =>
          Effect.forEach(
            [Effect.as(Effect.sleep("9 seconds"), "done"), Effect.never] as const,
            (work) =>
              Effect.match(within(work), {
                onFailure: (late) => outcomes.push(late),
                onSuccess: (done) => outcomes.push(done)
              }),
            { concurrency: "unbounded" }
          )
        )
      }).pipe(Scope.provide(scope))
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(outcomes, ["done"])
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(outcomes, ["done", "late"])
      yield* Fiber.join(closing)
    })
  )
})
