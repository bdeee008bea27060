import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { ConnectionError, NoRoom, Unavailable } from "../../src/connection/ConnectionError.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as ConnectionSource from "../../src/connection/ConnectionSource.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { steps } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as ScriptedConnectionSource from "../../src/testing/ScriptedConnectionSource.ts"

type Pool = ConnectionPool.ConnectionPool["Service"]

/** A pool whose source refuses some roles. */
const withPool = <A, E>(
  options: ConnectionPool.Options,
  test: (pool: Pool, events: ReadonlyArray<string>) => Effect.Effect<A, E, Scope.Scope>,
  refused: Readonly<Record<string, ConnectionError>> = {}
) =>
  Effect.gen(function* () {
    const { log, source } = yield* ScriptedConnectionSource.make()
    const open = Effect.flatMap(ConnectionSource.Role, (role = "") => {
      const error = refused[role]
      return error === undefined ? source.open : Effect.fail(error)
    })
    yield* Effect.flatMap(ConnectionPool.ConnectionPool, (pool) => Effect.scoped(test(pool, log.events))).pipe(
      Effect.provide(
        ConnectionPool.layer(options).pipe(Layer.provide(ScriptedConnectionSource.layer({ ...source, open })))
      )
    )
    yield* LedgerRecorder.assertEmpty()
    return log.events
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

const take = (pool: Pool, role?: string) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const { id } = yield* Scope.provide(pool.lease({ role, key: role }), scope)
    return { id, release: Scope.close(scope, Exit.void) }
  })

/** Leases and gives back at once; answers which connection it was. */
const touch = (pool: Pool, role?: string) => Effect.scoped(Effect.map(pool.lease({ role, key: role }), ({ id }) => id))

const opened = (events: ReadonlyArray<string>) => events.filter((event) => /^(?:open|close)/.test(event))

describe("a pool of connections of several roles", () => {
  it.effect("I2 lends a connection to borrowers of its role and to nobody else", () =>
    withPool({ max: 3 }, (pool) =>
      Effect.gen(function* () {
        const roles = ["alice", "bob", undefined, "alice", undefined, "bob"]
        assert.deepStrictEqual(yield* Effect.forEach(roles, (role) => touch(pool, role)), [
          "1",
          "2",
          "3",
          "1",
          "3",
          "2"
        ])
      })
    )
  )

  it.effect("closes the connection that was idle for the longest time when another role has no room", () =>
    Effect.gen(function* () {
      const events = yield* withPool({ max: 2 }, (pool) =>
        Effect.forEach(["alice", "bob", "alice", "carol", "alice"], (role) => touch(pool, role))
      )
      assert.deepStrictEqual(opened(events).slice(0, 4), [
        "open 1 as alice",
        "open 2 as bob",
        "close 2",
        "open 3 as carol"
      ])
    })
  )

  it.effect("closes no more than it needs, and never has more open than it may", () =>
    Effect.gen(function* () {
      const events = yield* withPool({ max: 4 }, (pool) =>
        Effect.gen(function* () {
          for (const role of ["a", "b", "c", "d"]) yield* touch(pool, role)
          const [e, f] = yield* Effect.all([take(pool, "e"), take(pool, "f")], { concurrency: "unbounded" })
          yield* Effect.andThen(e.release, f.release)
          assert.strictEqual(yield* touch(pool, "d"), "4")
        })
      )
      assert.deepStrictEqual(opened(events).slice(4, 8).toSorted(), [
        "close 1",
        "close 2",
        "open 5 as e",
        "open 6 as f"
      ])
    })
  )

  it.effect("gives a place that becomes free to the role that waits for it", () =>
    Effect.gen(function* () {
      const events = yield* withPool({ max: 1 }, (pool) =>
        Effect.gen(function* () {
          const alice = yield* take(pool, "alice")
          const bob = yield* Effect.forkChild(touch(pool, "bob"))
          yield* Effect.yieldNow
          yield* alice.release
          assert.strictEqual(yield* Fiber.join(bob), "2")
        })
      )
      assert.deepStrictEqual(opened(events), ["open 1 as alice", "close 1", "open 2 as bob", "close 2"])
    })
  )

  it.effect(
    "of those who want one role the first is served first, also with what another who is served gives back",
    () =>
      withPool({ max: 4 }, (pool) =>
        Effect.gen(function* () {
          const alice = yield* take(pool, "alice")
          yield* touch(pool, "bob")
          const pause = yield* Scope.make()
          yield* Scope.provide(pool.suspend, pause)
          const wait = (effect: Effect.Effect<string, ConnectionError, Scope.Scope>) =>
            Effect.forkScoped(effect, { startImmediately: true })
          const first = yield* wait(Effect.map(take(pool, "alice"), ({ id }) => id))
          yield* wait(Effect.tap(touch(pool, "bob"), alice.release))
          yield* wait(Effect.map(take(pool, "alice"), ({ id }) => id))
          yield* Scope.close(pause, Exit.void)
          assert.strictEqual(yield* Fiber.join(first), alice.id)
        })
      )
  )

  it.effect("a borrower that takes a connection again and again at once does not keep others from theirs", () =>
    withPool({ max: 3 }, (pool) =>
      Effect.gen(function* () {
        yield* touch(pool, "alice")
        const pause = yield* Scope.make()
        yield* Scope.provide(pool.suspend, pause)
        let [times, isServed] = [0, false]
        const again = Effect.suspend(() => {
          times++
          return touch(pool, "alice")
        })
        const one = yield* Effect.forkScoped(Effect.repeat(again, { until: () => isServed || times === 1000 }), {
          startImmediately: true
        })
        const other = yield* Effect.forkScoped(
          Effect.tap(touch(pool, "bob"), () => Effect.sync(() => (isServed = true))),
          { startImmediately: true }
        )
        yield* Scope.close(pause, Exit.void)
        yield* Effect.forEach([one, other], Fiber.join)
        assert.isBelow(times, 10)
      })
    )
  )

  it.effect("what was opened for one who waits is not closed to make room for another", () =>
    withPool({ max: 1 }, (pool, events) =>
      Effect.gen(function* () {
        const pause = yield* Scope.make()
        yield* Scope.provide(pool.suspend, pause)
        const borrower = yield* Effect.forkScoped(touch(pool), { startImmediately: true })
        const ping = yield* Effect.forkScoped(pool.ping, { startImmediately: true })
        yield* Scope.close(pause, Exit.void)
        yield* Fiber.join(borrower)
        yield* Fiber.join(ping)
        assert.deepStrictEqual(opened(events), ["open 1"])
      })
    )
  )

  it.effect("C1 C4 under interruption each role gets its own, every one is closed once, and no place is lost", () =>
    Effect.forEach(
      steps,
      (step) =>
        Effect.gen(function* () {
          const max = 2
          const owner = new Map<string, string>()
          const events = yield* withPool({ max }, (pool) =>
            Effect.gen(function* () {
              const borrow = (role: string) =>
                Effect.scoped(
                  Effect.flatMap(pool.lease({ role, key: role }), ({ id }) => {
                    assert.strictEqual(owner.get(id) ?? role, role)
                    owner.set(id, role)
                    return Effect.yieldNow
                  })
                ).pipe(Effect.provideService(Scheduler.MaxOpsBeforeYield, step))
              const fibers = yield* Effect.forEach(["a", "b", "c", "a", "d", "b"], (role) =>
                Effect.forkChild(borrow(role))
              )
              yield* Effect.repeat(Effect.yieldNow, { times: 7 })
              yield* Effect.forEach(fibers.slice(0, 3), Fiber.interrupt, { concurrency: "unbounded" })
              yield* Effect.forEach(fibers.slice(3), Fiber.join, { concurrency: "unbounded" })
              // All places are there still.
              const both = yield* Effect.all([take(pool, "e"), take(pool, "f")], { concurrency: "unbounded" })
              yield* Effect.forEach(both, ({ release }) => release)
            })
          )
          let open = 0
          for (const event of opened(events)) {
            open += event.startsWith("open") ? 1 : -1
            assert.isAtMost(open, max, events.join(", "))
          }
          assert.strictEqual(open, 0)
        }),
      { discard: true }
    )
  )

  it.effect("I1 a role that cannot log in, or has no room of its own, holds up no other", () =>
    withPool(
      { max: 2 },
      (pool) =>
        Effect.gen(function* () {
          yield* touch(pool, "alice")
          const { reason } = yield* Effect.flip(touch(pool, "mallory"))
          assert.strictEqual(reason._tag, "Unavailable")
          const both = yield* Effect.all([take(pool, "alice"), take(pool, "bob")], { concurrency: "unbounded" })
          yield* Effect.forEach(both, ({ release }) => release)
        }),
      { mallory: new ConnectionError({ reason: new Unavailable({ source: "script", cause: new Error("no") }) }) }
    )
  )

  it.effect("a server that has no room for one role has some for another as soon as there is any", () =>
    withPool(
      { max: 3, acquireTimeout: "5 seconds" },
      (pool) =>
        Effect.gen(function* () {
          yield* touch(pool, "alice")
          const late = yield* Effect.forkChild(Effect.flip(touch(pool, "late")))
          yield* TestClock.adjust("5 seconds")
          assert.strictEqual((yield* Fiber.join(late)).reason._tag, "NoRoom")
          const bob = yield* Effect.forkChild(touch(pool, "bob"))
          yield* TestClock.adjust("2 seconds")
          assert.strictEqual(yield* Fiber.join(bob), "2")
        }),
      { late: new ConnectionError({ reason: new NoRoom({ source: "script", cause: new Error("full") }) }) }
    )
  )

  it.effect("can be asked whether it works on a connection of any role", () =>
    Effect.gen(function* () {
      const events = yield* withPool({ max: 1, checkAfterIdle: "1 second" }, (pool) =>
        Effect.gen(function* () {
          yield* touch(pool, "alice")
          yield* TestClock.adjust("3 seconds")
          yield* pool.ping
          assert.strictEqual(yield* touch(pool, "alice"), "1")
        })
      )
      assert.deepStrictEqual(opened(events), ["open 1 as alice", "close 1"])
    })
  )
})
