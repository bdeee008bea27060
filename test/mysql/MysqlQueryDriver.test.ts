import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { layerBoth } from "../../docs/examples/engines.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as MysqlConnectionSource from "../../src/mysql/MysqlConnectionSource.ts"
import * as MysqlQueryBackends from "../../src/mysql/MysqlQueryBackends.ts"
import * as MysqlQueryDriver from "../../src/mysql/MysqlQueryDriver.ts"
import { leftOut } from "../../src/query/QueryCapabilities.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { ConnectionSource } from "../../src/connection/ConnectionSource.ts"
import * as ConnectionSourceLaws from "../../src/testing/ConnectionSourceLaws.ts"
import * as QueryDriverLaws from "../../src/testing/QueryDriverLaws.ts"
import { eventually } from "../support/conditions.ts"
import * as MariaDb from "../support/mariadb.ts"
import * as Takeover from "../support/takeover.ts"

const drivers = ({ password, url }: MariaDb.MariaDb, max = 8) =>
  MysqlQueryDriver.layer.pipe(
    Layer.provideMerge(ConnectionPool.layer({ max })),
    Layer.provide(MysqlConnectionSource.layer({ url: Redacted.make(url), password }))
  )

/** A registry, a pool and a ledger of a test's own. */
const withRegistry = <A, E>(
  test: (
    run: (
      sql: string,
      params?: QueryRegistry.Submission["statement"]["params"]
    ) => Effect.Effect<Awaited<ReturnType<typeof JSON.parse>>, unknown>,
    server: MariaDb.MariaDb
  ) => Effect.Effect<A, E, QueryRegistry.QueryRegistry | ConnectionPool.ConnectionPool>
) =>
  Effect.gen(function* () {
    const server = yield* MariaDb.Shared
    yield* Effect.gen(function* () {
      const registry = yield* QueryRegistry.QueryRegistry
      yield* test(
        (sql, params = []) =>
          Effect.gen(function* () {
            const { id } = yield* registry.submit({ principal: "alice", statement: { sql, params } })
            const record = yield* registry.await("alice", id)
            if (record.state !== "Succeeded") return record
            return (yield* registry.page("alice", id, { offset: 0, limit: 1000 })).rows
          }),
        server
      )
    }).pipe(
      Effect.provide(
        QueryRegistry.layer({ maxRunning: 8 }).pipe(
          Layer.provide(QueryResults.layerMemory()),
          Layer.provideMerge(drivers(server))
        )
      )
    )
    yield* eventually(MariaDb.connections(server), (count) => count === 0)
  }).pipe(Effect.provide(Layer.fresh(Ledger.layer)))

const world = Layer.effect(
  QueryDriverLaws.World,
  Effect.gen(function* () {
    const server = yield* MariaDb.Shared
    const driver = Context.get(yield* Layer.build(drivers(server)), QueryDriver)
    return { driver, running: Effect.map(MariaDb.statements(server), ({ length }) => length) }
  })
)

const sourceWorld = Layer.effect(
  ConnectionSourceLaws.World,
  Effect.gen(function* () {
    const server = yield* MariaDb.Shared
    const { password, url } = server
    const sourceOf = (url: string, password: Redacted.Redacted<string>) =>
      Effect.map(Layer.build(MysqlConnectionSource.layer({ url: Redacted.make(url), password })), (context) =>
        Context.get(context, ConnectionSource)
      )
    return {
      source: yield* sourceOf(url, password),
      connections: Effect.map(
        server.administer("select id from information_schema.processlist where user = 'reporter'"),
        (rows) => rows.map((row) => String(row["id"]))
      ),
      kill: (id: string) => Effect.asVoid(server.administer(`kill ${id}`)),
      unreachable: yield* sourceOf("mysql://nobody@127.0.0.1:1/nowhere", Redacted.make("secret"))
    }
  })
)

layer(MariaDb.layer, { excludeTestServices: true, timeout: "60 seconds" })("MariaDB", (it) => {
  ConnectionSourceLaws.run(
    sourceWorld,
    {
      name: "MariaDB",
      dialect: {
        nothing: "select 1",
        id: "select connection_id() as id",
        sleep: "select sleep(60)",
        dirt: [
          "set @mine = 1",
          "set lc_time_names = 'de_DE'",
          "create temporary table mine (a int)",
          "select get_lock('mine', 0)",
          "begin"
        ],
        traces: `select @mine as mine, @@lc_time_names as names, is_used_lock('mine') as locks, @@in_transaction as open,
          (select count(*) from information_schema.tables where table_name = 'mine') as tables`
      }
    },
    { test: it.effect }
  )

  QueryDriverLaws.run(
    world,
    {
      name: "MariaDB",
      engine: MysqlQueryDriver.capabilities,
      dialect: {
        numbers: (count) =>
          `select seq as n, concat('row ', seq) as label from seq_1_to_20000 where seq <= ${count} order by seq`,
        trickle: (count, seconds) =>
          `select seq as n, concat(repeat('x', 20000), sleep(if(seq < 100, 0, ${seconds / count}))) as label from seq_1_to_${count}`,
        number: String,
        sleep: (seconds) => `select sleep(${seconds})`,
        table: "create or replace table written (n bigint)",
        insert: (value, seconds) => `insert into written select ${value} from (select sleep(${seconds}) as s) as late`,
        written: "select n from written order by n",
        missing: { sql: "select * from nowhere_to_be_found", code: "42S02" },
        values: [
          { sql: "true", json: 1, back: { sql: "cast(? as int)", param: 1 } },
          {
            sql: "cast(9007199254740993 as signed)",
            json: "9007199254740993",
            back: { sql: "cast(? as signed)", param: "9007199254740993" }
          },
          {
            sql: "cast('12345678901234567890.123' as decimal(30, 3))",
            json: "12345678901234567890.123",
            back: { sql: "cast(? as decimal(30, 3))", param: "12345678901234567890.123" }
          },
          { sql: "cast(0.1 as double)", json: 0.1, back: { sql: "cast(? as double)", param: 0.1 } },
          { sql: "cast(0.1 as float)", json: 0.1, back: { sql: "cast(? as float)", param: 0.1 } },
          { sql: "'ü😀'", json: "ü😀", back: { sql: "?", param: "ü😀" } },
          { sql: "x'00ff'", json: "AP8=", back: { sql: "?", param: { base64: "AP8=" } } },
          {
            sql: "cast('2026-01-02 03:04:05.123456' as datetime(6))",
            json: "2026-01-02T03:04:05.123456",
            back: { sql: "cast(? as datetime(6))", param: "2026-01-02T03:04:05.123456" }
          },
          {
            sql: "cast('2026-01-02' as date)",
            json: "2026-01-02",
            back: { sql: "cast(? as date)", param: "2026-01-02" }
          },
          { sql: "cast('-12:00:01' as time)", json: "-12:00:01", back: { sql: "cast(? as time)", param: "-12:00:01" } },
          { sql: "null", json: null, back: { sql: "?", param: null } }
        ],
        setting: { name: "lc_time_names", value: "de_DE", shown: "select @@lc_time_names", unknown: "no_such_variable" }
      }
    },
    { limit: "1 minute", test: it.effect }
  )

  it.effect("says what it leaves out", () =>
    Effect.sync(() => {
      assert.deepStrictEqual(
        leftOut(MysqlQueryDriver.capabilities).map((text) => text.split(":")[0]),
        ["parameterTypes", "notices", "roles"]
      )
    })
  )

  it.effect("a deadline ends the statement at the server, also when nobody is there to cancel it", () =>
    Effect.gen(function* () {
      const server = yield* MariaDb.Shared
      yield* Effect.gen(function* () {
        const connection = yield* (yield* QueryDriver).open
        const error = yield* Effect.flip(
          connection.execute(
            { sql: "select count(*) from seq_1_to_1000000 as a, seq_1_to_1000000 as b", params: [] },
            { columns: () => Effect.void, rows: () => Effect.void },
            { id: "q_1" as never, deadline: Duration.millis(1), onDone: () => undefined, onGivenUp: () => undefined }
          )
        )
        assert.deepInclude(error.reason, { _tag: "StatementFailed", code: "70100" })
      }).pipe(Effect.scoped, Effect.provide(drivers(server)))
    }).pipe(Effect.provide(Layer.fresh(Ledger.layer)))
  )

  it.effect("Q9 one statement is one transaction: a second one, BEGIN and COMMIT are refused", () =>
    withRegistry((run) =>
      Effect.gen(function* () {
        for (const sql of ["begin", "/* x */ commit", "start transaction", "select 1; select 2", "xa start 'x'"]) {
          const { error } = yield* run(sql)
          assert.strictEqual(error._tag, "StatementFailed", sql)
        }
      })
    )
  )

  it.effect("C3 what a statement leaves behind is gone for the next one", () =>
    withRegistry((run) =>
      Effect.gen(function* () {
        for (const sql of [
          "create temporary table left_behind (n int)",
          "set @left = 1",
          "set sql_mode = ''",
          "select get_lock('left', 0)",
          "use information_schema",
          "set autocommit = 0"
        ]) {
          assert.isArray(yield* run(sql), sql)
        }
        assert.strictEqual((yield* run("select * from left_behind")).error.code, "42S02")
        assert.deepStrictEqual(
          yield* run("select @left, database(), is_free_lock('left'), @@autocommit, @@sql_mode = ''"),
          [[null, "workspace", 1, "1", 0]]
        )
      })
    )
  )

  it.effect("tells what cannot be undone: a definition that was cancelled, and tables without transactions", () =>
    withRegistry((run, server) =>
      Effect.gen(function* () {
        const registry = yield* QueryRegistry.QueryRegistry
        yield* run("create or replace table kept (n bigint) engine = myisam")
        yield* run("create or replace table undone (n bigint) engine = innodb")
        for (const [table, state, written] of [
          ["kept", "Failed", "unknown"],
          ["undone", "Canceled", undefined]
        ] as const) {
          const sql = `insert into ${table} select seq + sleep(0.01) from seq_1_to_100000`
          const { id } = yield* registry.submit({ principal: "alice", statement: { sql, params: [] } })
          yield* eventually(
            server.administer("select time_ms as n from information_schema.processlist where info like 'insert%'"),
            ([row]) => Number(row?.["n"]) > 100
          )
          const record = yield* registry.cancel("alice", id)
          assert.strictEqual(record.state, state, table)
          assert.strictEqual(
            record.error !== null && "written" in record.error ? record.error.written : undefined,
            written
          )
        }
        assert.deepStrictEqual(yield* run("select count(*) from undone"), [["0"]])
      })
    )
  )

  it.effect("the example of the docs runs queries on MariaDB and on a file, in one registry", () =>
    Effect.gen(function* () {
      const { secretUrl } = yield* MariaDb.Shared
      const made = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-both-"))),
        (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
      )
      const file = Path.join(made, "files.db")
      new DatabaseSync(file).close()
      yield* Effect.gen(function* () {
        const registry = yield* QueryRegistry.QueryRegistry
        for (const [engine, sql] of [
          ["lake", "select version() like '%MariaDB%'"],
          ["files", "select sqlite_version() > '3'"]
        ] as const) {
          const { id } = yield* registry.submit({ principal: "alice", engine, statement: { sql, params: [] } })
          assert.deepInclude(yield* registry.await("alice", id), { state: "Succeeded", engine })
          assert.deepStrictEqual((yield* registry.page("alice", id, { offset: 0, limit: 1 })).rows, [[1]])
        }
      }).pipe(Effect.provide(layerBoth(secretUrl, file)))
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
  )

  it.effect("reads no file of the client's for a server that asks for one", () =>
    withRegistry((run) =>
      Effect.gen(function* () {
        yield* run("create or replace table lines (line text)")
        const { error } = yield* run("load data local infile '/etc/hostname' into table lines")
        assert.strictEqual(error._tag, "StatementFailed")
      })
    )
  )

  it.effect(
    "C7 a server that stands still: the query ends all the same, says that nobody knows, and the next one runs",
    () =>
      withRegistry((run, server) =>
        Effect.gen(function* () {
          const registry = yield* QueryRegistry.QueryRegistry
          const pool = yield* ConnectionPool.ConnectionPool
          const statement = { sql: "select sleep(60)", params: [] }
          const { id } = yield* registry.submit({ principal: "alice", statement })
          yield* eventually(MariaDb.statements(server), (all) => all.length === 1)
          yield* eventually(registry.status("alice", id), ({ state }) => state === "Running")
          yield* server.signal("SIGSTOP")
          const fiber = yield* Effect.forkChild(registry.cancel("alice", id), { startImmediately: true })
          const record = yield* Effect.timeout(Fiber.join(fiber), "20 seconds").pipe(
            Effect.ensuring(server.signal("SIGCONT"))
          )
          assert.deepInclude(record.error, { _tag: "QueryCanceled", written: "unknown" })
          assert.deepStrictEqual(yield* run("select 1"), [[1]])
          yield* eventually(MariaDb.statements(server), (all) => all.length === 0)
          yield* eventually(pool.stats, ({ leased, zombies }) => leased === 0 && zombies === 0)
        })
      ),
    60_000
  )

  it.effect(
    "K3 what an instance that is gone has left running is ended by another one, and runs again where it may",
    () =>
      Effect.gen(function* () {
        const server = yield* MariaDb.Shared
        const url = Redacted.make(server.url)
        const { password } = server
        const engine = Effect.gen(function* () {
          const elsewhere = yield* MysqlQueryBackends.make({ url, password, engine: QueryRegistry.defaultEngine })
          const driver = MysqlQueryDriver.layer.pipe(
            Layer.provide(ConnectionPool.layer({ max: 2, onOpen: elsewhere.register })),
            Layer.provide(MysqlConnectionSource.layer({ url, password }))
          )
          return { driver: Context.get(yield* Layer.build(Layer.fresh(driver)), QueryDriver), elsewhere }
        })
        const { die, dying, notes, other } = yield* Takeover.two(engine)
        yield* server.administer("create table workspace.effects (n int)")
        // The first run goes on for as long as there is this table when it begins, and the second one ends at once.
        yield* server.administer("create table workspace.first (n int)")
        const plain = yield* dying.submit("select sleep(600)")
        const again = yield* dying.submit(
          "insert into effects select sleep(600 * count(*)) from information_schema.tables where table_name = 'first'",
          { rerun: true }
        )
        yield* eventually(MariaDb.statements(server), (all) => all.length === 2)
        yield* server.administer("drop table workspace.first")
        const noted = yield* notes
        yield* die
        const failed = yield* other.registry.await(Takeover.alice, plain.id)
        assert.notInclude(yield* MariaDb.statements(server), "select sleep(600)")
        assert.deepInclude(failed.error, { _tag: "QueriesUnavailable", written: "unknown" })
        assert.include(JSON.stringify(failed.error), "its statement does not run any more")
        assert.strictEqual((yield* other.registry.await(Takeover.alice, again.id)).state, "Succeeded")
        assert.deepStrictEqual(yield* server.administer("select n from workspace.effects"), [{ n: 0 }])
        // Of a connection of another server nobody here can say that it is gone.
        const { end } = yield* MysqlQueryBackends.make({ url, password, engine: "elsewhere" })
        const handles = noted.map(([handle]) => String(handle))
        assert.strictEqual(yield* end(handles), 0)
        const elsewhere = handles.map((handle) => JSON.stringify({ ...JSON.parse(handle), server: "another:3306 1" }))
        assert.strictEqual(yield* end(elsewhere), handles.length)
      }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
  )
})
