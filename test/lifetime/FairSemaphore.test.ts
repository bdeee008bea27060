import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as FairSemaphore from "../../src/lifetime/FairSemaphore.ts"
import { steps } from "../../src/testing/InterruptSweep.ts"

const placeOf = <E>(place: FairSemaphore.Place<E> | FairSemaphore.Refusal): FairSemaphore.Place<E> => {
  if (typeof place === "string") throw new Error(`There is no place: ${place}`)
  return place
}

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

  it.effect("what holders claim is claimed at the grant, and released before the permit goes on", () =>
    Effect.gen(function* () {
      const semaphore = yield* FairSemaphore.make(1)
      const log: Array<string> = []
      const claim = (name: string) => ({
        make: () => void log.push(`${name} claims`),
        release: Effect.andThen(
          Effect.yieldNow,
          Effect.sync(() => void log.push(`${name} releases`))
        )
      })
      const gate = yield* Deferred.make<void>()
      const borrow = (name: string) =>
        Effect.forkChild(Effect.scoped(Effect.andThen(semaphore.take("key", claim(name)), Deferred.await(gate))), {
          startImmediately: true
        })
      const first = yield* borrow("first")
      const gone = yield* borrow("gone")
      const second = yield* borrow("second")
      yield* Fiber.interrupt(gone)
      assert.deepStrictEqual(log, ["first claims"])
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.forEach([first, second], Fiber.join)
      assert.deepStrictEqual(log, ["first claims", "first releases", "second claims", "second releases"])
    })
  )

  it.effect("C4 what was claimed is released once, whichever point its holder is interrupted at", () =>
    Effect.forEach(
      steps,
      (step) =>
        Effect.forEach(
          Array.from({ length: 40 }, (_, index) => index),
          (delay) =>
            Effect.scoped(
              Effect.gen(function* () {
                const semaphore = yield* FairSemaphore.make(1)
                let [claimed, most, released] = [0, 0, 0]
                const claim = {
                  make: () => {
                    claimed++
                    most = Math.max(most, claimed - released)
                  },
                  release: Effect.andThen(
                    Effect.yieldNow,
                    Effect.sync(() => void released++)
                  )
                }
                const user = Effect.scoped(Effect.andThen(semaphore.take("key", claim), Effect.yieldNow))
                const fibers = yield* Effect.forEach([user, user, user], (effect) =>
                  Effect.forkChild(Effect.provideService(effect, Scheduler.MaxOpsBeforeYield, step))
                )
                yield* Effect.repeat(Effect.yieldNow, { times: delay })
                yield* Effect.forEach(fibers, Fiber.interrupt, { concurrency: "unbounded" })
                assert.deepStrictEqual([released, most <= 1], [claimed, true], `step ${step}, delay ${delay}`)
                yield* Effect.timeout(semaphore.withPermit("key")(Effect.void), "1 hour")
              })
            ),
          { discard: true }
        ),
      { discard: true }
    )
  )

  it.effect("C4 a holder that is interrupted while its claim is made releases it, and its permit", () =>
    Effect.gen(function* () {
      const semaphore = yield* FairSemaphore.make(1)
      const first = placeOf(semaphore.enterUnsafe("key"))
      let released = 0
      const claim = {
        make: () => fiber.interruptUnsafe(),
        release: Effect.sync(() => void released++)
      }
      const fiber: Fiber.Fiber<void> = yield* Effect.forkChild(Effect.scoped(semaphore.take("key", claim)), {
        startImmediately: true
      })
      first.leave()
      yield* Fiber.await(fiber)
      assert.strictEqual(released, 1)
      assert.strictEqual(yield* Effect.timeout(semaphore.withPermit("key")(Effect.succeed("free")), "1 hour"), "free")
    })
  )

  it.effect("after the end nobody who waits is granted what one who is refused gives back", () =>
    Effect.gen(function* () {
      const semaphore = yield* FairSemaphore.make<FairSemaphore.Refusal>(1, { maxWaiting: 10, refuse: Effect.fail })
      const holder = placeOf(semaphore.enterUnsafe("key"))
      placeOf(semaphore.enterUnsafe("key")).told(() => holder.leave())
      let exit: Exit.Exit<void, FairSemaphore.Refusal> | undefined
      placeOf(semaphore.enterUnsafe("key")).told((news) => {
        exit = Effect.runSyncExit(news)
      })
      yield* semaphore.close
      assert.deepStrictEqual(exit, Exit.fail("closed"))
    })
  )

  it.effect("C4 who was granted a permit keeps it for as long as he likes, and gives it back when he leaves", () =>
    Effect.gen(function* () {
      const semaphore = yield* FairSemaphore.make<FairSemaphore.Refusal>(1, {
        maxWaiting: 10,
        patience: Duration.seconds(10),
        refuse: Effect.fail
      })
      const news: Array<string> = []
      const enter = (name: string) => {
        const place = placeOf(semaphore.enterUnsafe("key"))
        place.told((news_) =>
          news.push(`${name} ${Exit.isExit(news_) && Exit.isFailure(news_) ? "refused" : "granted"}`)
        )
        return place
      }
      const first = enter("first")
      yield* TestClock.adjust("5 seconds")
      const second = enter("second")
      const leaver = enter("leaver")
      yield* TestClock.adjust("9 seconds")
      leaver.leave()
      first.leave()
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(news, ["first granted", "second granted"])
      const third = enter("third")
      second.leave()
      assert.deepStrictEqual(news, ["first granted", "second granted", "third granted"])
      enter("fourth")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(news.slice(3), ["fourth refused"])
      third.leave()
      enter("fifth")
      assert.deepStrictEqual(news.slice(4), ["fifth granted"])
    }).pipe(Effect.scoped)
  )

  it.effect("after the end whoever waits and whoever comes is refused, also while a permit is free", () =>
    Effect.gen(function* () {
      const semaphore = yield* FairSemaphore.make<FairSemaphore.Refusal>(1, { maxWaiting: 10, refuse: Effect.fail })
      const holder = placeOf(semaphore.enterUnsafe("a"))
      const waiting = yield* Effect.forkChild(Effect.flip(semaphore.withPermit("b")(Effect.void)), {
        startImmediately: true
      })
      yield* semaphore.close
      assert.strictEqual(yield* Fiber.join(waiting), "closed")
      holder.leave()
      assert.strictEqual(semaphore.enterUnsafe("c"), "closed")
      assert.strictEqual(yield* Effect.flip(semaphore.withPermit("d")(Effect.void)), "closed")
    })
  )

  it.effect("C4 a waiter that was granted its permit keeps it for longer than it may wait, and gives it back", () =>
    Effect.gen(function* () {
      const semaphore = yield* FairSemaphore.make(1, {
        maxWaiting: 10,
        patience: Duration.seconds(10),
        refuse: (refusal) => Effect.fail(refusal)
      })
      const [first, second] = [yield* Scope.make(), yield* Scope.make()]
      yield* Scope.provide(semaphore.take(""), first)
      const waiting = yield* Effect.forkChild(Scope.provide(semaphore.take(""), second), { startImmediately: true })
      yield* TestClock.adjust("4 seconds")
      yield* Scope.close(first, Exit.void)
      yield* Fiber.join(waiting)
      // Its patience would be over.
      yield* TestClock.adjust("20 seconds")
      const third = yield* Effect.forkChild(semaphore.withPermit("")(Effect.void), { startImmediately: true })
      assert.strictEqual(semaphore.waiting(), 1)
      yield* Scope.close(second, Exit.void)
      yield* Fiber.join(third)
      assert.strictEqual(semaphore.waiting(), 0)
    }).pipe(Effect.scoped)
  )

  it.effect(
    "a key that holds all it may is passed over, those that hold the fewest come first, and each has a queue of its own length",
    () =>
      Effect.gen(function* () {
        const semaphore = yield* FairSemaphore.make<string>(3, {
          maxWaiting: 4,
          perKey: { permits: 2, maxWaiting: 2 },
          refuse: Effect.fail
        })
        const granted: Array<string> = []
        const enter = (name: string) => {
          const place = placeOf(semaphore.enterUnsafe(name.charAt(0)))
          place.told(() => granted.push(name))
          return place
        }
        const [a1, a2] = [enter("a1"), enter("a2")]
        const a3 = enter("a3")
        enter("a4")
        assert.deepStrictEqual([granted, semaphore.waiting(), semaphore.waiting("a")], [["a1", "a2"], 2, 2])
        assert.strictEqual(semaphore.enterUnsafe("a"), "full")
        const b1 = enter("b1")
        enter("b2")
        enter("c1")
        assert.strictEqual(semaphore.enterUnsafe("d"), "full")
        // What b gives back is c's, although a came first: a has two, and b has just had one.
        b1.leave()
        assert.deepStrictEqual(granted, ["a1", "a2", "b1", "c1"])
        a3.leave()
        a1.leave()
        a1.leave()
        // One of a's is left, and none of b's.
        assert.deepStrictEqual(granted, ["a1", "a2", "b1", "c1", "b2"])
        a2.leave()
        assert.deepStrictEqual(granted, ["a1", "a2", "b1", "c1", "b2", "a4"])
        assert.strictEqual(semaphore.waiting(), 0)
      })
  )

  it.effect(
    "I3 however keys come and go, what is reserved is free for keys that hold none, and no permit is idle in vain",
    () =>
      Effect.gen(function* () {
        let seed = 1
        const random = (below: number) => {
          seed = (seed * 48_271) % 2_147_483_647
          return seed % below
        }
        for (let round = 0; round < 200; round++) {
          const permits = 1 + random(10)
          const reserved = random(permits + 1)
          const perKey = { permits: 1 + random(permits), reserved, maxWaiting: 20, reservedWaiting: 20 }
          const semaphore = yield* FairSemaphore.make<string>(permits, {
            maxWaiting: 60,
            perKey,
            refuse: Effect.fail
          })
          const places: Array<{ readonly key: string; readonly leave: () => void; isGranted: boolean }> = []
          for (let step = 0; step < 100; step++) {
            if (random(3) > 0) {
              const key = String(random(12))
              const place = semaphore.enterUnsafe(key)
              if (typeof place === "string") {
                const waiting = places.filter(({ isGranted }) => !isGranted).length
                const theirs = places.filter((it) => it.key === key && !it.isGranted).length
                assert.isTrue(
                  theirs > 0 || waiting >= 60,
                  "only a key that waits already is refused before all is full"
                )
              } else {
                const entered = { key, leave: () => place.leave(), isGranted: false }
                places.push(entered)
                place.told(() => (entered.isGranted = true))
              }
            } else if (places.length > 0) places.splice(random(places.length), 1)[0]?.leave()
            const held = new Map<string, number>()
            for (const { isGranted, key } of places) if (isGranted) held.set(key, (held.get(key) ?? 0) + 1)
            const all = Array.from(held.values()).reduce((sum, count) => sum + count, 0)
            assert.isAtMost(all, permits)
            assert.isAtMost(all - held.size, permits - reserved)
            if (all === permits) continue
            for (const { isGranted, key } of places) {
              const isHeldBack = (held.get(key) ?? 0) >= perKey.permits || all - held.size >= permits - reserved
              assert.isTrue(isGranted || (held.has(key) && isHeldBack), `round ${round}, step ${step}`)
            }
          }
        }
      })
  )

  it.effect(
    "C4 with caps per key: whatever is interrupted when, all permits come back and no key exceeds its cap",
    () =>
      Effect.forEach(
        steps,
        (step) =>
          Effect.forEach(
            Array.from({ length: 20 }, (_, index) => index),
            (delay) =>
              Effect.gen(function* () {
                const semaphore = yield* FairSemaphore.make(3, {
                  maxWaiting: 100,
                  perKey: { permits: 2, maxWaiting: 100 },
                  refuse: () => Effect.die(new Error("There is room for all of them"))
                })
                const holding = new Map<string, number>()
                const change = (key: string, by: number) => {
                  const now = (holding.get(key) ?? 0) + by
                  holding.set(key, now)
                  assert.isAtMost(now, 2, `key ${key}, step ${step}, delay ${delay}`)
                }
                const user = (key: string) =>
                  semaphore.withPermit(key)(
                    Effect.acquireUseRelease(
                      Effect.sync(() => change(key, 1)),
                      () => Effect.yieldNow,
                      () => Effect.sync(() => change(key, -1))
                    )
                  )
                const fibers = yield* Effect.forEach(["a", "a", "a", "b", "a", "b", "b"], (key) =>
                  Effect.forkChild(Effect.provideService(user(key), Scheduler.MaxOpsBeforeYield, step))
                )
                yield* Effect.repeat(Effect.yieldNow, { times: delay })
                yield* Effect.forEach(fibers.slice(0, 4), Fiber.interrupt)
                yield* Effect.forEach(fibers, Fiber.await)
                const places = ["a", "b", "a"].map((key) => placeOf(semaphore.enterUnsafe(key)))
                let granted = 0
                for (const place of places) place.told(() => granted++)
                assert.strictEqual(granted, 3)
                assert.strictEqual(semaphore.waiting(), 0)
              }),
            { discard: true }
          ),
        { discard: true }
      )
  )
})
