import { assert, layer } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as SqlClient from "effect/sql/SqlClient"
import { isSqlError } from "effect/sql/SqlError"
import * as Connection from "../../src/connection/Connection.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as Query from "../../src/query/Query.ts"
import * as Session from "../../src/session/Session.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import * as TestSql from "../../src/testing/TestSql.ts"
import { eventually } from "../support/conditions.ts"
import { administer } from "../support/service.ts"
import { superuserUrl } from "../support/postgres.ts"

const tables = `create table fruit (name text primary key, price int check (price > 0), picked timestamptz not null default now());
  create table basket (id int primary key, fruit text references fruit deferrable initially deferred)`

const database = Layer.unwrap(
  Effect.map(superuserUrl, (url) =>
    TestSql.layerDatabase({
      url,
      patience: "400 millis",
      migrate: (url) =>
        Effect.gen(function* () {
          yield* PgSessionStore.migrate({ url })
          const connection = yield* PgConnection.make({ url })
          for (const sql of tables.split(";")) yield* connection.query(sql)
        })
    })
  )
)

class AppSession extends Session.Service<AppSession>()("test/AppSession", { data: Schema.Int, initial: 0 }) {}

const plant = (name: string, price = 1) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql`insert into fruit (name, price) values (${name}, ${price})`)

const names = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  return (yield* sql<{ name: string }>`select name from fruit order by name`).map(({ name }) => name)
})

/** What the server said of a statement that failed. */
const told = <A, R>(effect: Effect.Effect<A, unknown, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    const cause = isSqlError(error) ? error.reason.cause : error
    return cause as Error & { code?: string; hint?: string; detail?: string }
  })

const seen = (fiber: Fiber.Fiber<unknown, unknown>) => fiber.pollUnsafe() !== undefined

layer(database, { excludeTestServices: true })("a sandbox", (it) => {
  const sandboxed = <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.provide(effect, TestSql.layerSandbox)

  it.effect("shows a test what it wrote, and rolls it back at the end of the test", () =>
    Effect.gen(function* () {
      const first = sandboxed(Effect.andThen(plant("apple"), names))
      assert.deepStrictEqual(yield* first, ["apple"])
      assert.deepStrictEqual(yield* first, ["apple"])
    })
  )

  it.effect("rolls back when the test fails, dies or is interrupted, also in the middle of a statement", () =>
    Effect.gen(function* () {
      yield* Effect.exit(sandboxed(Effect.andThen(plant("apple"), Effect.fail("no"))))
      yield* Effect.exit(sandboxed(Effect.andThen(plant("apple"), Effect.die("no"))))
      const begun = yield* Deferred.make<number | undefined>()
      const asleep = Effect.gen(function* () {
        yield* plant("apple")
        const { backend } = yield* TestSql.TestSql
        yield* Deferred.succeed(begun, backend)
        const sql = yield* SqlClient.SqlClient
        yield* sql.withTransaction(Effect.andThen(plant("pear"), sql`select pg_sleep(600)`))
      })
      const fiber = yield* Effect.forkChild(sandboxed(asleep))
      const pid = yield* Deferred.await(begun)
      yield* eventually(
        administer(
          `select 1 from pg_stat_activity where pid = ${pid} and query like '%pg_sleep%' and state = 'active'`
        ),
        ({ rows }) => rows.length === 1
      )
      yield* Fiber.interrupt(fiber)
      const { rows } = yield* administer(`select 1 from pg_stat_activity where pid = ${pid} and xact_start is not null`)
      assert.strictEqual(rows.length, 0)
      assert.deepStrictEqual(yield* sandboxed(names), [])
    })
  )

  it.effect(
    "makes the app's transactions savepoints: what is committed stays in the test, what is rolled back is gone",
    () =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql.withTransaction(plant("apple"))
        yield* Effect.ignore(sql.withTransaction(Effect.andThen(plant("pear"), Effect.fail("no"))))
        yield* sql.withTransaction(
          Effect.gen(function* () {
            yield* plant("plum")
            yield* Effect.ignore(sql.withTransaction(Effect.andThen(plant("fig"), Effect.fail("no"))))
            yield* sql.withTransaction(plant("kiwi"))
          })
        )
        assert.deepStrictEqual(yield* names, ["apple", "kiwi", "plum"])
      }).pipe(sandboxed)
  )

  it.effect(
    "understands transactions in plain statements, several of them at once, and warns where there is none",
    () =>
      Effect.gen(function* () {
        const { url } = yield* TestSql.TestSql
        const connection = yield* PgConnection.make({ url })
        for (const begin of ["begin", "/* a */ start transaction isolation level serializable", "BEGIN WORK"]) {
          yield* connection.query(begin, [], false)
          yield* connection.query("insert into fruit (name) values ('apple')")
          const { command } = yield* connection.query("rollback", [], false)
          assert.strictEqual(command, "ROLLBACK")
        }
        yield* connection.query("commit")
        yield* connection.query("begin")
        yield* connection.query("insert into fruit (name) values ('pear')")
        yield* Effect.flip(connection.query("select 1/0"))
        assert.strictEqual((yield* told(connection.query("select 1"))).code, "25P02")
        assert.strictEqual((yield* connection.query("commit")).command, "ROLLBACK")
        yield* connection.query("begin")
        yield* connection.query("insert into fruit (name) values ('plum')")
        assert.strictEqual((yield* connection.query("end")).command, "COMMIT")
        assert.deepStrictEqual(yield* names, ["plum"])
        assert.strictEqual((yield* told(connection.query("prepare transaction 'x'"))).code, "0A000")
      }).pipe(Effect.scoped, sandboxed)
  )

  it.effect("is not spoilt by a statement that fails", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* plant("apple")
      assert.strictEqual((yield* told(plant("pear", -1))).code, "23514")
      assert.strictEqual((yield* told(plant("apple"))).code, "23505")
      assert.strictEqual((yield* told(sql`select nothing from nowhere`)).code, "42P01")
      assert.deepStrictEqual(yield* names, ["apple"])
    }).pipe(sandboxed)
  )

  it.effect("checks at the app's commit what is deferred to it", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const right = sql.withTransaction(Effect.andThen(sql`insert into basket values (1, 'apple')`, plant("apple")))
      yield* right
      const wrong = sql.withTransaction(sql`insert into basket values (2, 'nothing')`)
      assert.strictEqual((yield* told(wrong)).code, "23503")
      assert.deepStrictEqual(yield* sql`select id from basket`, [{ id: 1 }])
    }).pipe(sandboxed)
  )

  it.effect("lets the statements of concurrent fibers take turns, and a transaction keep its turn", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const each = (n: number) =>
        sql
          .withTransaction(
            Effect.gen(function* () {
              yield* plant(`fruit ${n}`)
              yield* sql`select pg_sleep(0.002)`
              if (n % 3 === 0) return yield* Effect.fail("no")
              return yield* sql`update fruit set price = ${n} where name = ${`fruit ${n}`}`
            })
          )
          .pipe(Effect.ignore)
      const all = Array.from({ length: 30 }, (_, n) => n + 1)
      yield* Effect.forEach(all, each, { concurrency: "unbounded" })
      const rows = yield* sql<{ price: number }>`select price from fruit order by price`
      assert.deepStrictEqual(
        rows.map(({ price }) => price),
        all.filter((n) => n % 3 !== 0)
      )
      const streamed = yield* Stream.runCollect(sql`select name from fruit order by price`.stream)
      assert.strictEqual(streamed.length, 20)
    }).pipe(sandboxed)
  )

  it.effect("explains a transaction that waits for a statement outside of it, instead of hanging", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { url } = yield* TestSql.TestSql
      const other = yield* PgConnection.make({ url, applicationName: "other" })
      const error = yield* told(sql.withTransaction(Effect.andThen(plant("apple"), other.query("select 42"))))
      assert.strictEqual(error.code, "40P01")
      assert.match(
        error.message,
        /^"select 42" waits for a transaction of the same test, and that transaction has run nothing for 400 ms/
      )
      assert.match(error.detail ?? "", /connection "SqlClient", whose last statement was "insert into fruit/)
      assert.match(error.hint ?? "", /layerTemplate/)
      assert.deepStrictEqual(yield* names, [], "the transaction that waited is rolled back")
      yield* other.query("select 42")
    }).pipe(Effect.scoped, sandboxed)
  )

  it.effect("reports that it was ended inside the test, to the statements that follow and at the end of the test", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        sandboxed(
          Effect.gen(function* () {
            const { backend } = yield* TestSql.TestSql
            yield* plant("apple")
            yield* administer(`select pg_terminate_backend(${backend}, 5000)`)
            const error = yield* told(plant("pear"))
            assert.match(error.message, /The server ended the connection of the sandbox/)
          })
        )
      )
      assert.isTrue(Exit.isFailure(exit))
      assert.match(
        Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "",
        /The server ended the connection of the sandbox/
      )
    })
  )

  it.effect("cancels one statement alone, also one that only waits for its turn", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { backend } = yield* TestSql.TestSql
      const running = yield* Effect.forkChild(sql`select pg_sleep(600)`)
      yield* eventually(
        administer(
          `select 1 from pg_stat_activity where pid = ${backend} and query like '%pg_sleep%' and state = 'active'`
        ),
        ({ rows }) => rows.length === 1
      )
      const waiting = yield* Effect.forkChild(plant("apple"), { startImmediately: true })
      yield* Fiber.interrupt(waiting)
      assert.isFalse(seen(running))
      yield* Fiber.interrupt(running)
      assert.deepStrictEqual(yield* names, [])
    }).pipe(sandboxed)
  )

  it.effect("says of each transaction and statement when it began, as if it were outside of a sandbox", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const now = Effect.map(
        sql<{ now: Date; current_timestamp: Date }>`select now(), current_timestamp, 'now()' as text`,
        ([row]) => {
          assert.deepStrictEqual(Object.keys(row ?? {}), ["now", "current_timestamp", "text"])
          assert.deepStrictEqual(row?.now, row?.current_timestamp)
          return Number(row?.now)
        }
      )
      const pause = sql`select pg_sleep(0.005)`
      const first = yield* now
      yield* pause
      assert.isAbove(yield* now, first)
      yield* sql.withTransaction(
        Effect.gen(function* () {
          const began = yield* now
          yield* pause
          assert.strictEqual(yield* now, began)
        })
      )
      const last = yield* now
      yield* pause
      assert.isAbove(yield* now, last)
    }).pipe(sandboxed)
  )

  it.effect("runs sessions, leases, queries and the app's own SQL side by side, and all see the same", () =>
    Effect.gen(function* () {
      const { url } = yield* TestSql.TestSql
      const sql = yield* SqlClient.SqlClient
      const sessions = Sessions.layer().pipe(Layer.provide(PgSessionStore.layer({ url })))
      yield* Effect.gen(function* () {
        const { token } = yield* AppSession.create({ principal: "alice" })
        const session = Effect.flatMap(AppSession.open(token), (context) => Effect.provide(AppSession, context))
        yield* Effect.scoped(Effect.flatMap(session, ({ modify }) => modify((n) => n + 41)))
        assert.strictEqual(yield* Effect.scoped(Effect.flatMap(session, ({ data }) => data)), 41)
        assert.deepStrictEqual(yield* sql`select principal from holdfast.sessions`, [{ principal: "alice" }])
        yield* plant("apple")
        const leased = names.pipe(Effect.provide(Connection.layer))
        assert.deepStrictEqual(yield* leased, ["apple"])
        const rows = Effect.flatMap(Query.Query, ({ rows }) => Stream.runCollect(rows))
        const queried = rows.pipe(
          Effect.provide(Query.layer("select name from fruit").pipe(Layer.provide(PgQueryDriver.layer)))
        )
        assert.deepStrictEqual(yield* queried, [["apple"]])
        // A login takes the old token's place at once, by the store's clock.
        const login = yield* Effect.scoped(Effect.flatMap(session, ({ authenticate }) => authenticate("bob")))
        void login
        const refused = yield* Effect.scoped(Effect.flip(Effect.flatMap(session, ({ data }) => data)))
        assert.strictEqual(refused.reason._tag, "SessionSuperseded")
      }).pipe(Effect.provide(sessions))
    }).pipe(sandboxed)
  )

  it.effect("is for several fibers, and several sandboxes of one database run in parallel", () =>
    Effect.gen(function* () {
      const together = yield* Effect.forEach(
        ["apple", "pear", "plum", "fig"],
        (name) =>
          sandboxed(Effect.andThen(Effect.all([plant(name), plant(`${name} tree`)], { concurrency: 2 }), names)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(together, [
        ["apple", "apple tree"],
        ["pear", "pear tree"],
        ["plum", "plum tree"],
        ["fig", "fig tree"]
      ])
    })
  )

  it.effect("says what to do where something cannot run in a transaction, or as somebody else", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const { url } = yield* TestSql.TestSql
      const error = yield* told(sql`vacuum fruit`)
      assert.strictEqual(error.code, "25001")
      assert.match(error.hint ?? "", /layerTemplate/)
      const other = yield* told(PgConnection.make({ url, username: "nobody" }))
      assert.match(other.message, /one connection of the role postgres, not of nobody/)
    }).pipe(Effect.scoped, sandboxed)
  )

  it.effect("undoes what a connection had begun that is closed in the middle of it", () =>
    Effect.gen(function* () {
      const { url } = yield* TestSql.TestSql
      yield* Effect.scoped(
        Effect.gen(function* () {
          const connection = yield* PgConnection.make({ url })
          yield* connection.query("begin")
          yield* connection.query("insert into fruit (name) values ('apple')")
        })
      )
      assert.deepStrictEqual(yield* names, [])
    }).pipe(sandboxed)
  )

  it.effect("leaves nothing on its connection for the sandbox that has it next", () =>
    Effect.gen(function* () {
      const left = Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { backend } = yield* TestSql.TestSql
        const [found] =
          yield* sql`select current_setting('work_mem') as memory, to_regclass('pg_temp.scratch') as scratch,
          (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks`
        yield* sql`set work_mem = '7MB'`
        yield* sql`select pg_advisory_lock(7)`
        yield* sql`create temporary table scratch (n int)`
        yield* sql`prepare seven as select 7`
        return { ...found, locks: found?.locks, backend }
      }).pipe(sandboxed)
      const [first, second] = [yield* left, yield* left]
      assert.deepStrictEqual(second, first)
      assert.strictEqual(second.locks, 0)
    })
  )
})

layer(database, { excludeTestServices: true })("a database of a test's own", (it) => {
  it.effect("has the tables of the template, commits, notifies, and is dropped", () =>
    Effect.gen(function* () {
      const name = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const { url } = yield* TestSql.TestSql
        const listener = yield* PgConnection.make({ url })
        const heard = yield* listener.listen("news")
        yield* plant("apple")
        yield* sql`select pg_notify('news', 'apple')`
        assert.strictEqual((yield* Queue.take(heard)).payload, "apple")
        yield* sql`vacuum fruit`
        const [row] = yield* sql<{ name: string }>`select current_database() as name`
        return row?.name
      }).pipe(Effect.scoped, Effect.provide(TestSql.layerTemplate))
      const { rows } = yield* administer(`select 1 from pg_database where datname = '${name}'`)
      assert.strictEqual(rows.length, 0)
    })
  )

  it.effect("names the connection that a test left open", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(
        Effect.gen(function* () {
          const scope = yield* Effect.scope
          const leak = Effect.gen(function* () {
            const { url } = yield* TestSql.TestSql
            const connection = yield* PgConnection.make({ url, applicationName: "forgetful" })
            yield* connection.query("select 'forgotten'")
          })
          yield* Effect.provide(Effect.provideService(leak, Scope.Scope, scope), TestSql.layerTemplate)
        }).pipe(Effect.scoped)
      )
      const text = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
      assert.match(text, /1 of its connections to its database are still open/)
      assert.match(text, /application forgetful, idle, last statement: select 'forgotten'/)
    })
  )
})
