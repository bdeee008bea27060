import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Query from "../../src/query/Query.ts"
import { leftOut } from "../../src/query/QueryCapabilities.ts"
import { QueryDriver, type Statement } from "../../src/query/QueryDriver.ts"
import * as SqliteConnectionSource from "../../src/sqlite/SqliteConnectionSource.ts"
import * as SqliteQueryDriver from "../../src/sqlite/SqliteQueryDriver.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as QueryDriverLaws from "../../src/testing/QueryDriverLaws.ts"
import { eventually } from "../support/conditions.ts"

/** So many steps take SQLite about a second here, and nothing ends them but the end of the process. */
const busy = (steps: number) =>
  `(with recursive step(i) as (select 1 union all select i + 1 from step limit ${Math.ceil(steps)}) select count(*) from step)`
const second = 2_000_000

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-sqlite-"))),
  (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
)

/** A driver on a new file in the directory. */
const layerFile = (directory: string, mode = "") => {
  const path = Path.join(directory, "test.db")
  new DatabaseSync(path).close()
  return SqliteQueryDriver.layer.pipe(
    Layer.provideMerge(ConnectionPool.layer({ max: 8 })),
    Layer.provide(SqliteConnectionSource.layer({ url: `sqlite:${path}${mode}` }))
  )
}

const withFile = <A, E>(
  test: (directory: string) => Effect.Effect<A, E, QueryDriver | ConnectionPool.ConnectionPool>,
  mode = ""
) =>
  Effect.gen(function* () {
    const made = yield* directory
    yield* test(made).pipe(Effect.provide(layerFile(made, mode)))
    // Every process is gone, and stands in no ledger.
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

const nowhere = { columns: () => Effect.void, rows: () => Effect.void }
const execution = { id: "q_test" as never, onDone: () => undefined, onGivenUp: () => undefined }

const rowsOf = (sql: string, params: Statement["params"] = []) =>
  Effect.gen(function* () {
    return yield* Stream.runCollect((yield* Query.Query).rows)
  }).pipe(Effect.provide(Query.layer(sql, params)))
const refusalOf = (sql: string) => Effect.map(Effect.flip(rowsOf(sql)), ({ message }) => message)

const world = Layer.effect(
  QueryDriverLaws.World,
  Effect.gen(function* () {
    const made = yield* directory
    const context = yield* Layer.build(layerFile(made))
    const pool = Context.get(context, ConnectionPool.ConnectionPool)
    return { driver: Context.get(context, QueryDriver), running: Effect.map(pool.stats, ({ leased }) => leased) }
  })
)

QueryDriverLaws.run(
  world,
  {
    name: "SQLite",
    engine: SqliteQueryDriver.capabilities,
    dialect: {
      numbers: (count) =>
        `select i as n, 'row ' || i as label from (with recursive step(i) as (select 1 union all select i + 1 from step limit 20000) select i from step where i <= ${count})`,
      trickle: (count, seconds) =>
        `select i as n, 'row ' || i || substr(${busy((seconds / count) * second)} + i, 1, 0) as label from (with recursive step(i) as (select 1 union all select i + 1 from step limit ${count}) select i from step) where ${busy(10)} + i > 0`,
      number: (value) => value,
      sleep: (seconds) => `select ${busy(seconds * second)}`,
      table: "create table written (n integer)",
      insert: (value, seconds) => `insert into written select ${value} where ${busy(seconds * second)} >= 0`,
      written: "select n from written order by n",
      missing: { sql: "select * from nowhere_to_be_found", code: "SQLITE_1" },
      values: [
        { sql: "true", json: 1, back: { sql: "?", param: true } },
        {
          sql: "9007199254740993",
          json: "9007199254740993",
          back: { sql: "cast(? as integer)", param: "9007199254740993" }
        },
        { sql: "1.5", json: 1.5, back: { sql: "?", param: 1.5 } },
        { sql: "9e999", json: "Infinity", back: { sql: "?", param: "Infinity" } },
        { sql: "'ü😀'", json: "ü😀", back: { sql: "?", param: "ü😀" } },
        { sql: "x'00ff'", json: "AP8=", back: { sql: "?", param: { base64: "AP8=" } } },
        { sql: "null", json: null, back: { sql: "?", param: null } }
      ]
    }
  },
  { limit: "1 minute" }
)

it.live("SQLite says what it leaves out", () =>
  Effect.sync(() => {
    assert.deepStrictEqual(
      leftOut(SqliteQueryDriver.capabilities).map((text) => text.split(":")[0]),
      ["cancel", "settings", "parameterTypes", "notices", "roles"]
    )
  })
)

it.live("an interruption ends the process of an endless statement, and what it had written is undone", () =>
  withFile((made) =>
    Effect.gen(function* () {
      yield* rowsOf("create table written (n integer)")
      const driver = yield* QueryDriver
      let pid = 0
      const fiber = yield* Effect.forkChild(
        Effect.scoped(
          Effect.gen(function* () {
            const connection = yield* driver.open
            pid = Number(connection.id)
            const sql =
              "insert into written with recursive step(i) as (select 1 union all select i + 1 from step) select i from step"
            return yield* connection.execute({ sql, params: [] }, nowhere, execution)
          })
        )
      )
      // It has something to undo.
      yield* eventually(
        Effect.sync(() => statSizeOf(Path.join(made, "test.db-journal"))),
        (size) => size > 0
      )
      assert.isTrue(isAlive(pid))
      const begun = Date.now()
      yield* Fiber.interrupt(fiber)
      assert.isBelow(Date.now() - begun, 3000)
      assert.isFalse(isAlive(pid))
      assert.deepStrictEqual(yield* rowsOf("select count(*) from written"), [[0]])
    })
  )
)

it.live("a statement past its deadline ends by itself, also when nobody is there to cancel it", () =>
  withFile(() =>
    Effect.gen(function* () {
      const connection = yield* (yield* QueryDriver).open
      const statement = { sql: `select ${busy(1000 * second)}`, params: [] }
      const error = yield* Effect.flip(
        connection.execute(statement, nowhere, { ...execution, deadline: Duration.millis(1) })
      )
      assert.strictEqual(error.reason._tag, "QueriesUnavailable")
    }).pipe(Effect.scoped)
  )
)

it.live("a statement reaches its file, and nothing else", () =>
  withFile((made) =>
    Effect.gen(function* () {
      const secret = Path.join(made, "secret.db")
      writeFileSync(secret, "")
      for (const sql of [
        `attach '${secret}' as other`,
        `vacuum into '${Path.join(made, "copy.db")}'`,
        "pragma journal_mode = wal",
        "pragma writable_schema = on",
        `pragma temp_store_directory = '${made}'`,
        "select load_extension('x')",
        "begin",
        "commit",
        "savepoint x"
      ]) {
        assert.match(yield* refusalOf(sql), /not allowed|not authorized|VACUUM/, sql)
      }
      assert.match(yield* refusalOf("create table a (n); create table b (n)"), /more than one statement/)
      assert.deepStrictEqual(yield* rowsOf("select name from sqlite_schema"), [])
      assert.strictEqual(readFileSync(secret, "utf8"), "")
    })
  )
)

it.live("C3 what a statement leaves behind is gone for the next one", () =>
  withFile(() =>
    Effect.gen(function* () {
      yield* rowsOf("create temporary table left_behind (n integer)")
      assert.match(yield* refusalOf("select * from left_behind"), /no such table/)
    })
  )
)

it.live("a file that is to be read only is not written", () =>
  withFile(
    () => Effect.map(refusalOf("create table t (n)"), (message) => assert.match(message, /readonly/)),
    "?mode=ro"
  )
)

it.live("a file that is not there is not made, and the pool says why", () =>
  Effect.gen(function* () {
    const made = yield* directory
    const pool = yield* ConnectionPool.make({ max: 1, acquireTimeout: "300 millis" }).pipe(
      Effect.provide(SqliteConnectionSource.layer({ url: `sqlite:${Path.join(made, "absent.db")}` }))
    )
    assert.isTrue((yield* Effect.exit(pool.ping))._tag === "Failure")
    assert.throws(() => readFileSync(Path.join(made, "absent.db")))
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
)

const statSizeOf = (file: string) => {
  try {
    return readFileSync(file).length
  } catch {
    return 0
  }
}
const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
