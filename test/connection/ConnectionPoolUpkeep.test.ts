/** What a pool does with its connections by itself, and what an operator may have it do. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import { ConnectionError, NoRoom, Unavailable } from "../../src/connection/ConnectionError.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import type { State } from "../../src/connection/ConnectionSource.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as ScriptedConnectionSource from "../../src/testing/ScriptedConnectionSource.ts"
import { eventually } from "../support/conditions.ts"

type Pool = ConnectionPool.ConnectionPool["Service"]

const withPool = <A, E>(
  options: ConnectionPool.Options,
  script: ScriptedConnectionSource.Script,
  test: (pool: Pool, log: ScriptedConnectionSource.Log) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const { log, source } = yield* ScriptedConnectionSource.make(script)
    yield* Effect.flatMap(ConnectionPool.ConnectionPool, (pool) => Effect.scoped(test(pool, log))).pipe(
      Effect.provide(ConnectionPool.layer(options).pipe(Layer.provide(ScriptedConnectionSource.layer(source))))
    )
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

const held = (pool: Pool) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const lease = yield* Scope.provide(pool.lease(), scope)
    return { ...lease, release: Scope.close(scope, Exit.void) }
  })

const once = (pool: Pool) => Effect.scoped(Effect.map(pool.lease(), ({ id }) => id))

const opened = ({ events }: ScriptedConnectionSource.Log) => events.filter((event) => /open|close/.test(event))

const broken = new ConnectionError({ reason: new Unavailable({ source: "script", cause: new Error("broken") }) })
const full = new ConnectionError({ reason: new NoRoom({ source: "script", cause: new Error("too many clients") }) })

const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    return Effect.map(
      Effect.provide(effect, Logger.layer([Logger.make(({ message }) => lines.push(String(message)))])),
      () => lines
    )
  })

/** The options that have nothing to do with the matter. */
const lasting = { idleTimeout: "6 hours", maxLifetime: "6 hours", checkAfterIdle: "6 hours" } as const

describe("idle connections have an owner that looks at them", () => {
  it.effect("`min` are there from the beginning, and again two seconds after they died", () => {
    const dead = new Set<number>()
    return withPool(
      { ...lasting, min: 2, max: 5 },
      { state: (number): State => (dead.has(number) ? "dead" : "usable") },
      (pool, log) =>
        Effect.gen(function* () {
          yield* TestClock.adjust("1 millis")
          assert.deepInclude(yield* pool.stats, { open: 2, idle: 2 })
          dead.add(1).add(2)
          yield* TestClock.adjust("2 seconds")
          assert.deepInclude(yield* pool.stats, { open: 2, idle: 2 })
          assert.deepStrictEqual(opened(log).toSorted(), ["close 1", "close 2", "open 1", "open 2", "open 3", "open 4"])
        })
    )
  })

  it.effect("one of `min` that is idle is replaced when it is too old", () =>
    withPool({ ...lasting, min: 1, maxLifetime: "10 minutes" }, {}, (pool, log) =>
      Effect.gen(function* () {
        yield* TestClock.adjust("8 minutes")
        assert.deepStrictEqual(opened(log), ["open 1"])
        yield* TestClock.adjust("3 minutes")
        assert.deepStrictEqual(opened(log), ["open 1", "close 1", "open 2"])
        assert.deepInclude(yield* pool.stats, { open: 1, idle: 1 })
      })
    )
  )

  it.effect("those above `min` are closed when they are idle for too long, and those of `min` are not", () =>
    withPool({ ...lasting, min: 1, max: 3, idleTimeout: "1 minute" }, {}, (pool) =>
      Effect.gen(function* () {
        yield* Effect.scoped(Effect.all([held(pool), held(pool), held(pool)]))
        assert.deepInclude(yield* pool.stats, { open: 3, idle: 3 })
        yield* TestClock.adjust("59 seconds")
        assert.deepInclude(yield* pool.stats, { open: 3 })
        yield* TestClock.adjust("2 seconds")
        assert.deepInclude(yield* pool.stats, { open: 1, idle: 1 })
      })
    )
  )

  it.effect("a lease that is retired has no other opened when `min` is 0 and nobody waits", () =>
    withPool({ ...lasting, max: 3 }, {}, (pool, log) =>
      Effect.gen(function* () {
        yield* Effect.scoped(Effect.flatMap(pool.lease(), ({ retire }) => retire))
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(opened(log), ["open 1", "close 1"])
      })
    )
  )

  it.effect("a server that takes no connection is asked for `min` once a second, and told of once", () =>
    Effect.gen(function* () {
      let attempts = 0
      let isAway = true
      const lines = yield* logged(
        withPool(
          { ...lasting, min: 1 },
          {
            open: () =>
              Effect.suspend(() => {
                attempts++
                return isAway ? Effect.fail(broken) : Effect.void
              })
          },
          (pool) =>
            Effect.gen(function* () {
              yield* TestClock.adjust("10 seconds")
              assert.isAtLeast(attempts, 10)
              assert.isAtMost(attempts, 12)
              isAway = false
              yield* TestClock.adjust("1 second")
              assert.deepInclude(yield* pool.stats, { idle: 1 })
            })
        )
      )
      assert.strictEqual(lines.filter((line) => line.includes("cannot be opened")).length, 1, lines.join("\n"))
      assert.strictEqual(lines.filter((line) => line.includes("can be opened again")).length, 1)
    })
  )

  it.effect("C10 one failed check closes those that were not heard from since, and spares a newer one", () =>
    Effect.suspend(() => {
      let isSilent = false
      return withPool(
        { ...lasting, max: 4, checkAfterIdle: "5 seconds" },
        { check: (number) => Effect.suspend(() => (isSilent && number <= 3 ? Effect.never : Effect.void)) },
        (pool, log) =>
          Effect.gen(function* () {
            const newest = yield* Effect.scoped(
              Effect.gen(function* () {
                const first = yield* Effect.all([held(pool), held(pool), held(pool)])
                yield* Effect.forEach(first, ({ release }) => release)
                yield* TestClock.adjust("6 seconds")
                isSilent = true
                // Its check begins now.
                const borrower = yield* Effect.forkScoped(held(pool), { startImmediately: true })
                yield* TestClock.adjust("3050 millis")
                return (yield* Fiber.join(borrower)).id
              })
            )
            assert.strictEqual(newest, "4")
            // What the process may have to read still is waited for in real time.
            const closed = Effect.sync(() => log.events.filter((event) => event.startsWith("close")).toSorted())
            yield* TestClock.withLive(eventually(closed, ({ length }) => length === 3))
            assert.deepStrictEqual(yield* closed, ["close 1", "close 2", "close 3"])
            assert.deepInclude(yield* pool.stats, { open: 1, idle: 1 })
          })
      )
    })
  )

  it.effect("C4 a borrower that gives up during a check does not put the connection back unasked", () =>
    withPool(
      { ...lasting, max: 1, checkAfterIdle: "1 second", acquireTimeout: "1 second" },
      { check: (number) => (number === 1 ? Effect.never : Effect.void) },
      (pool) =>
        Effect.gen(function* () {
          yield* once(pool)
          yield* TestClock.adjust("2 seconds")
          const first = yield* Effect.forkChild(Effect.flip(once(pool)), { startImmediately: true })
          yield* TestClock.adjust("1 second")
          assert.strictEqual((yield* Fiber.join(first)).reason._tag, "AcquireTimeout")
          yield* TestClock.adjust("2100 millis")
          assert.strictEqual(yield* once(pool), "2")
          assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 })
        })
    )
  )
})

describe("no room for one more connection is not away", () => {
  const rooms = (limit: number, closed: { count: number }): ScriptedConnectionSource.Script => {
    let open = 0
    return {
      open: () =>
        Effect.suspend(() => {
          if (open >= limit) return Effect.fail(full)
          open++
          return Effect.void
        }),
      close: () =>
        Effect.sync(() => {
          open--
          closed.count++
        })
    }
  }

  it.effect("borrowers take turns on what is open, it is said once, and the pool can be used", () =>
    Effect.gen(function* () {
      const lines = yield* logged(
        withPool({ ...lasting, max: 10 }, rooms(5, { count: 0 }), (pool) =>
          Effect.gen(function* () {
            let running = 0
            let most = 0
            const borrower = Effect.scoped(
              Effect.gen(function* () {
                yield* pool.lease()
                most = Math.max(most, ++running)
                yield* Effect.sleep("1 second")
                running--
              })
            )
            const all = yield* Effect.forEach(Array.from({ length: 20 }), () => Effect.forkChild(borrower))
            yield* TestClock.adjust("1 millis")
            // All five are lent: the server works.
            assert.isTrue(Exit.isSuccess(yield* Effect.exit(pool.ping)))
            yield* TestClock.adjust("6 seconds")
            yield* Effect.forEach(all, Fiber.join)
            assert.strictEqual(most, 5)
            assert.deepInclude(yield* pool.stats, { open: 5, leased: 0, waiting: 0 })
            assert.isTrue(Exit.isSuccess(yield* Effect.exit(pool.ping)))
          })
        )
      )
      assert.strictEqual(lines.filter((line) => line.includes("no room")).length, 1, lines.join("\n"))
    })
  )

  it.effect(
    "a borrower for whom there is none at all waits, has the first place that becomes free, or is told so",
    () =>
      Effect.suspend(() => {
        let limit = 0
        return withPool(
          { ...lasting, acquireTimeout: "5 seconds" },
          { open: () => Effect.suspend(() => (limit === 0 ? Effect.fail(full) : Effect.void)) },
          (pool) =>
            Effect.gen(function* () {
              const refused = yield* Effect.forkChild(Effect.flip(once(pool)), { startImmediately: true })
              yield* TestClock.adjust("5 seconds")
              assert.strictEqual((yield* Fiber.join(refused)).reason._tag, "NoRoom")
              const waiting = yield* Effect.forkChild(once(pool), { startImmediately: true })
              yield* TestClock.adjust("1500 millis")
              limit = 1
              yield* TestClock.adjust("1500 millis")
              yield* Fiber.join(waiting)
            })
        )
      })
  )

  it.effect("a server that takes some time to refuse is not asked again at once, however many wait", () =>
    Effect.suspend(() => {
      let opens = 0
      // After so many the law is broken, and nothing is refused any more.
      const takes = Effect.suspend(() =>
        ++opens > 20 ? Effect.never : Effect.sleep(opens % 2 === 0 ? "20 millis" : "10 millis")
      )
      const refuse = Effect.andThen(takes, Effect.fail(full))
      return withPool({ ...lasting, max: 3, acquireTimeout: "5 seconds" }, { open: () => refuse }, (pool) =>
        Effect.gen(function* () {
          const waiting = yield* Effect.forEach([1, 2, 3, 4, 5], () => Effect.forkChild(Effect.flip(once(pool))))
          yield* TestClock.adjust("5 seconds")
          yield* Effect.forEach(waiting, Fiber.join)
          // The first three, and one more for each second.
          assert.isAtMost(opens, 9)
        })
      )
    })
  )

  it.effect("the limit is forgotten after a minute", () =>
    Effect.suspend(() => {
      let limit = 1
      let open = 0
      return withPool(
        { ...lasting, max: 3 },
        { open: () => Effect.suspend(() => (open >= limit ? Effect.fail(full) : Effect.sync(() => open++))) },
        (pool) =>
          Effect.gen(function* () {
            yield* held(pool)
            const second = yield* Effect.forkScoped(held(pool), { startImmediately: true })
            yield* TestClock.adjust("1 millis")
            assert.isUndefined(second.pollUnsafe())
            yield* Fiber.interrupt(second)
            limit = 3
            yield* TestClock.adjust("61 seconds")
            yield* Effect.all([held(pool), held(pool)])
            assert.deepInclude(yield* pool.stats, { open: 3, leased: 3 })
          })
      )
    })
  )
})

describe("what an app may have done with its connections", () => {
  it.effect("`onOpen` runs once on each before it is lent; where it fails, the connection is closed", () =>
    Effect.gen(function* () {
      let runs = 0
      const onOpen = Effect.gen(function* () {
        yield* SqlClient.SqlClient
        runs++
        if (runs === 2) return yield* Effect.fail("no primary")
      })
      yield* withPool({ ...lasting, onOpen }, {}, (pool, log) =>
        Effect.gen(function* () {
          const first = yield* held(pool)
          const error = yield* Effect.flip(once(pool))
          assert.deepInclude(error.reason, { _tag: "Unavailable", cause: "no primary" })
          yield* first.release
          yield* once(pool)
          assert.strictEqual(runs, 2)
          assert.deepStrictEqual(opened(log), ["open 1", "open 2", "close 2"])
          assert.deepStrictEqual(log.events.slice(0, 4), ["open 1", "lend 1", "back 1", "lend 1"])
          assert.deepInclude(yield* pool.stats, { open: 1, zombies: 0 })
        })
      )
    })
  )

  it.effect("an `onOpen` that does not end is given up with the borrower's patience", () =>
    withPool({ ...lasting, onOpen: Effect.never, acquireTimeout: "2 seconds" }, {}, (pool, log) =>
      Effect.gen(function* () {
        const borrower = yield* Effect.forkChild(Effect.flip(once(pool)), { startImmediately: true })
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(borrower)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(opened(log), ["open 1", "close 1"])
      })
    )
  )

  it.effect("`maxUses`: one that was lent so often is closed, and no other opened until somebody asks", () =>
    withPool({ ...lasting, maxUses: 2 }, {}, (pool, log) =>
      Effect.gen(function* () {
        assert.deepStrictEqual([yield* once(pool), yield* once(pool)], ["1", "1"])
        assert.deepStrictEqual(opened(log), ["open 1", "close 1"])
        assert.strictEqual(yield* once(pool), "2")
      })
    )
  )

  it.effect("`evictAll` closes the idle ones now, and the others when they are given back", () =>
    Effect.suspend(() => {
      let slow = false
      return withPool({ ...lasting }, { open: () => (slow ? Effect.sleep("1 second") : Effect.void) }, (pool, log) =>
        Effect.gen(function* () {
          const [first, second] = yield* Effect.all([held(pool), held(pool)])
          yield* second.release
          slow = true
          const [, opening] = [yield* held(pool), yield* Effect.forkScoped(held(pool), { startImmediately: true })]
          yield* pool.evictAll
          yield* first.release
          yield* TestClock.adjust("3 seconds")
          // One that was being opened may have the old password.
          assert.strictEqual((yield* Fiber.join(opening)).id, "4")
          assert.deepStrictEqual(opened(log), ["open 1", "open 2", "close 1", "open 3", "close 3", "open 4"])
        })
      )
    })
  )

  it.effect("`suspend`: borrowers wait until it is over, leases go on", () =>
    withPool({ ...lasting, min: 1, acquireTimeout: "5 seconds" }, {}, (pool) =>
      Effect.gen(function* () {
        const first = yield* held(pool)
        const pause = yield* Scope.make()
        yield* Scope.provide(pool.suspend, pause)
        yield* first.release
        const borrower = yield* Effect.forkScoped(held(pool), { startImmediately: true })
        yield* TestClock.adjust("4 seconds")
        assert.isUndefined(borrower.pollUnsafe())
        yield* Scope.close(pause, Exit.void)
        assert.strictEqual((yield* Fiber.join(borrower)).id, "1")
        const again = yield* Scope.make()
        yield* Scope.provide(pool.suspend, again)
        const late = yield* Effect.forkChild(Effect.flip(once(pool)), { startImmediately: true })
        yield* TestClock.adjust("5 seconds")
        assert.strictEqual((yield* Fiber.join(late)).reason._tag, "AcquireTimeout")
        yield* Scope.close(again, Exit.void)
      })
    )
  )

  it.effect("`suspend`: nothing is opened any more when a borrower that was just served suspends the pool", () =>
    withPool({ ...lasting, max: 2 }, {}, (pool, log) =>
      Effect.gen(function* () {
        yield* once(pool)
        const [pause, again] = [yield* Scope.make(), yield* Scope.make()]
        yield* Scope.provide(pool.suspend, pause)
        const suspend = Effect.andThen(
          Scope.provide(pool.suspend, again),
          Effect.sync(() => opened(log))
        )
        const first = yield* Effect.forkScoped(Effect.andThen(held(pool), suspend), { startImmediately: true })
        const next = yield* Effect.forkScoped(held(pool), { startImmediately: true })
        yield* Scope.close(pause, Exit.void)
        const before = yield* Fiber.join(first)
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(opened(log), before)
        assert.isUndefined(next.pollUnsafe())
        yield* Scope.close(again, Exit.void)
        assert.strictEqual((yield* Fiber.join(next)).id, "2")
      })
    )
  )

  it.effect("`maxLease`: a lease that lasts for longer has its backend ended, and says why", () =>
    Effect.gen(function* () {
      const lines = yield* logged(
        withPool({ ...lasting, maxLease: "1 minute" }, {}, (pool, log) =>
          Effect.gen(function* () {
            const lease = yield* held(pool)
            yield* TestClock.adjust("59 seconds")
            assert.isUndefined(lease.reason())
            yield* TestClock.adjust("1 second")
            assert.deepInclude(lease.reason()?.reason, { _tag: "LeaseExpired", afterMillis: 60_000 })
            assert.deepStrictEqual(log.events.slice(-2), ["expel 1", "close 1"])
            yield* lease.release
            assert.strictEqual(yield* once(pool), "2")
            // One that was given back in time keeps no deadline.
            yield* TestClock.adjust("2 minutes")
            assert.deepStrictEqual(opened(log), ["open 1", "close 1", "open 2"])
          })
        )
      )
      assert.isTrue(lines.some((line) => /Connection 1.*held for longer than 60000 ms/.test(line)))
    })
  )

  it.effect("a leak that was warned of is told of when it comes back", () =>
    Effect.gen(function* () {
      const lines = yield* logged(
        withPool({ ...lasting, leakWarning: "1 minute" }, {}, (pool) =>
          Effect.gen(function* () {
            const lease = yield* held(pool)
            yield* TestClock.adjust("90 seconds")
            yield* lease.release
            yield* TestClock.adjust("2 seconds")
          })
        )
      )
      assert.match(lines[0] ?? "", /Connection 1 to script has been leased for 6\d000 ms/)
      assert.match(lines[1] ?? "", /Connection 1 to script came back after [89]\d000 ms/)
      assert.strictEqual(lines.length, 2)
    })
  )
})
