/** I3 whatever one user fills, others keep a share of it: places to run, places to wait, and the time that a place is held. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/testing/TestClock"
import type { QueryRecord } from "../../src/query/QueryRecord.ts"
import { Shares } from "../../src/lifetime/internal/Shares.ts"
import { act, alone, hang, open } from "../support/scripted.ts"

/** Lets the fibers that were begun come to their statements. */
const settle = Effect.repeat(Effect.yieldNow, { times: 40 })

const isRunning = ({ state }: Pick<QueryRecord, "state">) => state === "Running"

describe("I3 a place to run", () => {
  for (const maxRunning of [1, 2, 3, 4, 10, 25]) {
    const reserved = Math.min(maxRunning, Math.max(2, Math.ceil(maxRunning / 2)))
    it.effect(`of ${maxRunning}, each of ${reserved} users finds one at once, whatever the others submit`, () =>
      alone(
        Effect.gen(function* () {
          const { registry, submit } = yield* open({
            maxRunning,
            maxRunningPerPrincipal: Math.ceil(maxRunning / 2)
          })
          for (let user = 1; user <= reserved; user++) {
            const principal = `user ${user}`
            const first = yield* submit(hang, { principal })
            yield* settle
            assert.isTrue(isRunning(yield* registry.status(principal, first.id)), principal)
            for (let more = 0; more < 20; more++) yield* submit(hang, { principal })
            yield* settle
          }
        })
      )
    )
  }

  it.effect("is used by others while nobody else is there, up to what is reserved", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open()
        for (let count = 0; count < 20; count++) yield* submit(hang)
        yield* settle
        assert.lengthOf((yield* registry.list("alice", { state: "Running" })).queries, 6)
      })
    )
  )

  it.effect("is one principal's as far as the options say so", () =>
    Effect.forEach([{ maxRunningPerPrincipal: 10 }, { reservedRunning: 0 }], (options) =>
      alone(
        Effect.gen(function* () {
          const { registry, submit } = yield* open(options)
          for (let count = 0; count < 20; count++) yield* submit(hang)
          yield* settle
          assert.lengthOf((yield* registry.list("alice", { state: "Running" })).queries, 10)
        })
      )
    )
  )

  it.effect("that gets free is for the user with the fewest, before those who wait for longer", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ maxRunning: 4 })
        const users = ["a", "b", "c"]
        for (let count = 0; count < 5; count++) for (const principal of users) yield* submit(hang, { principal })
        yield* settle
        const counts = Effect.forEach([...users, "d", "e"], (principal) =>
          Effect.map(registry.list(principal, { state: "Running" }), ({ queries }) => queries.length)
        )
        assert.deepStrictEqual(yield* counts, [2, 1, 1, 0, 0])
        for (const principal of ["d", "e"]) yield* submit(hang, { principal })
        const [oldest] = (yield* registry.list("a", { state: "Running" })).queries.toReversed()
        yield* registry.cancel("a", oldest?.id ?? assert.fail())
        yield* settle
        assert.deepStrictEqual(yield* counts, [1, 1, 1, 1, 0])
        const [only] = (yield* registry.list("b", { state: "Running" })).queries
        yield* registry.cancel("b", only?.id ?? assert.fail())
        yield* settle
        assert.deepStrictEqual((yield* counts).at(-1), 1)
      })
    )
  )
})

it.effect("I3 the places to wait that ten users fill leave one for each of a hundred others", () =>
  alone(
    Effect.gen(function* () {
      const { submit } = yield* open({ maxRunning: 1 })
      let rejected = 0
      for (let user = 0; user < 10; user++) {
        for (let count = 0; count < 110; count++) {
          const answer = yield* Effect.exit(submit(hang, { principal: `user ${user}` }))
          if (answer._tag === "Failure") rejected++
        }
      }
      assert.isAbove(rejected, 0)
      for (let other = 0; other < 90; other++) {
        assert.strictEqual((yield* submit(hang, { principal: `other ${other}` })).state, "Queued")
      }
    })
  )
)

it.effect("I3 the memory for statements that eight users fill leaves some for a ninth", () =>
  alone(
    Effect.gen(function* () {
      const mebibyte = 1024 * 1024
      const { submit } = yield* open({ maxRunning: 1 })
      const long = { ...hang, params: ["x".repeat(mebibyte)] }
      for (let user = 0; user < 8; user++) {
        for (let count = 0; count < 20; count++) {
          yield* Effect.exit(submit(long, { principal: `user ${user}` }))
        }
      }
      assert.strictEqual((yield* submit(long, { principal: "ninth" })).state, "Queued")
    })
  )
)

it.effect("I3 the keys that ten users fill leave a hundred others theirs", () =>
  alone(
    Effect.gen(function* () {
      const { registry, submit } = yield* open({ maxKeys: 1000, maxKeysPerPrincipal: 100 })
      const key = Effect.fnUntraced(function* (principal: string, name: number) {
        const submitted = yield* Effect.exit(submit(act({}), { principal, idempotencyKey: `k${name}` }))
        if (Exit.isSuccess(submitted)) yield* registry.await(principal, submitted.value.id)
        return submitted._tag
      })
      for (let user = 0; user < 10; user++) for (let name = 0; name < 100; name++) yield* key(`user ${user}`, name)
      for (let other = 0; other < 90; other++) {
        for (let name = 0; name < 2; name++) assert.strictEqual(yield* key(`other ${other}`, name), "Success")
      }
    })
  )
)

it.effect("I3 the records that others keep push out their own, and nobody's who has fewer", () =>
  alone(
    Effect.gen(function* () {
      const { registry, submit } = yield* open({ maxKept: 50, maxKeptPerPrincipal: 20 })
      const run = (principal: string) =>
        Effect.flatMap(submit(act({}), { principal }), ({ id }) => registry.await(principal, id))
      const mine = [yield* run("alice"), yield* run("alice")]
      for (let user = 0; user < 5; user++) for (let count = 0; count < 30; count++) yield* run(`user ${user}`)
      for (const { id } of mine) assert.strictEqual((yield* registry.status("alice", id)).state, "Succeeded")
      const kept = yield* Effect.forEach([0, 1, 2, 3, 4], (user) =>
        Effect.map(registry.list(`user ${user}`), ({ queries }) => queries.length)
      )
      assert.strictEqual(
        kept.reduce((sum, count) => sum + count, 2),
        50
      )
      for (const count of kept) assert.isAtLeast(count, 9)
    })
  )
)

it("I3 whatever principals take and give back, each of so many finds room for a share, and all have no more than all", () => {
  let seed = 3
  const random = (below: number) => {
    seed = (seed * 48_271) % 2_147_483_647
    return seed % below
  }
  for (let round = 0; round < 30; round++) {
    const [shares, all] = [1 + random(20), 1000 + random(100_000)]
    const ofPrincipal = 1 + random(all)
    const account = new Shares({ all, ofPrincipal, shares })
    const held = new Map<string, number>()
    for (let step = 0; step < 500; step++) {
      const principal = String(random(shares))
      const has = held.get(principal) ?? 0
      const more = random(3) === 0 ? -random(has + 1) : random(all)
      if (more <= 0 || !(account.exceedsOwn(principal, more) || account.exceedsAll(principal, more))) {
        account.add(principal, more)
        held.set(principal, has + more)
      }
      const total = Array.from(held.values()).reduce((sum, amount) => sum + amount, 0)
      assert.strictEqual(account.total, total)
      assert.isAtMost(total, all)
      for (let each = 0; each < shares; each++) {
        const missing = account.share - account.of(String(each))
        assert.isFalse(missing > 0 && account.exceedsAll(String(each), missing), `round ${round}, step ${step}`)
      }
    }
  }
})

describe("I3 nobody holds a place for ever", () => {
  it.effect("a query without a deadline has the usual one, an hour, and then the next one runs", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ maxRunning: 1 })
        const long = yield* submit(hang)
        yield* TestClock.adjust("30 minutes")
        const next = yield* submit(act({}), { principal: "bob" })
        yield* TestClock.adjust("29 minutes")
        assert.strictEqual((yield* registry.status("bob", next.id)).state, "Queued")
        yield* TestClock.adjust("1 minute")
        assert.deepInclude((yield* registry.await("alice", long.id)).error, {
          _tag: "QueryDeadlineExceeded",
          afterMillis: 3_600_000
        })
        assert.strictEqual((yield* registry.await("bob", next.id)).state, "Succeeded")
      })
    )
  )

  it.effect("a submission may ask for less, or for more up to the registry's maximum", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({
          deadline: "1 minute",
          maxDeadline: "10 minutes",
          retention: "1 day"
        })
        const after = Effect.fnUntraced(function* (deadline: Parameters<typeof submit>[1]) {
          const { id } = yield* submit(hang, deadline)
          yield* TestClock.adjust("1 hour")
          const { error } = yield* registry.await("alice", id)
          return error?._tag === "QueryDeadlineExceeded" ? error.afterMillis : error
        })
        assert.strictEqual(yield* after({}), 60_000)
        assert.strictEqual(yield* after({ deadline: "5 seconds" }), 5000)
        assert.strictEqual(yield* after({ deadline: "5 minutes" }), 300_000)
        assert.strictEqual(yield* after({ deadline: "1 day" }), 600_000)
        assert.strictEqual(yield* after({ deadline: Number.POSITIVE_INFINITY }), 600_000)
      })
    )
  )

  it.effect("nine hundred queries that wait reach their deadlines, each at its own time, and none runs after it", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ maxRunning: 1, maxWaitingPerPrincipal: 900, retention: "1 day" })
        const ids = []
        for (let count = 0; count < 900; count++) {
          ids.push((yield* submit(hang)).id)
          if (count % 100 === 0) yield* TestClock.adjust("1 minute")
        }
        yield* TestClock.adjust("1 hour")
        for (const id of ids) {
          assert.strictEqual((yield* registry.await("alice", id)).error?._tag, "QueryDeadlineExceeded")
        }
      })
    )
  )
})
