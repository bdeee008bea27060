import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as PgPool from "@effect/sql-pg/PgPool"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SqlClient from "effect/sql/SqlClient"
import * as Connection from "../../src/connection/Connection.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { scale, steps, sweep } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { backends, busyBackends, eventually, inTimeOf } from "../support/conditions.ts"
import { freshDatabase, superuserUrl } from "../support/postgres.ts"

type Settings = ConnectionPool.Options & Omit<PgConnectionSource.Options, "url">

const layerOf = (url: Redacted.Redacted<string>, settings: Settings = {}) =>
  ConnectionPool.layer(settings).pipe(Layer.provide(PgConnectionSource.layer({ ...settings, url })))

/** Runs a test on a pool of its own; afterwards the ledger is empty and the server has no backend of it. */
const withPool = <A, E>(
  settings: Settings,
  test: (database: {
    readonly name: string
    readonly url: Redacted.Redacted<string>
  }) => Effect.Effect<A, E, ConnectionPool.ConnectionPool | Scope.Scope>
) =>
  Effect.gen(function* () {
    const database = yield* freshDatabase
    const result = yield* test(database).pipe(Effect.scoped, Effect.provide(layerOf(database.url, settings)))
    yield* LedgerRecorder.assertEmpty()
    assert.strictEqual(yield* backends(database.name), 0)
    return result
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

/** One request: its own connection, an ordinary client, gone afterwards. */
const request = <A, E>(use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.flatMap(SqlClient.SqlClient, use).pipe(Effect.scoped, Effect.provide(Connection.layer))

const proxyFor = (url: Redacted.Redacted<string>) => {
  const { hostname, port } = new URL(Redacted.value(url))
  return FaultProxy.make({ host: hostname, port: Number(port) })
}

const dirt: Readonly<Record<string, { readonly leave: ReadonlyArray<string>; readonly seen: string }>> = {
  "a transaction left open": {
    leave: ["create table if not exists t (a int)", "begin", "insert into t values (1)"],
    seen: "select not exists (select from t) as clean"
  },
  "a transaction left failed": { leave: ["begin", "select 1/0"], seen: "select true as clean" },
  "a changed search_path": {
    leave: ["set search_path = pg_catalog"],
    seen: "select current_setting('search_path') <> 'pg_catalog' as clean"
  },
  "another role": { leave: ["set role pg_monitor"], seen: "select current_user = session_user as clean" },
  "a session authorization": {
    leave: ["set session authorization pg_monitor"],
    seen: "select session_user <> 'pg_monitor' as clean"
  },
  "an advisory lock": {
    leave: ["select pg_advisory_lock(42)"],
    seen: "select not exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as clean"
  },
  "a temporary table": {
    leave: ["create temporary table mine (a int)"],
    seen: "select to_regclass('pg_temp.mine') is null as clean"
  },
  "a listener": {
    leave: ["listen news"],
    seen: "select not exists (select from pg_listening_channels()) as clean"
  },
  "a holdable cursor": {
    leave: ["declare c cursor with hold for select 1"],
    seen: "select not exists (select from pg_cursors where name = 'c') as clean"
  },
  "a prepared statement": {
    leave: ["prepare mine as select 1"],
    seen: "select not exists (select from pg_prepared_statements where name = 'mine') as clean"
  },
  "the memory of a sequence": {
    leave: ["create sequence if not exists numbers", "select nextval('numbers')"],
    seen: "select true as clean"
  }
}

const send = (sql: SqlClient.SqlClient, statements: ReadonlyArray<string>) =>
  Effect.forEach(statements, (statement) => Effect.exit(sql.unsafe(statement).unprepared), { discard: true })

const pid = (sql: SqlClient.SqlClient) => Effect.map(sql`select pg_backend_pid() as pid`, ([row]) => row?.["pid"])

const transfer = (sql: SqlClient.SqlClient) =>
  sql.withTransaction(Effect.andThen(sql`select 1`, sql.withTransaction(sql`select 2`)))

const recipes = { complete: PgRecycle.complete, foreign: PgRecycle.foreign }

describe("C3 a returned connection is as good as new", () => {
  for (const [what, { leave, seen }] of Object.entries(dirt)) {
    for (const [name, recycle] of Object.entries(recipes)) {
      it.live(`${what} is gone (${name}), and transactions work`, () =>
        withPool({ max: 1, recycle }, () =>
          Effect.gen(function* () {
            const first = yield* request((sql) => Effect.tap(pid(sql), () => send(sql, leave)))
            yield* request((sql) =>
              Effect.gen(function* () {
                assert.strictEqual(yield* pid(sql), first, "the same connection, not a new one")
                const [row] = yield* sql.unsafe(seen)
                assert.deepStrictEqual(row, { clean: true })
                yield* transfer(sql)
                yield* transfer(sql)
              })
            )
          })
        )
      )
    }
  }

  it.live("the bare driver's pool hands all of this on", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const handedOn: Array<string> = []
      for (const [what, { leave, seen }] of Object.entries(dirt)) {
        const pool = yield* PgPool.make({ url, maxConnections: 1 })
        yield* Effect.scoped(
          Effect.flatMap(pool.reserve, (it) =>
            Effect.forEach(leave, (statement) => Effect.exit(it.query(statement, [], false)))
          )
        )
        const next = yield* Effect.exit(Effect.scoped(Effect.flatMap(pool.reserve, (it) => it.query(seen, [], false))))
        if (Exit.isFailure(next) || next.value.rows[0]?.["clean"] !== true) handedOn.push(what)
      }
      assert.includeMembers(handedOn, [
        "a transaction left open",
        "a transaction left failed",
        "a changed search_path",
        "an advisory lock",
        "a temporary table",
        "a listener",
        "a prepared statement"
      ])
    }).pipe(Effect.scoped)
  )

  it.live("a borrower that itself dropped everything the driver had prepared harms nobody on a foreign pool", () =>
    withPool({ max: 1, recycle: PgRecycle.foreign }, () =>
      Effect.gen(function* () {
        yield* request((sql) => transfer(sql))
        yield* request((sql) =>
          send(sql, ["deallocate all", "discard all", "set session authorization pg_monitor", "begin", "select 1/0"])
        )
        yield* request((sql) => Effect.andThen(transfer(sql), transfer(sql)))
      })
    )
  )

  it.live("a borrower that dropped what the driver had prepared has his connection closed on any other pool", () =>
    withPool({ max: 1 }, () =>
      Effect.gen(function* () {
        for (const statement of ["deallocate all", "discard all"]) {
          const spoiled = yield* request((sql) =>
            Effect.andThen(
              transfer(sql),
              Effect.tap(pid(sql), () => send(sql, [statement]))
            )
          )
          yield* request((sql) =>
            Effect.gen(function* () {
              yield* transfer(sql)
              yield* transfer(sql)
              assert.notStrictEqual(yield* pid(sql), spoiled)
            })
          )
        }
      })
    )
  )

  it.live("with no recipe, nothing is sent between two borrowers", () =>
    withPool({ max: 1, recycle: PgRecycle.none }, () =>
      Effect.gen(function* () {
        yield* request((sql) => send(sql, ["set search_path = pg_catalog"]))
        const [row] = yield* request((sql) => sql`select current_setting('search_path') as path`)
        assert.deepStrictEqual(row, { path: "pg_catalog" })
      })
    )
  )
})

describe("C2 C6 cancelling", () => {
  it.live("an interrupted statement has ended at the server, and its connection serves the next", () =>
    sweep(
      withPool({ max: 1 }, ({ name }) =>
        Effect.gen(function* () {
          const fiber = yield* Effect.forkChild(request((sql) => sql`select pg_sleep(60)`))
          yield* eventually(busyBackends(name), (busy) => busy.some(({ query }) => String(query).includes("pg_sleep")))
          yield* Fiber.interrupt(fiber)
          assert.deepStrictEqual(yield* busyBackends(name), [])
          assert.deepStrictEqual(yield* request((sql) => sql`select 1 as one`), [{ one: 1 }])
        })
      ),
      { steps: [3, 4, 5, 7, 11, 64, 2048] }
    )
  )

  it.live("C1 C4 interrupted at any point, a borrower leaves no lease, no statement, no dirt", () =>
    withPool({ max: 2 }, ({ name }) =>
      Effect.gen(function* () {
        const pool = yield* ConnectionPool.ConnectionPool
        const work = request((sql) =>
          sql.withTransaction(Effect.andThen(sql`select set_config('search_path', 'pg_catalog', false)`, sql`select 1`))
        )
        for (const step of steps) {
          for (const delay of [0, 100, 400]) {
            const fibers = yield* Effect.forEach([1, 2, 3], () =>
              Effect.forkChild(Effect.provideService(work, Scheduler.MaxOpsBeforeYield, step))
            )
            yield* Effect.repeat(Effect.yieldNow, { times: delay })
            yield* Effect.forEach(fibers, Fiber.interrupt, { concurrency: "unbounded" })
            assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 }, `step ${step}, delay ${delay}`)
          }
          const paths = yield* Effect.all(
            [1, 2].map(() => request((sql) => sql`select current_setting('search_path') as path`)),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(paths.flat(), [{ path: '"$user", public' }, { path: '"$user", public' }])
        }
        assert.deepStrictEqual(yield* busyBackends(name), [])
      })
    )
  )

  it.live(
    "no statement is ever cancelled on behalf of another: many short ones, half of them interrupted at random",
    () =>
      withPool({ max: 10 }, () =>
        Effect.gen(function* () {
          const pool = yield* ConnectionPool.ConnectionPool
          const ends = Semaphore.makeUnsafe(0)
          let victims = 0
          let finished = 0
          const one = (interrupted: boolean) =>
            Effect.gen(function* () {
              const fiber = yield* Effect.forkChild(request((sql) => sql`select pg_sleep(0.01)`))
              if (interrupted) {
                // Those who finish meanwhile do so in about the time that it takes itself.
                const others = yield* Random.nextIntBetween(0, 20)
                yield* Effect.raceFirst(Fiber.await(fiber), ends.take(others))
                yield* Fiber.interrupt(fiber)
                return
              }
              const exit = yield* Fiber.await(fiber)
              if (Exit.isFailure(exit)) victims++
              else finished++
              yield* ends.release(1)
            })
          const total = 2000 * scale
          yield* Effect.forEach(
            Array.from({ length: total }, (_, index) => index % 2 === 0),
            one,
            { concurrency: 20, discard: true }
          )
          assert.deepStrictEqual({ victims, finished }, { victims: 0, finished: total / 2 })
          assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 })
        })
      ),
    600_000
  )
})

describe("C7 after closing", () => {
  it.live(
    "the server has no backend of the pool or its reaper at that very moment, running, idle or being cancelled",
    () =>
      Effect.gen(function* () {
        const { name, url } = yield* freshDatabase
        // One that is open already asks at once.
        const witness = yield* PgConnection.make({ url: yield* superuserUrl })
        const left = witness.query(
          "select application_name, query from pg_stat_activity where datname = $1 and backend_type = 'client backend'",
          [name]
        )
        for (const _ of Array.from({ length: 5 * scale })) {
          const scope = yield* Scope.make()
          const pool = Context.get(
            yield* Layer.buildWithScope(layerOf(url, { max: 20, closeTimeout: "50 millis" }), scope),
            ConnectionPool.ConnectionPool
          )
          const used = (use: (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>) =>
            Effect.flatMap(SqlClient.SqlClient, use).pipe(
              Effect.provide(Connection.layer),
              Effect.provideService(ConnectionPool.ConnectionPool, pool)
            )
          const running = yield* Effect.forEach(Array.from({ length: 10 }), () =>
            Effect.forkChild(used((sql) => sql`select pg_sleep(60)`))
          )
          yield* eventually(busyBackends(name), ({ length }) => length === 10)
          yield* Effect.all(
            Array.from({ length: 10 }, () => used((sql) => sql`select 1`)),
            { concurrency: "unbounded" }
          )
          yield* Effect.forkChild(Fiber.interruptAll(running.slice(5)), { startImmediately: true })
          yield* Scope.close(scope, Exit.void)
          assert.deepStrictEqual((yield* left).rows, [])
          yield* Fiber.awaitAll(running)
        }
      }).pipe(Effect.scoped)
  )
})

describe("C7 what cannot be cancelled is watched until it is gone", () => {
  const sleepers: Readonly<Record<string, (sql: SqlClient.SqlClient) => Effect.Effect<unknown, unknown>>> = {
    "a statement": (sql) => sql`select pg_sleep(60)`,
    "a stream": (sql) => Stream.runDrain(sql`select generate_series(1, 2), pg_sleep(30)`.stream),
    "a transaction": (sql) => sql.withTransaction(sql`select pg_sleep(60)`)
  }
  for (const [what, sleeper] of Object.entries(sleepers)) {
    it.live(`the cancel of ${what} goes nowhere: given up in time, backend gone, pool usable all the while`, () =>
      Effect.gen(function* () {
        const { name, url } = yield* freshDatabase
        const proxy = yield* proxyFor(url)
        yield* Effect.gen(function* () {
          const pool = yield* ConnectionPool.ConnectionPool
          const fiber = yield* Effect.forkChild(request(sleeper))
          yield* eventually(busyBackends(name), (busy) => busy.some(({ query }) => String(query).includes("pg_sleep")))
          yield* request((sql) => sql`select 1`)
          // The pool has the connections it needs: the next one is that of the cancel.
          yield* proxy.decide((connection) => (connection === 1 ? "swallow" : "pass"))
          const begun = performance.now()
          const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
          let served = 0
          yield* request((sql) => sql`select 1`).pipe(
            Effect.tap(() => Effect.sync(() => served++)),
            Effect.repeat({
              until: () => interrupting.pollUnsafe() !== undefined,
              schedule: Schedule.spaced("20 millis")
            })
          )
          // A second for the server to confirm; it would be five by the driver.
          assert.isBelow(performance.now() - begun, 3000)
          yield* eventually(busyBackends(name), (busy) => busy.length === 0)
          assert.isBelow(performance.now() - begun, 10_000)
          assert.isAbove(served, 10)
          yield* eventually(pool.stats, ({ zombies }) => zombies === 0)
        }).pipe(Effect.scoped, Effect.provide(layerOf(proxy.through(url), { max: 3 })))
        yield* LedgerRecorder.assertEmpty()
        yield* eventually(backends(name), (count) => count === 0)
      }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
    )
  }

  it.live("a statement that gets no answer at all ends with its connection, also where it cannot be interrupted", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const proxy = yield* proxyFor(url)
      yield* Effect.gen(function* () {
        const error = yield* Effect.flip(
          request((sql) => sql.withTransaction(Effect.andThen(sql`select 1`, proxy.freeze)))
        )
        assert.strictEqual(error._tag, "SqlError")
      }).pipe(Effect.scoped, Effect.provide(layerOf(proxy.through(url), { statementTimeout: "1 second" })))
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
  )

  it.live("cut connections: typed errors, no lease lost, and the statements are gone from the server", () =>
    Effect.gen(function* () {
      const { name, url } = yield* freshDatabase
      const proxy = yield* proxyFor(url)
      yield* Effect.gen(function* () {
        const fibers = yield* Effect.forEach([1, 2, 3], () =>
          Effect.forkChild(Effect.flip(request((sql) => sql`select pg_sleep(60)`)))
        )
        yield* eventually(
          busyBackends(name),
          (busy) => busy.filter(({ query }) => String(query).includes("pg_sleep")).length === 3
        )
        yield* proxy.cut
        for (const fiber of fibers) assert.strictEqual((yield* Fiber.join(fiber))._tag, "SqlError")
        yield* eventually(busyBackends(name), (busy) => busy.length === 0)
        yield* request((sql) => sql`select 1`)
        assert.deepInclude(yield* (yield* ConnectionPool.ConnectionPool).stats, { leased: 0, waiting: 0 })
      }).pipe(Effect.scoped, Effect.provide(layerOf(proxy.through(url), { max: 3 })))
      yield* LedgerRecorder.assertEmpty()
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
  )

  it.live(
    "closing with many running leases: within the deadline and a second, none left, and a report of whose they were",
    () =>
      Effect.gen(function* () {
        const count = Math.min(60 * scale, 1000)
        const { superuserUrl: url } = yield* TestPostgres.make({ maxConnections: count + 20 })
        const name = "postgres"
        const server = Effect.succeed(url)
        const control = yield* PgConnection.make({ url })
        const sleeping = Effect.map(
          control.queryValues("select count(*)::int from pg_stat_activity where query like 'select pg_sleep%'"),
          ([row]) => row?.[0]
        )
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(
          layerOf(url, { max: count, closeTimeout: "1 second", acquireTimeout: "2 minutes" }),
          scope
        )
        const fibers = yield* Effect.forEach(Array.from({ length: count }), () =>
          Effect.forkChild(
            Effect.exit(
              Effect.provideContext(
                request((sql) => sql`select pg_sleep(60)`),
                context
              )
            )
          )
        )
        yield* eventually(sleeping, (running) => running === count, "50 seconds")
        const begun = performance.now()
        yield* Scope.close(scope, Exit.void)
        assert.isBelow(performance.now() - begun, inTimeOf(3000))
        // Those that ask are there too.
        yield* eventually(backends(name, server), (left) => left === 2)
        for (const fiber of fibers) assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
        yield* LedgerRecorder.assertEmpty({ except: ["postgres", "temporary directory"] })
      }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
  )

  it.live("the server restarted under load: typed errors meanwhile, back within 5 s, no lease lost", () =>
    Effect.gen(function* () {
      const server = yield* TestPostgres.make({ maxConnections: 30 })
      yield* Effect.gen(function* () {
        const pool = yield* ConnectionPool.ConnectionPool
        const failures = new Set<string>()
        const load = yield* Effect.forkChild(
          request((sql) => sql`select pg_sleep(0.005)`).pipe(
            Effect.catch((error) => Effect.as(Effect.yieldNow, failures.add(error._tag))),
            Effect.forever,
            (loop) => Effect.forEach(Array.from({ length: 20 }), () => loop, { concurrency: "unbounded" })
          )
        )
        yield* eventually(pool.stats, ({ leased }) => leased > 5)
        yield* server.restart
        const begun = performance.now()
        yield* request((sql) => sql`select 1`).pipe(
          Effect.retry(Schedule.spaced("10 millis")),
          Effect.timeout("5 seconds")
        )
        assert.isBelow(performance.now() - begun, 5000)
        yield* Fiber.interrupt(load)
        assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 })
        assert.includeMembers(["SqlError", "ConnectionError"], Array.from(failures))
        assert.isAbove(failures.size, 0)
      }).pipe(Effect.scoped, Effect.provide(layerOf(server.superuserUrl, { max: 10, acquireTimeout: "2 seconds" })))
      yield* LedgerRecorder.assertEmpty({ except: ["postgres", "temporary directory"] })
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
  )
})
