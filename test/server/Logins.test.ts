import { assert, describe, it, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as RateLimiter from "effect/persistence/RateLimiter"
import { TestClock } from "effect/testing"
import * as FailureCounts from "../../src/server/FailureCounts.ts"
import { layer as layerLogins, Logins } from "../../src/server/Logins.ts"

const wrong = Effect.succeedNone
const right = Effect.succeedSome("in")

/** How an attempt came out. */
const outcome = (username: string, client: string, check: Effect.Effect<Option.Option<string>, string>) =>
  Effect.flatMap(Logins, ({ attempt }) => attempt({ username, client }, Effect.void, () => check)).pipe(
    Effect.match({
      onFailure: (error) => (typeof error === "string" ? error : error.because),
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
  layer(layerLogins)((it) => {
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
        assert.strictEqual(refusal.retryAfterSeconds, 300)
        yield* TestClock.adjust(Duration.minutes(5))
        assert.strictEqual(yield* outcome("alice", "192.0.2.1", right), "in")
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
          { concurrency: "unbounded" }
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

    it.effect("two are checked at a time and a hundred wait; who gives up makes room; clients take turns", () =>
      Effect.gen(function* () {
        const go = yield* Deferred.make<void>()
        const order: Array<string> = []
        const attempt = (client: string) =>
          Effect.forkChild(
            outcome(
              "frank",
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
        const many = yield* Effect.forEach(Array.from({ length: 100 }), () => attempt("many"))
        const one = yield* attempt("one")
        assert.deepStrictEqual(order, ["many", "many"])
        assert.strictEqual(yield* outcome("frank", "late", right), "waiting")
        const [, , third] = many
        if (third !== undefined) yield* Fiber.interrupt(third)
        const late = yield* attempt("late")
        yield* Deferred.succeed(go, undefined)
        assert.strictEqual(yield* Fiber.join(one), "in")
        assert.isBelow(order.indexOf("one"), 5)
        assert.strictEqual(yield* Fiber.join(late), "in")
        const rest = many.filter((fiber) => fiber !== third)
        assert.deepStrictEqual(tally(yield* Fiber.joinAll(rest)), { in: 99 })
        // Who waits for a database has a place in the room, and takes nobody's turn.
        yield* Fiber.interrupt(away)
      })
    )
  })
})

describe("the counters", () => {
  it.effect("are dropped when their time is over, however many there were", () =>
    Effect.gen(function* () {
      const { size, store } = yield* FailureCounts.make
      const limiter = yield* Effect.provideService(RateLimiter.make, RateLimiter.RateLimiterStore, store)
      const fail = (key: string) => limiter.consume({ key, limit: 10, window: "5 minutes" })
      let most = 0
      for (let index = 0; index < 20_000; index++) {
        yield* fail(`user ${index}`)
        if (index % 10 === 0) yield* TestClock.adjust("1 second")
        most = Math.max(most, size())
      }
      // One failure is forgotten after half a minute, so no more than 300 are ever alive.
      assert.isAtMost(most, 1024)
    })
  )

  it.effect("looking at one does not make one", () =>
    Effect.gen(function* () {
      const { size, store } = yield* FailureCounts.make
      const limiter = yield* Effect.provideService(RateLimiter.make, RateLimiter.RateLimiterStore, store)
      const take = (tokens: number) => limiter.consume({ key: "k", limit: 10, window: "5 minutes", tokens })
      assert.strictEqual((yield* take(0)).remaining, 10)
      assert.strictEqual(size(), 0)
      yield* take(1)
      assert.strictEqual(size(), 1)
      yield* take(-1)
      assert.strictEqual(size(), 0)
    })
  )
})
