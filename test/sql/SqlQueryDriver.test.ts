import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { SqlError, UnknownError } from "effect/sql/SqlError"
import type * as Scope from "effect/Scope"
import * as Statement from "effect/sql/Statement"
import * as Stream from "effect/Stream"
import { layerOwn } from "../../docs/examples/engines.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { leftOut } from "../../src/query/QueryCapabilities.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import { QueryError, ResultTooLarge, type Written } from "../../src/query/QueryError.ts"
import * as SqlQueryDriver from "../../src/sql/SqlQueryDriver.ts"
import * as QueryDriverLaws from "../../src/testing/QueryDriverLaws.ts"

/** An app's client as plain as can be: one database in memory, in this thread. `between` is in the middle of each statement. */
const clientOf = (between: Effect.Effect<void> = Effect.void) =>
  Layer.effect(
    SqlClient.SqlClient,
    Effect.gen(function* () {
      const database = yield* Effect.acquireRelease(
        Effect.sync(() => new DatabaseSync(":memory:")),
        (open) => Effect.sync(() => open.close())
      )
      const execute: Connection["execute"] = (sql, params) =>
        Effect.flatMap(SqlClient.SafeIntegers, (isExact) =>
          Effect.andThen(
            sql === "BEGIN" || sql === "COMMIT" || sql === "ROLLBACK" ? Effect.void : between,
            Effect.try({
              try: () => {
                const statement = database.prepare(sql)
                statement.setReadBigInts(isExact)
                return statement.all(...(params as ReadonlyArray<null>))
              },
              catch: (cause) => new SqlError({ reason: new UnknownError({ cause }) })
            })
          )
        )
      const connection: Connection = {
        execute,
        executeRaw: (sql, params) => execute(sql, params, undefined),
        executeUnprepared: execute,
        executeValues: () => Effect.die("not asked for"),
        executeValuesUnprepared: () => Effect.die("not asked for"),
        executeStream: (sql, params, transform) => Stream.fromIterableEffect(execute(sql, params, transform))
      }
      return yield* SqlClient.make({
        acquirer: Effect.succeed(connection),
        compiler: Statement.makeCompilerSqlite(),
        driver: "test",
        spanAttributes: []
      })
    })
  ).pipe(Layer.provide(Reactivity.layer))

const withDriver = <A, E>(
  test: (driver: QueryDriver["Service"]) => Effect.Effect<A, E, Scope.Scope>,
  options: { readonly engine?: SqlQueryDriver.Engine; readonly between?: Effect.Effect<void> } = {}
) =>
  Effect.flatMap(QueryDriver, test).pipe(
    Effect.scoped,
    Effect.provide(SqlQueryDriver.layer(options.engine).pipe(Layer.provide(clientOf(options.between)))),
    Effect.provide(Layer.fresh(Ledger.layer))
  )

const values = "(with recursive step(i) as (select 1 union all select i + 1 from step limit 20000) select i from step)"

const world = Layer.effect(
  QueryDriverLaws.World,
  Effect.map(Layer.build(SqlQueryDriver.layer().pipe(Layer.provide(clientOf()))), (context) => ({
    driver: Context.get(context, QueryDriver),
    running: Effect.succeed(0)
  }))
)

QueryDriverLaws.run(world, {
  name: "an SqlClient that nothing is known of",
  engine: SqlQueryDriver.plain.capabilities,
  dialect: {
    numbers: (count) => `select i as n, 'row ' || i as label from ${values} where i <= ${count}`,
    number: (value) => value,
    sleep: () => assert.fail("not asked for"),
    table: "create table written (n integer)",
    insert: (value) => `insert into written values (${value}) returning n`,
    written: "select n from written order by n",
    missing: { sql: "select * from nowhere_to_be_found", code: "ERR_SQLITE_ERROR" },
    values: [
      {
        sql: "9007199254740993",
        json: "9007199254740993",
        back: { sql: "cast(? as integer)", param: "9007199254740993" }
      },
      { sql: "1.5", json: 1.5, back: { sql: "?", param: 1.5 } },
      { sql: "'ü😀'", json: "ü😀", back: { sql: "? as text", param: "ü😀" } },
      { sql: "x'00ff'", json: "AP8=", back: { sql: "? as bytes", param: { base64: "AP8=" } } },
      { sql: "null", json: null, back: { sql: "? as none", param: null } }
    ]
  }
})

describe("an engine of which nothing is known", () => {
  it.live("says what it leaves out, and the example of the docs says less", () =>
    Effect.gen(function* () {
      const names = leftOut(SqlQueryDriver.plain.capabilities).map((text) => text.split(":")[0] ?? "")
      assert.includeMembers(names, ["cancel", "streams", "settings", "columnTypes", "parameterTypes"])
      const own = yield* Effect.provide(QueryDriver, layerOwn.pipe(Layer.provide(clientOf())))
      assert.deepStrictEqual(
        names.filter((name) => !leftOut(own.capabilities ?? assert.fail()).some((text) => text.startsWith(name))),
        ["streams"]
      )
    }).pipe(Effect.scoped)
  )

  it.live("C2 without a cancel, an interruption waits for the end of the statement, and what it wrote is undone", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const gate = yield* Deferred.make<void>()
      let isHeld = false
      const between = Effect.suspend(() =>
        isHeld ? Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(gate)) : Effect.void
      )
      yield* withDriver(
        (driver) =>
          Effect.gen(function* () {
            const connection = yield* driver.open
            const told: Array<Written | "done"> = []
            const run = (sql: string) => {
              const rows: Array<unknown> = []
              const sink = {
                columns: () => Effect.void,
                rows: (some: ReadonlyArray<unknown>) => Effect.sync(() => void rows.push(...some))
              }
              const execution = {
                id: "q_test" as never,
                onDone: () => void told.push("done"),
                onGivenUp: (written: Written) => void told.push(written)
              }
              return Effect.as(connection.execute({ sql, params: [] }, sink, execution), rows)
            }
            yield* run("create table written (n integer)")
            assert.deepStrictEqual(told.splice(0), ["done"])
            isHeld = true
            const fiber = yield* Effect.forkChild(run("insert into written values (1) returning n"))
            yield* Deferred.await(begun)
            const end = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
            yield* Effect.repeat(Effect.yieldNow, { times: 20 })
            assert.isUndefined(end.pollUnsafe())
            isHeld = false
            yield* Deferred.succeed(gate, undefined)
            yield* Fiber.join(end)
            assert.deepStrictEqual(told, [])
            assert.deepStrictEqual(yield* run("select n from written"), [])
          }),
        { between }
      )
    })
  )

  it.live("without transactions nobody knows what a statement that was given up has written", () =>
    withDriver(
      (driver) =>
        Effect.gen(function* () {
          const connection = yield* driver.open
          const full = new QueryError({ reason: new ResultTooLarge({ limitBytes: 1 }) })
          const exit = yield* Effect.exit(
            connection.execute(
              { sql: "select 1 as n", params: [] },
              { columns: () => Effect.void, rows: () => Effect.fail(full) },
              { id: "q_test" as never, onDone: () => undefined, onGivenUp: () => undefined }
            )
          )
          assert.deepInclude((Exit.isFailure(exit) ? yield* Effect.flip(exit) : assert.fail()).reason, {
            _tag: "ResultTooLarge",
            written: "unknown"
          })
        }),
      { engine: { ...SqlQueryDriver.plain, transaction: null } }
    )
  )

  it.live("a statement with settings is refused", () =>
    withDriver((driver) =>
      Effect.gen(function* () {
        const connection = yield* driver.open
        const { reason } = yield* Effect.flip(
          connection.execute(
            { sql: "select 1", params: [], settings: { a: "b" } },
            { columns: () => Effect.void, rows: () => Effect.void },
            { id: "q_test" as never, onDone: () => undefined, onGivenUp: () => undefined }
          )
        )
        assert.strictEqual(reason._tag, "StatementFailed")
      })
    )
  )
})
