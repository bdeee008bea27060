import { assert, describe, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { TestClock } from "effect/testing"
import * as FailureCounts from "../../src/server/FailureCounts.ts"
import { layer as layerLogins, Logins } from "../../src/server/Logins.ts"

const wrong = Effect.succeedNone
const right = Effect.succeedSome("in")

/** How an attempt came out. */
const outcome = (username: string, client: string, check: Effect.Effect<Option.Option<string>, string>) =>
  Effect.flatMap(Logins, ({ attempt }) => attempt({ username, client }, Effect.void, () => check)).pipe(
    Effect.match({
      onFailure: (error) =>
        typeof error === "string" ? error : error._tag === "LoginsRefused" ? error.because : error._tag,
      onSuccess: Option.getOrElse(() => "wrong")
    })
  )

const repeated = (count: number, attempt: (index: number) => ReturnType<typeof outcome>) =>
  Effect.forEach(
    Array.from({ length: count }, (_, index) => index),
    attempt
  )

const tally = (outcomes: ReadonlyArray<string>) => {
  const counts: Record<string, number> = {}
  for (const each of outcomes) counts[each] = (counts[each] ?? 0) + 1
  return counts
}

describe("attempts to log in", () => {
  layer(layerLogins.pipe(Layer.provide(FailureCounts.layerMemory)))((it) => {
    it.effect("ten failures of a user from a client are all; others and elsewhere go on; it is over in time", () =>
      Effect.gen(function* () {
        const all = yield* repeated(12, () => outcome("alice", "192.0.2.1", wrong))
        assert.deepStrictEqual(tally(all), { wrong: 10, failures: 2 })
        assert.strictEqual(yield* outcome("alice", "192.0.2.1", right), "failures")
        assert.strictEqual(yield* outcome("alice", "192.0.2.2", right), "in")
        assert.strictEqual(yield* outcome("bob", "192.0.2.1", right), "in")
        const refusal = yield* Effect.flip(
          Effect.flatMap(Logins, ({ attempt }) =>
            attempt({ username: "alice", client: "192.0.2.1" }, Effect.void, () => right)
          )
        )
        assert.strictEqual(refusal._tag === "LoginsRefused" && refusal.retryAfterSeconds, 300)
        yield* TestClock.adjust(Duration.minutes(5))
        assert.strictEqual(yield* outcome("alice", "192.0.2.1", right), "in")
      })
    )

    it.effect("a clock that is set back keeps nobody out for longer", () =>
      Effect.gen(function* () {
        yield* TestClock.adjust(Duration.hours(2))
        yield* repeated(10, () => outcome("ada", "192.0.2.77", wrong))
        yield* TestClock.setTime(Duration.toMillis(Duration.hours(1)))
        assert.strictEqual(yield* outcome("ada", "192.0.2.77", right), "failures")
        yield* TestClock.adjust(Duration.minutes(5))
        assert.strictEqual(yield* outcome("ada", "192.0.2.77", right), "in")
      })
    )

    it.effect("a hundred failures from a client are all, whoever they are of", () =>
      Effect.gen(function* () {
        const all = yield* repeated(105, (index) => outcome(`user ${index}`, "198.51.100.1", wrong))
        assert.deepStrictEqual(tally(all), { wrong: 100, failures: 5 })
        assert.strictEqual(yield* outcome("bob", "198.51.100.1", right), "failures")
        assert.strictEqual(yield* outcome("bob", "198.51.100.2", right), "in")
      })
    )

    it.effect("no success and no check that could not be made counts", () =>
      Effect.gen(function* () {
        const all = yield* repeated(300, (index) =>
          outcome("carol", "203.0.113.1", index % 2 === 0 ? right : Effect.fail("away"))
        )
        assert.deepStrictEqual(tally(all), { in: 150, away: 150 })
        assert.deepStrictEqual(tally(yield* repeated(11, () => outcome("carol", "203.0.113.1", wrong))), {
          wrong: 10,
          failures: 1
        })
      })
    )

    it.effect("parallel attempts and attempts that are given up are no way around the limit", () =>
      Effect.gen(function* () {
        const slow = Effect.andThen(Effect.yieldNow, wrong)
        const all = yield* Effect.all(
          Array.from({ length: 50 }, () => outcome("dave", "203.0.113.2", slow)),
          { concurrency: 10 }
        )
        assert.deepStrictEqual(tally(all), { wrong: 10, failures: 40 })

        for (let index = 0; index < 10; index++) {
          const begun = yield* Deferred.make<void>()
          const check = Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
          const fiber = yield* Effect.forkChild(outcome("erin", "203.0.113.3", check), { startImmediately: true })
          yield* Deferred.await(begun)
          yield* Fiber.interrupt(fiber)
        }
        assert.strictEqual(yield* outcome("erin", "203.0.113.3", right), "failures")
      })
    )

    it.effect("never more than ten failures in any five minutes, wherever they begin", () =>
      Effect.gen(function* () {
        const failedAt: Array<number> = []
        // One early and nine at the end of its time, then whatever is let through, for a quarter of an hour.
        for (let second = 0; second < 1200; second += 10) {
          const attempts = second === 0 ? 1 : second < 290 ? 0 : 10
          for (let index = 0; index < attempts; index++) {
            if ((yield* outcome("grace", "203.0.113.4", wrong)) === "wrong") failedAt.push(second)
          }
          yield* TestClock.adjust("10 seconds")
        }
        for (const from of failedAt) {
          const within = failedAt.filter((at) => at >= from && at < from + 300)
          assert.isAtMost(within.length, 10, `from second ${from}`)
        }
        assert.deepStrictEqual(tally(failedAt.map(String)), {
          0: 1,
          290: 9,
          300: 1,
          590: 9,
          600: 1,
          890: 9,
          900: 1,
          1190: 9
        })
      })
    )

    it.effect("one client fills its share of the room and no more, whatever accounts it has", () =>
      Effect.gen(function* () {
        const waiting = (username: string, client: string) =>
          Effect.forkChild(
            Effect.flatMap(Logins, ({ attempt }) => attempt({ username, client }, Effect.never, () => right)),
            { startImmediately: true }
          )
        const mine = yield* Effect.forEach(Array.from({ length: 10 }), () => waiting("heidi", "192.0.2.50"))
        assert.strictEqual(yield* outcome("heidi", "192.0.2.50", right), "waiting")
        assert.strictEqual(yield* outcome("ivan", "192.0.2.50", right), "in")
        assert.strictEqual(yield* outcome("heidi", "192.0.2.51", right), "in")
        const others = yield* Effect.forEach(Array.from({ length: 15 }), (_, index) =>
          waiting(`${index}`, "192.0.2.50")
        )
        assert.strictEqual(yield* outcome("ivan", "192.0.2.50", right), "waiting")
        assert.strictEqual(yield* outcome("ivan", "192.0.2.51", right), "in")
        yield* Fiber.interruptAll([...mine, ...others])
        assert.strictEqual(yield* outcome("heidi", "192.0.2.50", right), "in")
      })
    )

    it.effect("two are checked at a time and a hundred wait; who gives up makes room; clients take turns", () =>
      Effect.gen(function* () {
        const go = yield* Deferred.make<void>()
        const order: Array<string> = []
        const attempt = (client: string, username = "frank") =>
          Effect.forkChild(
            outcome(
              username,
              client,
              Effect.andThen(
                Effect.sync(() => order.push(client)),
                Effect.as(Deferred.await(go), Option.some("in"))
              )
            ),
            { startImmediately: true }
          )
        const away = yield* Effect.forkChild(
          Effect.flatMap(Logins, ({ attempt }) =>
            attempt({ username: "frank", client: "away" }, Effect.never, () => right)
          ),
          { startImmediately: true }
        )
        const many = yield* Effect.forEach(Array.from({ length: 20 }), (_, index) =>
          attempt("many", `user ${index % 5}`)
        )
        const more = yield* Effect.forEach(Array.from({ length: 80 }), (_, index) => attempt(`more ${index % 8}`))
        const one = yield* attempt("one")
        assert.deepStrictEqual(order, ["many", "many"])
        assert.strictEqual(yield* outcome("frank", "many", right), "waiting")
        const [, , third] = many
        const newest = many.at(-1)
        if (third !== undefined) yield* Fiber.interrupt(third)
        const late = yield* attempt("late")
        assert.isUndefined(newest?.pollUnsafe())
        // The newest of the client that has the most makes room.
        const latest = yield* attempt("latest")
        assert.strictEqual(newest === undefined ? newest : yield* Fiber.join(newest), "waiting")
        yield* Deferred.succeed(go, undefined)
        assert.strictEqual(yield* Fiber.join(one), "in")
        // Behind the first of each of the others, and not behind all of them.
        assert.isBelow(order.indexOf("one"), 15)
        assert.strictEqual(yield* Fiber.join(late), "in")
        assert.strictEqual(yield* Fiber.join(latest), "in")
        const rest = [...many, ...more].filter((fiber) => fiber !== third && fiber !== newest)
        assert.deepStrictEqual(tally(yield* Fiber.joinAll(rest)), { in: 98 })
        // Who waits for a database has a place in the room, and takes nobody's turn.
        yield* Fiber.interrupt(away)
      })
    )
  })
})

describe("the counters", () => {
  const limits = (key: string) => [{ key, most: 10 }]

  const begin = (counts: FailureCounts.Counters, key: string) => {
    const begun = counts.begin(limits(key))
    assert.isFalse(Duration.isDuration(begun))
    return begun as FailureCounts.CountersAttempt
  }

  it("are dropped when their time is over, however many there were", () => {
    let now = 0
    const counts = FailureCounts.make(Duration.minutes(5), () => now)
    let most = 0
    for (let index = 0; index < 20_000; index++) {
      begin(counts, `user ${index}`).failed()
      if (index % 10 === 0) now += 1000
      most = Math.max(most, counts.size())
    }
    // Ten in a second make three thousand within the window, and twice as many between two times of looking through.
    assert.isAtMost(most, 6100)
  })

  it("looking at one does not make one, and an attempt that is taken off leaves none", () => {
    const counts = FailureCounts.make(Duration.minutes(5), () => 0)
    assert.isUndefined(counts.wait(limits("k")))
    assert.strictEqual(counts.size(), 0)
    const attempt = begin(counts, "k")
    assert.strictEqual(counts.size(), 1)
    attempt.takeOff()
    assert.strictEqual(counts.size(), 0)
  })
})
