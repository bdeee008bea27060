import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import * as Connection from "../../src/connection/Connection.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as ScriptedConnectionSource from "../../src/testing/ScriptedConnectionSource.ts"
import { busyBackends, eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"

/** Work of an owner that ends by itself or not at all. */
const owned = (owner: Lifetime.Lifetime) =>
  Effect.provideService(Lifetime.Current, Effect.succeed<Lifetime.Lifetime | undefined>(owner))

/** A pool of one scripted connection. */
const scripted = <A, E, R>(
  test: (log: ScriptedConnectionSource.Log) => Effect.Effect<A, E, R | ConnectionPool.ConnectionPool>
) =>
  Effect.gen(function* () {
    const { log, source } = yield* ScriptedConnectionSource.make()
    yield* Effect.provide(
      test(log),
      Layer.fresh(ConnectionPool.layer({ max: 1, acquireTimeout: "5 seconds" })).pipe(
        Layer.provide(ScriptedConnectionSource.layer(source))
      )
    )
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.scoped, Effect.provide(Ledger.layer))

describe("Connection, whose work belongs to somebody", () => {
  it.effect("the end of the owner waits until the borrower has let go, and the connection is lent again", () =>
    scripted((log) =>
      Effect.gen(function* () {
        const owner = yield* Lifetime.scoped({ kind: "session", id: "s" })
        const taken = yield* Deferred.make<void>()
        const borrower = yield* Effect.forkChild(
          Effect.andThen(Deferred.succeed(taken, undefined), Effect.never).pipe(
            Effect.provide(Connection.layer),
            owned(owner)
          )
        )
        yield* Deferred.await(taken)
        const end = yield* Effect.forkChild(owner.end(), { startImmediately: true })
        assert.isUndefined(end.pollUnsafe())
        yield* Fiber.interrupt(borrower)
        yield* Fiber.join(end)
        assert.deepStrictEqual(log.events, ["open 1", "lend 1", "back 1", "reset 1"])
        yield* Effect.void.pipe(Effect.provide(Connection.layer))
        assert.deepStrictEqual(log.events.slice(4, 6), ["lend 1", "back 1"])
      })
    )
  )

  it.effect("a borrower that does not let go within a second has its connection closed, and the owner ends", () =>
    scripted((log) =>
      Effect.gen(function* () {
        const owner = yield* Lifetime.scoped({ kind: "session", id: "s" })
        const [taken, letGo] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const borrower = yield* Effect.forkChild(
          Effect.andThen(Deferred.succeed(taken, undefined), Deferred.await(letGo)).pipe(
            Effect.provide(Connection.layer),
            owned(owner)
          )
        )
        yield* Deferred.await(taken)
        const end = yield* Effect.forkChild(owner.end(), { startImmediately: true })
        yield* TestClock.adjust("999 millis")
        assert.isUndefined(end.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(end)
        assert.notInclude(log.events, "reset 1")
        yield* Deferred.succeed(letGo, undefined)
        yield* Fiber.join(borrower)
        yield* Effect.void.pipe(Effect.provide(Connection.layer))
        assert.include(log.events, "lend 2")
      })
    )
  )

  it.effect("a borrower whose owner ended while it waited gets none, and says so", () =>
    scripted(() =>
      Effect.gen(function* () {
        const owner = yield* Lifetime.scoped({ kind: "session", id: "s" })
        const [taken, letGo] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        const other = yield* Effect.forkChild(
          Effect.andThen(Deferred.succeed(taken, undefined), Deferred.await(letGo)).pipe(
            Effect.provide(Connection.layer)
          )
        )
        yield* Deferred.await(taken)
        const waiting = yield* Effect.forkChild(
          Effect.flip(Effect.void.pipe(Effect.provide(Connection.layer), owned(owner))),
          { startImmediately: true }
        )
        const end = yield* Effect.forkChild(owner.end(), { startImmediately: true })
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(end)
        yield* Deferred.succeed(letGo, undefined)
        yield* Fiber.join(other)
        assert.strictEqual((yield* Fiber.join(waiting)).reason._tag, "OwnerEnded")
        // And the place is free.
        yield* Effect.void.pipe(Effect.provide(Connection.layer))
      })
    )
  )

  it.effect("a borrower whose owner cannot be found gets none", () =>
    scripted((log) =>
      Effect.gen(function* () {
        const lookup = Effect.fail(new Lifetime.OwnerUnknown({ cause: new Error("The store is away") }))
        const error = yield* Effect.flip(
          Effect.void.pipe(Effect.provide(Connection.layer), Effect.provideService(Lifetime.Current, lookup))
        )
        assert.strictEqual(error.reason._tag, "Unavailable")
        assert.include(error.message, "The store is away")
        assert.notInclude(log.events, "lend 1")
      })
    )
  )

  it.live("S16 a statement on a leased connection does not outlive its owner, also where nobody interrupts it", () =>
    Effect.gen(function* () {
      const { name, url } = yield* freshDatabase
      const pool = ConnectionPool.layer({ max: 2 }).pipe(Layer.provide(PgConnectionSource.layer({ url })))
      yield* Effect.gen(function* () {
        const owner = yield* Lifetime.scoped({ kind: "session", id: "s" })
        const statement = yield* Effect.forkChild(
          Effect.exit(
            Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_sleep(60)`).pipe(
              Effect.provide(Connection.layer),
              owned(owner)
            )
          )
        )
        yield* eventually(busyBackends(name), (busy) => busy.length === 1)
        yield* owner.end()
        assert.strictEqual((yield* Fiber.join(statement))._tag, "Failure")
        yield* eventually(busyBackends(name), (busy) => busy.length === 0, "2 seconds")
      }).pipe(Effect.scoped, Effect.provide(pool))
    }).pipe(Effect.scoped)
  )
})
