import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { page, problemOf, queryOf, rowsOf, run, settled, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

const failed = (sql: string, more?: Readonly<Record<string, unknown>>) =>
  Effect.gen(function* () {
    const browser = yield* Service.Demo
    const query = yield* run(browser, sql, more)
    assert.strictEqual(query.state, "Failed", sql)
    assert.isNull(query.rowCount)
    assert.isNotNull(query.endedAt)
    const rows = yield* browser.send("GET", `/queries/${query.id}/rows`)
    assert.deepStrictEqual([rows.status, problemOf(rows).code], [409, "QueryNotSucceeded"])
    assert.deepStrictEqual(yield* rowsOf(browser, "select 'next'"), [["next"]], `after ${sql}`)
    return query.error
  })

layer(Service.layerShared({ HOLDFAST_MAX_QUERIES_PER_USER: "10" }), {
  excludeTestServices: true,
  timeout: "60 seconds"
})("SQL", (it) => {
  it.effect("SQL that does not parse is Failed, with the server's code and the position", () =>
    Effect.gen(function* () {
      const error = yield* failed("select 'ä' from from")
      assert.deepInclude(error, { code: "StatementFailed", sqlState: "42601", position: 17 })
      assert.deepInclude(yield* failed("select * from nowhere"), { sqlState: "42P01", position: 15 })
    })
  )

  it.effect("a statement that fails while it runs is Failed, with the server's code", () =>
    Effect.gen(function* () {
      assert.deepInclude(yield* failed("select 1 / (10 - n) from generate_series(1, 20) n"), { sqlState: "22012" })
      assert.deepInclude(yield* failed("do $$ begin raise exception 'no' using errcode = 'HF001'; end $$"), {
        sqlState: "HF001",
        message: "no"
      })
    })
  )

  it.effect("several statements in one are Failed, and none of them ran", () =>
    Effect.gen(function* () {
      const error = yield* failed("create table half_done (id int); select 1")
      assert.strictEqual(error?.sqlState, "42601")
      assert.deepStrictEqual(yield* rowsOf(yield* Service.Demo, "select to_regclass('half_done')"), [[null]])
    })
  )

  it.effect("COPY to and from the client is Failed, and the service goes on", () =>
    Effect.gen(function* () {
      yield* failed("copy (select generate_series(1, 100000)) to stdout")
      const browser = yield* Service.Demo
      assert.strictEqual((yield* run(browser, "create table copied (id int)")).state, "Succeeded")
      yield* failed("copy copied from stdin")
      assert.deepStrictEqual(yield* rowsOf(browser, "select count(*)::int from copied"), [[0]])
    })
  )

  it.effect("a statement that ends its own connection is Failed, and the next one has another", () =>
    Effect.gen(function* () {
      const error = yield* failed("select pg_terminate_backend(pg_backend_pid()), pg_sleep(5)")
      assert.isString(error?.code)
    })
  )

  it.effect("ten connections that are killed at once are replaced", () =>
    Effect.gen(function* () {
      const { queries } = yield* Service.Shared
      const browser = yield* Service.Demo
      const ids = yield* Effect.all(Array.from({ length: 10 }, () => submit(browser, "select pg_sleep(60)")))
      yield* Service.runs(queries.name, "pg_sleep", 10)
      yield* Service.administer(
        `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${queries.name}'`
      )
      for (const id of ids) assert.strictEqual((yield* settled(browser, id)).state, "Failed")
      const answers = yield* Effect.all(
        ids.map((_, index) => rowsOf(browser, "select $1::int", { params: [index] })),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        answers,
        ids.map((_, index) => [[index]])
      )
    })
  )

  it.effect("C3 what a statement leaves on its connection never reaches the next one", () =>
    Effect.gen(function* () {
      const { queries } = yield* Service.Shared
      const browser = yield* Service.Demo
      for (const sql of [
        "begin",
        "create temp table left_over as select 1 as id",
        "set search_path to nowhere",
        "set statement_timeout to 1",
        "set session characteristics as transaction read only",
        "set default_transaction_read_only to on",
        "select pg_advisory_lock(42)",
        "listen left_over",
        "prepare left_over as select 1",
        "declare left_over cursor with hold for select 1",
        "deallocate all",
        "discard all",
        "set client_encoding to latin1",
        "set datestyle to german",
        "set role none",
        "set session_replication_role to replica"
      ]) {
        yield* run(browser, sql)
        // Whichever connection it was on: all of them are asked, at once.
        const asked = yield* Effect.all(
          Array.from({ length: 10 }, () =>
            rowsOf(
              browser,
              `select current_setting('search_path'), current_setting('statement_timeout'),
                 current_setting('default_transaction_read_only'), current_setting('client_encoding'),
                 to_regclass('pg_temp.left_over'), (select count(*)::int from pg_prepared_statements),
                 (select count(*)::int from pg_cursors where name = 'left_over'),
                 (select count(*)::int from pg_listening_channels()), current_user::text,
                 (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
                 '2026-02-01'::date, 'ü', pg_sleep(0.02)::text`
            )
          ),
          { concurrency: "unbounded" }
        )
        for (const [row] of asked) {
          assert.deepStrictEqual(
            row?.slice(0, -1),
            ['"$user", public', "3601s", "off", "UTF8", null, 0, 0, 0, queries.role, 0, "2026-02-01", "ü"],
            `after ${sql}`
          )
        }
        const open = Service.statements(queries.name)
        yield* eventually(open, ({ length }) => length === 0)
      }
    })
  )

  it.effect("notices, empty results and commands without rows are Succeeded", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      assert.deepStrictEqual(yield* rowsOf(browser, "do $$ begin raise notice 'hello'; end $$"), [])
      const { id, rowCount } = yield* run(browser, "select 1 as n where false")
      assert.deepStrictEqual([rowCount, (yield* page(browser, id)).columns], [0, [{ name: "n", type: "int4" }]])
      yield* run(browser, "create table counted (id int)")
      assert.strictEqual((yield* run(browser, "insert into counted values (1), (2), (3)")).rowCount, 3)
      assert.strictEqual((yield* run(browser, "update counted set id = id + 1 where id > 1")).rowCount, 2)
    })
  )

  it.effect("values travel as the documentation says", () =>
    Effect.gen(function* () {
      const sql = `select 9007199254740993::int8, 1.10::numeric, 'NaN'::float8, true, null, '{"a":[1]}'::jsonb,
        '\\xdeadbeef'::bytea, '2026-01-02 03:04:05.678901+00'::timestamptz, array[1,2,null], 'Grüße 日本 🐘'`
      const [row] = yield* rowsOf(yield* Service.Demo, sql)
      assert.deepStrictEqual(row, [
        "9007199254740993",
        "1.10",
        "NaN",
        true,
        null,
        { a: [1] },
        "3q2+7w==",
        "2026-01-02T03:04:05.678901Z",
        [1, 2, null],
        "Grüße 日本 🐘"
      ])
    })
  )

  it.effect("a row larger than any that is kept is Failed, and the service goes on", () =>
    Effect.gen(function* () {
      const error = yield* failed("select repeat('x', 20000000)")
      assert.strictEqual(error?.code, "ResultTooLarge")
      assert.deepStrictEqual(yield* rowsOf(yield* Service.Demo, "select 1"), [[1]])
    })
  )

  it.effect("a result of a hundred megabytes is kept, and any page of it is read", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const { id, rowCount } = yield* run(browser, "select n, repeat('x', 100000) from generate_series(1, 1000) as n")
      assert.strictEqual(rowCount, 1000)
      const { next, rows } = yield* page(browser, id, "?limit=30")
      assert.deepStrictEqual([rows.length, rows[29]?.[0]], [30, 30])
      assert.strictEqual((yield* page(browser, id, `?limit=1&cursor=${next}`)).rows[0]?.[0], 31)
    })
  )

  it.effect("a page of ten thousand rows is one request", () =>
    Effect.gen(function* () {
      const browser = yield* Service.Demo
      const { id } = yield* run(browser, "select generate_series(1, 10001)")
      const { next, rows } = yield* page(browser, id, "?limit=10000")
      assert.deepStrictEqual([rows.length, rows.at(-1)], [10_000, [10_000]])
      assert.deepStrictEqual((yield* page(browser, id, `?limit=10000&cursor=${next}`)).rows, [[10_001]])
      assert.lengthOf((yield* page(browser, id)).rows, 1000)
      assert.strictEqual(queryOf(yield* browser.send("GET", `/queries/${id}`)).rowCount, 10_001)
    })
  )
})
