/** The laws of what a statement tells: columns, rows, values, failures, settings. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { type Dialect, law, reasonOf, recorder, run, succeeded } from "./QueryDriverTrial.ts"

export const laws = (dialect: Dialect) => [
  law(
    "rows come after their columns, in order, none while others are taken, and the end is told last",
    ["columnTypes"],
    ({ driver }) =>
      Effect.gen(function* () {
        const told = yield* run(driver, dialect.numbers(5000), { take: () => Effect.yieldNow })
        assert.deepStrictEqual(succeeded(told), { command: "SELECT", rowCount: 5000 })
        assert.deepStrictEqual(
          told.rows,
          Array.from({ length: 5000 }, (_, index) => [dialect.number(index + 1), `row ${index + 1}`])
        )
        assert.strictEqual(told.events[0], "columns")
        assert.strictEqual(told.events.at(-1), "done")
        assert.deepStrictEqual(told.outcomes, [told.exit])
        assert.deepStrictEqual(told.givenUp, [])
        assert.isTrue(told.columns.every(({ type }) => type !== ""))
      })
  ),

  law("columns are told where there are no rows, too", ["columnTypes"], ({ driver }) =>
    Effect.gen(function* () {
      const told = yield* run(driver, dialect.numbers(0))
      assert.deepStrictEqual(succeeded(told), { command: "SELECT", rowCount: 0 })
      assert.deepStrictEqual(
        told.columns.map(({ name }) => name.toLowerCase()),
        ["n", "label"]
      )
      assert.deepStrictEqual(told.rows, [])
    })
  ),

  law("a statement that writes says how many rows it wrote", ["columnTypes"], ({ driver }) =>
    Effect.gen(function* () {
      succeeded(yield* run(driver, dialect.table))
      assert.deepStrictEqual(succeeded(yield* run(driver, dialect.insert(7, 0))), { command: "INSERT", rowCount: 1 })
      assert.deepStrictEqual((yield* run(driver, dialect.written)).rows, [[dialect.number(7)]])
    })
  ),

  law("Q8 a value that a row shows is the same value when it is sent back as a parameter", [], ({ driver }) =>
    Effect.gen(function* () {
      const shown = yield* run(driver, `select ${dialect.values.map(({ sql }) => sql).join(", ")}`)
      assert.deepStrictEqual(shown.rows, [dialect.values.map(({ json }) => json)], JSON.stringify(shown.exit))
      const back = yield* run(driver, {
        sql: `select ${dialect.values.map(({ back }) => back.sql).join(", ")}`,
        params: dialect.values.map(({ back }) => back.param)
      })
      assert.deepStrictEqual(back.rows, shown.rows, JSON.stringify(back.exit))
    })
  ),

  law("Q9 a text that would not arrive as it is is refused, and nothing runs", [], ({ driver, running }) =>
    Effect.gen(function* () {
      for (const statement of [
        { sql: "select '\ud800'", params: [] },
        { sql: dialect.numbers(1), params: ["\udfff"] }
      ]) {
        const told = yield* run(driver, statement)
        assert.strictEqual(reasonOf(told)._tag, "StatementFailed")
        assert.deepStrictEqual(told.events, [])
      }
      assert.strictEqual(yield* running, 0)
    })
  ),

  law("a statement that fails says why, and the connection runs the next one", [], ({ driver }) =>
    Effect.scoped(
      Effect.gen(function* () {
        const connection = yield* driver.open
        const { execution, sink, told } = recorder()
        const { code, sql } = dialect.missing
        const exit = yield* Effect.exit(connection.execute({ sql, params: [] }, sink, execution()))
        const reason = reasonOf({ exit })
        assert.deepInclude(reason, { _tag: "StatementFailed", code })
        assert.isFalse("written" in reason)
        assert.include(reason.message, "nowhere_to_be_found")
        yield* connection.execute({ sql: dialect.numbers(1), params: [] }, sink, execution())
        assert.strictEqual(told.rows.length, 1)
      })
    )
  ),

  law("a setting holds for its statement alone, and one that does not exist refuses it", ["settings"], ({ driver }) =>
    Effect.gen(function* () {
      const { name, shown, unknown, value } = dialect.setting ?? assert.fail("no setting")
      const before = (yield* run(driver, shown)).rows
      const told = yield* run(driver, { sql: shown, params: [], settings: { [name]: value } })
      assert.deepStrictEqual(told.rows, [[value]], JSON.stringify(told.exit))
      assert.notDeepEqual(before, told.rows)
      assert.deepStrictEqual((yield* run(driver, shown)).rows, before)
      const refused = yield* run(driver, { sql: shown, params: [], settings: { [unknown]: "1" } })
      assert.include(reasonOf(refused).message.toLowerCase(), unknown.toLowerCase())
      assert.deepStrictEqual(refused.rows, [])
    })
  ),

  law("what the server remarks is told while the statement runs", ["notices"], ({ driver }) =>
    Effect.gen(function* () {
      const told = yield* run(driver, dialect.notice ?? assert.fail("no notice"))
      assert.deepInclude(told.notices[0], { message: "hello" })
    })
  )
]
