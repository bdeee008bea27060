import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { Duplex } from "node:stream"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as PgDriver from "../../src/postgres/internal/PgDriver.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Query from "../../src/query/Query.ts"
import { QueryDriver, type Row, type Statement } from "../../src/query/QueryDriver.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { layerOf } from "../support/connections.ts"
import { freshDatabase } from "../support/postgres.ts"
import { layerQueries, withQueries } from "../support/queries.ts"

const run = (sql: string, params?: Parameters<typeof Query.layer>[1]) =>
  Effect.gen(function* () {
    const query = yield* Query.Query
    const rows = yield* Stream.runCollect(query.rows)
    return { rows, columns: yield* query.columns, summary: yield* query.summary }
  }).pipe(Effect.provide(Query.layer(sql, params)))

describe("PgQueryDriver", () => {
  it.live("keeps every type's value exact, and columns of one name apart", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { columns, rows } = yield* run(`
          select 1, 2, true as b, 9007199254740993::int8 as big, 1.10::numeric as dec, 'NaN'::float8 as nan, 1.5::float4 as f,
            'infinity'::timestamptz as forever, '2026-01-02 03:04:05.123456+02'::timestamptz as tz,
            '2026-01-02 03:04:05'::timestamp as ts, '\\x00ff'::bytea as bytes, '{"a":[1]}'::jsonb as json,
            array[array[1,null],array[3,4]] as nested, array['a"b', 'c,d', null] as texts, null as nothing, '12.30'::money::text as cash,
            int4range(1,5) as range, point(1,2) as point, date '2026-01-02' as day, interval '1 day 2 hours' as span`)
        assert.deepStrictEqual(rows, [
          [
            1,
            2,
            true,
            "9007199254740993",
            "1.10",
            "NaN",
            1.5,
            "infinity",
            "2026-01-02T01:04:05.123456Z",
            "2026-01-02T03:04:05",
            "AP8=",
            { a: [1] },
            [
              [1, null],
              [3, 4]
            ],
            ['a"b', "c,d", null],
            null,
            "$12.30",
            "[1,5)",
            "(1,2)",
            "2026-01-02",
            "1 day 02:00:00"
          ]
        ])
        assert.deepStrictEqual(columns.slice(0, 4), [
          { name: "?column?", type: "int4" },
          { name: "?column?", type: "int4" },
          { name: "b", type: "bool" },
          { name: "big", type: "int8" }
        ])
      })
    )
  )

  it.live("takes parameters as whatever type the statement asks for", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { rows } = yield* run(
          "select $1::int + 1, $2::text, $3::jsonb, $4::int[], $5::bool, $6::text, $7::text[]",
          [41, 'it\'s "quoted"', { a: 1 }, [1, 2], true, null, ['a"b\\c', null, ""]]
        )
        assert.deepStrictEqual(rows, [[42, 'it\'s "quoted"', { a: 1 }, [1, 2], true, null, ['a"b\\c', null, ""]]])
      })
    )
  )

  it.live("tells columns and command of statements without rows", () =>
    withQueries(() =>
      Effect.gen(function* () {
        assert.deepStrictEqual(yield* run("select 1 as a where false"), {
          rows: [],
          columns: [{ name: "a", type: "int4" }],
          summary: { command: "SELECT", rowCount: 0 }
        })
        assert.deepStrictEqual((yield* run("create table t (a int)")).summary, { command: "CREATE", rowCount: 0 })
        assert.deepStrictEqual((yield* run("insert into t values (1), (2)")).summary, {
          command: "INSERT",
          rowCount: 2
        })
        assert.deepStrictEqual((yield* run("insert into t values (3) returning a, a")).rows, [[3, 3]])
      })
    )
  )

  it.live("is not misled by settings, nor by what JSON cannot hold", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { rows } = yield* run(
          `select set_config('bytea_output', 'escape', false), '\\x00ff415c'::bytea, '1e400'::jsonb, '[12345678901234567890, 1.5]'::jsonb,
            (repeat('[', 600) || repeat(']', 600))::json`
        )
        assert.deepStrictEqual(rows[0]?.slice(1), [
          "AP9BXA==",
          `1${"0".repeat(400)}`,
          "[12345678901234567890, 1.5]",
          "[".repeat(600) + "]".repeat(600)
        ])
      })
    )
  )

  it.live("has JSON as it is where JavaScript gives it back unchanged, and as its text where it does not", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { rows } = yield* run(
          `select to_jsonb(0.1::float8 + 0.2::float8), '[5e-324, -1.7976931348623157e308, 1.50, 0.0, 1E3, 100e-1]'::json,
            '[1e-400]'::json, '1.23456789012345e-320'::json, '{"a":0.12345678901234567890}'::json, '9007199254740993'::json,
            '9007199254740992'::json, '[1e400]'::json, '-0'::json, '[-0.0]'::json, '{"a":1,"a":2}'::json, '{"a":{"b":1,"\\u0062":2}}'::json,
            '"1"'::json, 'null'::jsonb, 'true'::json, '[null, "1", {"a":"a"}]'::jsonb`
        )
        assert.deepStrictEqual(rows[0], [
          0.1 + 0.2,
          [5e-324, -1.7976931348623157e308, 1.5, 0, 1000, 10],
          "[1e-400]",
          "1.23456789012345e-320",
          '{"a":0.12345678901234567890}',
          "9007199254740993",
          "9007199254740992",
          "[1e400]",
          "-0",
          "[-0.0]",
          '{"a":1,"a":2}',
          '{"a":{"b":1,"\\u0062":2}}',
          '"1"',
          "null",
          true,
          [null, "1", { a: "a" }]
        ])
      })
    )
  )

  it.live("takes brackets in the strings of JSON for what they are", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const open = "[{".repeat(600)
        const { rows } = yield* run(`select to_jsonb($1::text), jsonb_build_object('a"\\[', $1::text)`, [open])
        assert.deepStrictEqual(rows, [[JSON.stringify(open), { 'a"\\[': open }]])
      })
    )
  )

  it.live("writes as PostgreSQL does what is no ISO 8601", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { rows } = yield* run(
          `select '10000-01-01'::timestamp, '0044-03-15 BC'::timestamp, '-infinity'::timestamptz, '9999-12-31 23:59:59.999999'::timestamp,
            array['infinity', '2026-01-02']::timestamp[], '12026-01-02'::date, set_config('TimeZone', 'Europe/Berlin', false), '1800-01-01'::timestamptz`
        )
        assert.deepStrictEqual(rows, [
          [
            "10000-01-01 00:00:00",
            "0044-03-15 00:00:00 BC",
            "-infinity",
            "9999-12-31T23:59:59.999999",
            ["infinity", "2026-01-02T00:00:00"],
            "12026-01-02",
            "Europe/Berlin",
            "1800-01-01 00:53:28+00:53:28"
          ]
        ])
      })
    )
  )

  it.live("has values of types that are not built in as the server's text, and knows their names", () =>
    withQueries(() =>
      Effect.gen(function* () {
        yield* run("create type mood as enum ('sad', 'ok')")
        yield* run("create domain positive as int check (value > 0)")
        yield* run("create type pair as (a int, b text)")
        const { columns, rows } = yield* run(
          `select 'ok'::mood, array['sad', 'ok']::mood[], 3::positive, row(1, 'x, y')::pair, '[0:1]={1,2}'::int[], '{[1,3),[5,9)}'::int4multirange,
            array['[1,5)']::int4range[], array['(1,1),(0,0)', '(2,2),(0,0)']::box[], 'Infinity'::numeric, array['-Infinity', 'NaN', 1.10]::numeric[],
            '$1'::money, array['08:00:2b:01:02:03']::macaddr[]`
        )
        assert.deepStrictEqual(rows, [
          [
            "ok",
            "{sad,ok}",
            3,
            '(1,"x, y")',
            "[0:1]={1,2}",
            "{[1,3),[5,9)}",
            ["[1,5)"],
            ["(1,1),(0,0)", "(2,2),(0,0)"],
            "Infinity",
            ["-Infinity", "NaN", "1.10"],
            "$1.00",
            ["08:00:2b:01:02:03"]
          ]
        ])
        assert.deepStrictEqual(
          columns.map(({ type }) => type),
          "mood mood[] int4 pair int4[] int4multirange int4range[] box[] numeric numeric[] money macaddr[]".split(" ")
        )
      })
    )
  )

  it.live("blames the statement for what only breaks the connection", () =>
    withQueries(() =>
      Effect.gen(function* () {
        assert.strictEqual((yield* Effect.flip(run("copy (select 1) to stdout"))).reason._tag, "StatementFailed")
        // A length, the number of values and the length of the one there is.
        const most = 16 * 1024 * 1024 - 4 - 2 - 4
        const tooLong = run(`select repeat('x', ${most + 1})`)
        assert.strictEqual((yield* Effect.flip(tooLong)).reason._tag, "ResultTooLarge")
        const { rows } = yield* run(`select repeat('x', ${most})`)
        assert.strictEqual(String(rows[0]?.[0]).length, most)
        assert.deepStrictEqual((yield* run("select 1")).rows, [[1]])
      })
    )
  )

  it.live("a statement that ends its own backend or leaves a transaction open fails, and harms nobody", () =>
    withQueries(
      () =>
        Effect.gen(function* () {
          const killed = yield* Effect.flip(run("select pg_terminate_backend(pg_backend_pid())"))
          assert.deepInclude(killed.reason, { _tag: "StatementFailed", code: "57P01" })
          const open = yield* Effect.flip(run("begin"))
          assert.match(open.message, /left a transaction open/)
          assert.deepStrictEqual((yield* run("select 1")).rows, [[1]])
        }),
      { max: 1 }
    )
  )

  it.live(
    "a statement travels with its settings and its reset in one packet, and the connection is the next one's",
    () =>
      withQueries(
        () =>
          Effect.gen(function* () {
            const pool = yield* ConnectionPool.ConnectionPool
            const { services } = yield* Effect.scoped(pool.lease())
            const { connection } = Option.getOrThrow(Context.getOption(services, PgDriver.Pinned))
            const socket: unknown = Reflect.get(Reflect.get(connection, "session"), "socket")
            if (!(socket instanceof Duplex)) return assert.fail("no socket")
            let packets = 0
            const write = socket.write.bind(socket) as (...args: ReadonlyArray<unknown>) => boolean
            socket.write = (...args: ReadonlyArray<unknown>) => {
              packets++
              return write(...args)
            }
            const pid = yield* run("select pg_backend_pid(), pg_advisory_lock(1)")
            assert.strictEqual(packets, 1)
            yield* Effect.flip(run("begin"))
            assert.strictEqual(packets, 3)
            const { rows } = yield* run(
              "select pg_backend_pid(), count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
            )
            assert.deepStrictEqual(rows, [[pid.rows[0]?.[0] ?? null, 0]])
          }),
        { max: 1 }
      )
  )

  it.live("C3 a connection is reset before it is lent again, whatever its recipe and its last statement", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const on = (recycle: PgRecycle.Recipe, ...sqls: ReadonlyArray<string>) =>
        Effect.forEach(sqls, (sql) =>
          Effect.map(
            Effect.exit(run(sql)),
            Exit.map(({ rows }) => rows)
          )
        ).pipe(Effect.provide(layerOf(url, { max: 1, recycle })))
      const pid = "select pg_backend_pid()"
      const same = (exits: ReadonlyArray<Exit.Exit<unknown, unknown>>) => {
        const [first, , last = assert.fail("no answer")] = exits
        assert.deepStrictEqual(last, first)
      }
      same(yield* on(PgRecycle.none, pid, "select 1", pid))
      // The reset that travels behind succeeds within the transaction that it was to find ended.
      same(yield* on(PgRecycle.and(PgRecycle.transaction, PgRecycle.settings), pid, "begin", pid))
      const prepared = "select count(*)::int from pg_prepared_statements where from_sql"
      same(yield* on(PgRecycle.complete, prepared, "prepare mine as select 1", prepared))
      const picky = PgRecycle.custom([
        { name: "picky", sql: "select 1 / (1 - count(*)) from pg_class where relname = 'here'", kind: "alone" }
      ])
      const [first, , , last] = yield* on(picky, pid, "create table here (a int)", pid, pid)
      assert.notDeepEqual(first, last)
    }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
  )

  it.live("takes as many parameters as the protocol has room for, and says what it has none for", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const params = Array.from({ length: 65_535 }, (_, n) => (n === 65_534 ? "last" : null))
        const sql = `select coalesce(${params.map((_, n) => `$${n + 1}`).join(",")})`
        assert.deepStrictEqual((yield* run(sql, params)).rows, [["last"]])
        assert.match((yield* Effect.flip(run(sql, [...params, null]))).message, /has 65536 parameters/)
        assert.match((yield* Effect.flip(run("select 1\0"))).message, /zero character/)
      })
    )
  )

  it.live("the server knows the query's id and its deadline, and the settings of the statement alone", () =>
    withQueries(
      () =>
        Effect.gen(function* () {
          const shown = `select current_setting('application_name'), current_setting('statement_timeout'),
            current_setting('default_transaction_read_only')`
          const execute = (statement: Omit<Statement, "params">, deadline?: Duration.Duration) =>
            Effect.gen(function* () {
              const driver = yield* QueryDriver
              const rows: Array<Row> = []
              const sink = {
                columns: () => Effect.void,
                rows: (some: ReadonlyArray<Row>) => Effect.sync(() => rows.push(...some))
              }
              const { execute } = yield* driver.open
              yield* execute({ params: [], ...statement }, sink, {
                id,
                deadline,
                onDone: () => {},
                onGivenUp: () => {}
              })
              return rows
            }).pipe(Effect.scoped)
          const id = QueryId.make()
          const settings = { default_transaction_read_only: "on" }
          const own = yield* execute({ sql: shown, settings }, Duration.seconds(7))
          assert.deepStrictEqual(own, [[`holdfast ${id}`, "8s", "on"]])
          // PostgreSQL takes a little less than 25 days.
          for (const deadline of [Duration.days(30), Duration.infinity]) {
            const far = yield* execute({ sql: shown }, deadline)
            assert.deepStrictEqual(far, [[`holdfast ${id}`, "2147483647ms", "off"]])
          }
          const next = yield* execute({ sql: shown, settings: {} })
          assert.deepStrictEqual(next, [[`holdfast ${id}`, "1h", "off"]])
          const refused = yield* Effect.flip(execute({ sql: "create table never (a int)", settings: { no_such: "x" } }))
          assert.strictEqual(refused.reason._tag, "QueriesUnavailable")
          const made = yield* execute({ sql: "select to_regclass('never') is not null" })
          assert.deepStrictEqual(made, [[false]])
          const readOnly = yield* Effect.flip(execute({ sql: "create table never (a int)", settings }))
          assert.deepInclude(readOnly.reason, { _tag: "StatementFailed", code: "25006" })
        }),
      { max: 1 }
    )
  )

  it.live("a setting is what it is, whatever a quoted text means to the server", () =>
    withQueries(({ name, url }) =>
      Effect.gen(function* () {
        yield* run(`alter database ${name} set standard_conforming_strings to off`)
        const word = "\\'; select 'é"
        const shown = "select current_setting('standard_conforming_strings'), current_setting('my.word')"
        const statement = { sql: shown, params: [], settings: { "my.word": word } }
        // On connections that were opened since.
        const rows = yield* Effect.gen(function* () {
          const registry = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
          const { id } = yield* registry.submit({ statement, principal: "alice" })
          assert.strictEqual((yield* registry.await("alice", id)).error, null)
          return (yield* registry.page("alice", id, { offset: 0, limit: 1 })).rows
        }).pipe(Effect.scoped, Effect.provide(Layer.fresh(layerQueries(url))))
        assert.deepStrictEqual(rows, [["off", word]])
      })
    )
  )

  it.live("survives results that span many chunks", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { rows, summary } = yield* run("select n, repeat('x', n % 300) from generate_series(1, 50000) as n")
        assert.strictEqual(rows.length, 50_000)
        assert.strictEqual(summary.rowCount, 50_000)
        assert.isTrue(rows.every(([n, text], index) => n === index + 1 && text === "x".repeat((index + 1) % 300)))
      })
    )
  )

  it.live("decodes rows that are too large to be read at once, between rows that are not", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { rows, summary } = yield* run(
          "select n, repeat('é', n * 30000), (select array_agg(i) from generate_series(1, n * 9000) i), to_jsonb(repeat('[1] ', n)), null from generate_series(0, 3) n"
        )
        assert.strictEqual(summary.rowCount, 4)
        for (const [at, row] of rows.entries()) {
          const numbers = at === 0 ? null : Array.from({ length: at * 9000 }, (_, index) => index + 1)
          assert.deepStrictEqual(row, [at, "é".repeat(at * 30_000), numbers, JSON.stringify("[1] ".repeat(at)), null])
        }
      })
    )
  )

  it.live("says what is wrong with a statement, and where", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(run("select nothing from nowhere"))
        assert.strictEqual(error.reason._tag, "StatementFailed")
        assert.deepInclude(error.reason, { code: "42P01", position: 21 })
        const several = yield* Effect.flip(run("select 1; select 2"))
        assert.match(several.message, /multiple commands/)
        assert.match((yield* Effect.flip(run("select 1 -- \0"))).message, /zero character/)
        assert.match((yield* Effect.flip(run("select 1", Array<null>(65_536).fill(null)))).message, /takes 65535/)
        const most = Array.from({ length: 65_535 }, (_, n) => n)
        const listed = most.map((n) => `$${n + 1}`).join(",")
        assert.deepStrictEqual((yield* run(`select 65534 in (${listed})`, most)).rows, [[true]])
        assert.deepStrictEqual((yield* run("select 1")).rows, [[1]])
      })
    )
  )
})
