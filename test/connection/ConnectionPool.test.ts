import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import { ConnectionError, Unavailable } from "../../src/connection/ConnectionError.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import type { Options } from "../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { steps } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as ScriptedConnectionSource from "../../src/testing/ScriptedConnectionSource.ts"

const withPool = <A, E>(
  options: Options,
  script: ScriptedConnectionSource.Script,
  test: (
    pool: ConnectionPool.ConnectionPool["Service"],
    log: ScriptedConnectionSource.Log
  ) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const { log, source } = yield* ScriptedConnectionSource.make(script)
    yield* Effect.flatMap(ConnectionPool.ConnectionPool, (pool) => Effect.scoped(test(pool, log))).pipe(
      Effect.provide(ConnectionPool.layer(options).pipe(Layer.provide(ScriptedConnectionSource.layer(source))))
    )
    yield* LedgerRecorder.assertEmpty()
    return log.events
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

const held = (pool: ConnectionPool.ConnectionPool["Service"], key?: string) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const lease = yield* Scope.provide(pool.lease({ key }), scope)
    return { lease, release: Scope.close(scope, Exit.void) }
  })

const broken = new ConnectionError({ reason: new Unavailable({ source: "script", cause: new Error("broken") }) })

describe("ConnectionPool", () => {
  it.effect("lends, resets and lends again, in that order", () =>
    Effect.gen(function* () {
      const events = yield* withPool({ max: 1 }, {}, (pool) =>
        Effect.andThen(Effect.scoped(pool.lease()), Effect.scoped(pool.lease()))
      )
      assert.deepStrictEqual(events, [
        "open 1",
        "lend 1",
        "back 1",
        "reset 1",
        "lend 1",
        "back 1",
        "reset 1",
        "close 1"
      ])
    })
  )

  it.effect("C1 C4 a borrower that is interrupted at any point is released once and costs nobody a slot", () =>
    Effect.forEach(
      steps,
      (step) =>
        Effect.forEach(
          [0, 1, 2, 3, 5, 8, 13, 21, 34],
          (delay) =>
            withPool({ max: 2 }, {}, (pool) =>
              Effect.gen(function* () {
                const borrower = Effect.scoped(Effect.andThen(pool.lease({ key: "a" }), Effect.yieldNow))
                const fibers = yield* Effect.forEach([1, 2, 3, 4], () =>
                  Effect.forkChild(Effect.provideService(borrower, Scheduler.MaxOpsBeforeYield, step))
                )
                yield* Effect.repeat(Effect.yieldNow, { times: delay })
                yield* Effect.forEach(fibers, Fiber.interrupt, { concurrency: "unbounded" })
                assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 }, `step ${step}, delay ${delay}`)
                yield* Effect.all([held(pool), held(pool)])
                assert.deepInclude(yield* pool.stats, { leased: 2, waiting: 0 }, `step ${step}, delay ${delay}`)
              })
            ),
          { discard: true }
        ),
      { discard: true }
    )
  )

  it.effect("C5 a full pool answers within the acquire timeout, and says who holds it", () =>
    withPool({ max: 1, acquireTimeout: "2 seconds" }, {}, (pool) =>
      Effect.gen(function* () {
        const holder = Effect.fn("holder")(() => held(pool, "alice"))
        yield* holder()
        yield* TestClock.adjust("1 minute")
        const waiting = yield* Effect.forkChild(Effect.flip(Effect.scoped(pool.lease())))
        yield* TestClock.adjust("2 seconds")
        const { message, reason } = yield* Fiber.join(waiting)
        assert.strictEqual(reason._tag, "AcquireTimeout")
        if (reason._tag !== "AcquireTimeout") return
        assert.deepInclude(reason, { afterMillis: 2000, max: 1 })
        assert.deepInclude(reason.holders[0], {
          kind: "connection",
          connection: "1",
          owner: "alice",
          heldForMillis: 62_000
        })
        assert.match(String(reason.holders[0]?.site), /ConnectionPool\.test\.ts/)
        assert.notMatch(message, /alice/, "a remote caller learns how many, not who")
      })
    )
  )

  it.effect("C5 one who asks just when a connection comes back waits behind the others, no longer than it may", () =>
    withPool({ max: 1, acquireTimeout: "2 seconds" }, {}, (pool) =>
      Effect.gen(function* () {
        const first = yield* held(pool)
        const second = yield* Effect.forkChild(held(pool), { startImmediately: true })
        const late = yield* Effect.forkChild(Effect.andThen(first.release, Effect.flip(Effect.scoped(pool.lease()))), {
          startImmediately: true
        })
        yield* Fiber.join(second)
        yield* Effect.repeat(TestClock.adjust("1 second"), { until: () => late.pollUnsafe() !== undefined })
        assert.strictEqual((yield* Fiber.join(late)).reason._tag, "AcquireTimeout")
      })
    )
  )

  it.effect("refuses at once when too many wait", () =>
    withPool({ max: 1, maxWaiting: 2 }, {}, (pool) =>
      Effect.gen(function* () {
        yield* held(pool)
        yield* Effect.forkScoped(Effect.scoped(pool.lease()), { startImmediately: true })
        yield* Effect.forkScoped(Effect.scoped(pool.lease()), { startImmediately: true })
        const { reason } = yield* Effect.flip(Effect.scoped(pool.lease()))
        assert.deepInclude(reason, { _tag: "TooManyWaiters", waiting: 2 })
      })
    )
  )

  it.effect("does not let a key with many waiters starve one with a single one", () =>
    withPool({ max: 1 }, {}, (pool) =>
      Effect.gen(function* () {
        const order: Array<string> = []
        const first = yield* held(pool)
        const borrow = (key: string) =>
          Effect.scoped(
            Effect.andThen(
              pool.lease({ key }),
              Effect.sync(() => order.push(key))
            )
          )
        const fibers = yield* Effect.forEach([...Array.from({ length: 100 }, () => "many"), "one"], (key) =>
          Effect.forkChild(borrow(key), { startImmediately: true })
        )
        yield* first.release
        yield* Effect.forEach(fibers, Fiber.join)
        assert.strictEqual(order.indexOf("one"), 1)
      })
    )
  )

  it.effect("failing to open fails the borrower, and deadlocks nobody", () =>
    withPool({ max: 2 }, { open: (number) => (number <= 3 ? Effect.fail(broken) : Effect.void) }, (pool) =>
      Effect.gen(function* () {
        const attempts = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => Effect.exit(Effect.scoped(pool.lease())), {
          concurrency: "unbounded"
        })
        assert.isAtLeast(attempts.filter(Exit.isFailure).length, 1)
        const error = attempts.find(Exit.isFailure)
        assert.match(String(error), /Unavailable|broken/)
        yield* Effect.scoped(pool.lease())
        assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 })
      })
    )
  )

  it.effect("closes a connection that cannot be reset, and C8 the borrower's result stands", () =>
    Effect.gen(function* () {
      const events = yield* withPool(
        { max: 1 },
        { reset: (number) => (number === 1 ? Effect.fail(broken) : Effect.void) },
        (pool) =>
          Effect.gen(function* () {
            assert.strictEqual(yield* Effect.scoped(Effect.as(pool.lease(), "result")), "result")
            const failed = yield* Effect.flip(Effect.scoped(Effect.andThen(pool.lease(), Effect.fail("own failure"))))
            assert.strictEqual(failed, "own failure")
          })
      )
      assert.deepStrictEqual(events.slice(0, 7), [
        "open 1",
        "lend 1",
        "back 1",
        "reset 1",
        "expel 1",
        "close 1",
        "open 2"
      ])
    })
  )

  it.effect("closes a connection whose reset does not answer in time", () =>
    Effect.gen(function* () {
      const events = yield* withPool({ max: 1, resetTimeout: "3 seconds" }, { reset: () => Effect.never }, (pool) =>
        Effect.gen(function* () {
          const borrower = yield* Effect.forkChild(Effect.scoped(pool.lease()), { startImmediately: true })
          yield* Effect.repeat(TestClock.adjust("1 second"), { until: () => borrower.pollUnsafe() !== undefined })
        })
      )
      assert.deepStrictEqual(events.slice(0, 6), ["open 1", "lend 1", "back 1", "reset 1", "expel 1", "close 1"])
    })
  )

  it.effect("closes a connection when it is too old, with jitter, or too idle, or retired by its borrower", () =>
    Effect.gen(function* () {
      const options: Options = {
        max: 1,
        min: 1,
        maxLifetime: "10 minutes",
        idleTimeout: "1 hour",
        checkAfterIdle: "1 hour"
      }
      const events = yield* withPool(options, {}, (pool) =>
        Effect.gen(function* () {
          yield* Effect.scoped(pool.lease())
          yield* TestClock.adjust("8 minutes")
          yield* Effect.scoped(pool.lease())
          yield* TestClock.adjust("2 minutes")
          yield* Effect.scoped(pool.lease())
          yield* Effect.scoped(Effect.flatMap(pool.lease(), ({ retire }) => retire))
          yield* Effect.scoped(pool.lease())
        })
      )
      assert.deepStrictEqual(
        events.filter((event) => /open|close/.test(event)),
        ["open 1", "close 1", "open 2", "close 2", "open 3", "close 3"]
      )
    })
  )

  it.effect("asks a connection that was idle whether it is alive, and replaces one that is not", () =>
    Effect.gen(function* () {
      const events = yield* withPool(
        { max: 1, min: 1, checkAfterIdle: "30 seconds", idleTimeout: "1 hour" },
        { check: () => Effect.fail(broken) },
        (pool) =>
          Effect.gen(function* () {
            yield* Effect.scoped(pool.lease())
            yield* TestClock.adjust("29 seconds")
            yield* Effect.scoped(pool.lease())
            yield* TestClock.adjust("30 seconds")
            yield* Effect.scoped(pool.lease())
          })
      )
      assert.deepStrictEqual(
        events.filter((event) => /open|close|check/.test(event)),
        ["open 1", "check 1", "close 1", "open 2", "close 2"]
      )
    })
  )

  it.effect("keeps a backend that died in the ledger as a zombie until the server is rid of it", () =>
    Effect.gen(function* () {
      const gone = yield* Deferred.make<void>()
      let dead = false
      yield* withPool(
        { max: 1 },
        { state: (number) => (dead && number === 1 ? "dead" : "usable"), expel: () => Deferred.await(gone) },
        (pool) =>
          Effect.gen(function* () {
            yield* Effect.scoped(
              Effect.andThen(
                pool.lease(),
                Effect.sync(() => {
                  dead = true
                })
              )
            )
            assert.deepInclude(yield* pool.stats, { zombies: 1, leased: 0 })
            yield* Effect.scoped(pool.lease())
            yield* Deferred.succeed(gone, undefined)
            yield* Effect.yieldNow
            yield* Effect.yieldNow
            assert.deepInclude(yield* pool.stats, { zombies: 0 })
          })
      )
    })
  )

  it.effect("warns once of a lease that is held for too long, with the place it was taken at", () => {
    const warnings: Array<unknown> = []
    return withPool({ leakWarning: "1 minute" }, {}, (pool) =>
      Effect.gen(function* () {
        yield* Effect.fn("holder")(() => held(pool))()
        yield* TestClock.adjust("59 seconds")
        assert.deepStrictEqual(warnings, [])
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual(warnings.length, 1)
        assert.match(JSON.stringify(warnings), /leased for 6\d000 ms.*ConnectionPool\.test\.ts/)
      })
    ).pipe(Effect.provide(Logger.layer([Logger.make(({ message }) => warnings.push(message))])))
  })

  it.effect("tells by metrics how many are held, idle, waiting and open, what was opened and why it was closed", () =>
    withPool({ max: 1 }, { reset: (number) => (number === 1 ? Effect.fail(broken) : Effect.void) }, (pool) =>
      Effect.gen(function* () {
        yield* Effect.scoped(pool.lease())
        yield* held(pool)
        yield* Effect.forkScoped(Effect.scoped(pool.lease()), { startImmediately: true })
        yield* TestClock.adjust("2 seconds")
        const metrics = (yield* Metric.snapshot).filter(({ attributes }) => attributes?.["source"] === "script")
        const value = (id: string, reason?: string) => {
          const found = metrics.find((metric) => metric.id === id && metric.attributes?.["reason"] === reason)
          return found === undefined
            ? undefined
            : "value" in found.state
              ? found.state.value
              : "count" in found.state
                ? found.state.count
                : found.state
        }
        assert.deepInclude(
          {
            held: value("holdfast_connections_held"),
            idle: value("holdfast_connections_idle"),
            waiting: value("holdfast_connections_waiting"),
            open: value("holdfast_connections_open")
          },
          { held: 1, idle: 0, waiting: 1, open: 1 }
        )
        assert.isAtLeast(Number(value("holdfast_connections_opened_total")), 2)
        assert.isAtLeast(Number(value("holdfast_connections_retired_total", "reset failed")), 1)
        for (const histogram of ["holdfast_connections_wait_seconds", "holdfast_connections_hold_seconds"]) {
          assert.isDefined(value(histogram), histogram)
        }
      })
    )
  )

  it.effect("C7 when it closes, what is idle has the whole second to be seen closed", () =>
    Effect.gen(function* () {
      const { log, source } = yield* ScriptedConnectionSource.make({ close: () => Effect.sleep("700 millis") })
      const scope = yield* Scope.make()
      const pool = yield* ConnectionPool.make({ max: 1 }).pipe(
        Effect.provide(ScriptedConnectionSource.layer(source)),
        Scope.provide(scope)
      )
      yield* Effect.scoped(pool.lease())
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("699 millis")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(closing)
      assert.strictEqual(log.events.at(-1), "close 1")
    })
  )

  it.effect("when it closes, refuses the waiting, waits for the holding, and then ends their connections", () =>
    Effect.gen(function* () {
      const { log, source } = yield* ScriptedConnectionSource.make()
      const scope = yield* Scope.make()
      const pool = yield* ConnectionPool.make({ max: 1, closeTimeout: "5 seconds" }).pipe(
        Effect.provide(ScriptedConnectionSource.layer(source)),
        Scope.provide(scope)
      )
      const borrower = yield* Scope.make()
      yield* Scope.provide(pool.lease(), borrower)
      const waiting = yield* Effect.forkChild(Effect.flip(Effect.scoped(pool.lease())), { startImmediately: true })
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "Closed")
      assert.strictEqual((yield* Effect.flip(Effect.scoped(pool.lease()))).reason._tag, "Closed")
      yield* TestClock.adjust("4 seconds")
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust("3 seconds")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(log.events, ["open 1", "lend 1", "expel 1", "close 1"])
      yield* Scope.close(borrower, Exit.void)
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.effect("C7 when it closes, one that is just being handed to a borrower is closed like any other", () =>
    Effect.forEach(
      steps.slice(0, 20),
      (step) =>
        Effect.forEach(
          [0, 1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 21],
          Effect.fnUntraced(function* (delay) {
            const { log, source } = yield* ScriptedConnectionSource.make()
            const scope = yield* Scope.make()
            const pool = yield* ConnectionPool.make({ max: 1, closeTimeout: "1 second" }).pipe(
              Scope.provide(scope),
              Effect.provide(ScriptedConnectionSource.layer(source))
            )
            yield* Effect.scoped(pool.lease())
            const holding = Effect.scoped(Effect.andThen(pool.lease(), Effect.never))
            const borrower = yield* Effect.forkChild(Effect.provideService(holding, Scheduler.MaxOpsBeforeYield, step))
            yield* Effect.repeat(Effect.yieldNow, { times: delay })
            const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
            // Time passes when all that can go on has gone on.
            yield* Effect.repeat(Effect.yieldNow, { times: 200 })
            yield* TestClock.adjust("3 seconds")
            yield* Fiber.join(closing)
            const count = (event: string) => log.events.filter((one) => one.startsWith(event)).length
            assert.strictEqual(count("close"), count("open"), `step ${step}, delay ${delay}: ${log.events.join()}`)
            yield* Fiber.interrupt(borrower)
          }),
          { discard: true }
        ),
      { discard: true }
    )
  )

  it.effect("when it closes, resets what is given back in time, each reset within its limit", () =>
    Effect.gen(function* () {
      const { log, source } = yield* ScriptedConnectionSource.make({
        reset: (number) => (number === 1 ? Effect.void : Effect.never)
      })
      const scope = yield* Scope.make()
      const pool = yield* ConnectionPool.make({ max: 2, closeTimeout: "10 seconds", resetTimeout: "3 seconds" }).pipe(
        Effect.provide(ScriptedConnectionSource.layer(source)),
        Scope.provide(scope)
      )
      const [good, bad] = [yield* Scope.make(), yield* Scope.make()]
      for (const borrower of [good, bad]) yield* Scope.provide(pool.lease(), borrower)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), { startImmediately: true })
      yield* Scope.close(good, Exit.void)
      assert.deepStrictEqual(log.events.slice(4), ["back 1", "reset 1"])
      const returned = yield* Effect.forkChild(Scope.close(bad, Exit.void), { startImmediately: true })
      yield* TestClock.adjust("2999 millis")
      assert.isUndefined(returned.pollUnsafe())
      yield* TestClock.adjust("1 millis")
      yield* Fiber.join(returned)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(
        log.events.filter((event) => event.startsWith("expel")),
        ["expel 2"]
      )
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  for (const [field, options] of Object.entries<Options>({
    max: { max: 0 },
    min: { min: 3, max: 2 },
    maxWaiting: { maxWaiting: -1 },
    acquireTimeout: { acquireTimeout: Duration.infinity },
    idleTimeout: { idleTimeout: -5 },
    maxLifetime: { maxLifetime: 0 },
    closeTimeout: { closeTimeout: Number.NaN },
    resetTimeout: { resetTimeout: "-1 seconds" }
  })) {
    it.effect(`refuses a ${field} that makes no sense when the layer is built, naming it`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(withPool(options, {}, () => Effect.void))
        assert.strictEqual(error._tag, "ConnectionError")
        assert.deepInclude(error.reason, { _tag: "InvalidConfig", field })
      })
    )
  }
})
