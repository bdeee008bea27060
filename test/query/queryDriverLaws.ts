/**
 * The laws that every query driver keeps, whatever engine it is for. An adapter's test file gives them a world to run in, and says
 * what its engine cannot do; what that leaves out is printed.
 */
import { assert, describe } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import type { QueryCapabilities } from "../../src/query/QueryCapabilities.ts"
import {
  type Column,
  type Execution,
  QueryDriver,
  type Row,
  type RowSink,
  type Statement,
  type Summary
} from "../../src/query/QueryDriver.ts"
import { QueryError, ResultTooLarge, type Written } from "../../src/query/QueryError.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import type { Notice } from "../../src/query/QueryRecord.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as InterruptSweep from "../../src/testing/InterruptSweep.ts"
import { eventually } from "../support/conditions.ts"

/** How the engine's SQL says it. */
export interface Dialect {
  /** So many rows: a number from 1 on, and its text with `row ` in front. */
  readonly numbers: (count: number) => string
  /** The same, beginning with the first row at once, for as many seconds. None: rows are there when the statement is over. */
  readonly trickle?: (count: number, seconds: number) => string
  /** The number of a row as it is in JSON. */
  readonly number: (value: number) => Schema.Json
  readonly sleep: (seconds: number) => string
  /** Makes a table `written` with a column `n`. */
  readonly table: string
  /** Inserts a number, after so many seconds. */
  readonly insert: (value: number, seconds: number) => string
  /** Every number in `written`, in order. */
  readonly written: string
  /** What the engine says of a table that is not there. */
  readonly missing: { readonly sql: string; readonly code: string }
  /** Expressions of the engine's types, their values in JSON, and how each is sent back: an expression and a parameter for it. */
  readonly values: ReadonlyArray<{
    readonly sql: string
    readonly json: Schema.Json
    readonly back: { readonly sql: string; readonly param: Schema.Json }
  }>
  /** A setting, a statement that shows it, and a setting that there is not. */
  readonly setting?: { readonly name: string; readonly value: string; readonly shown: string; readonly unknown: string }
  readonly notice?: string
  /** What the server says of a statement that it has ended by itself. None: the driver's own test says it. */
  readonly late?: string
}

/** Where a law is tried. */
export interface World {
  readonly driver: QueryDriver["Service"]
  /** Statements that the server has not finished. */
  readonly running: Effect.Effect<number, unknown>
}

/** An engine, and how a test is given a world of its own. */
export interface Engine {
  readonly name: string
  readonly capabilities: QueryCapabilities
  readonly dialect: Dialect
  readonly law: (name: string, body: (world: World) => Effect.Effect<unknown, unknown, never>) => void
}

/** What a statement told, in order. */
interface Told {
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Row>
  readonly events: ReadonlyArray<string>
  readonly outcomes: ReadonlyArray<Exit.Exit<Summary, QueryError>>
  readonly givenUp: ReadonlyArray<Written>
  readonly notices: ReadonlyArray<Notice>
  readonly exit: Exit.Exit<Summary, QueryError>
}

const recorder = (take: (rows: ReadonlyArray<Row>) => Effect.Effect<void, QueryError> = () => Effect.void) => {
  const told = {
    columns: [] as ReadonlyArray<Column>,
    rows: [] as Array<Row>,
    events: [] as Array<string>,
    outcomes: [] as Array<Exit.Exit<Summary, QueryError>>,
    givenUp: [] as Array<Written>,
    notices: [] as Array<Notice>
  }
  let isTaking = false
  const sink: RowSink = {
    columns: (columns) =>
      Effect.sync(() => {
        told.events.push("columns")
        told.columns = columns
      }),
    rows: (rows) =>
      Effect.suspend(() => {
        assert.isFalse(isTaking, "rows came before the last ones were taken")
        isTaking = true
        told.events.push("rows")
        return Effect.map(take(rows), () => {
          isTaking = false
          told.rows.push(...rows)
        })
      })
  }
  const execution = (more: Partial<Execution> = {}): Execution => ({
    id: QueryId.make(),
    onDone: (outcome) => {
      told.events.push("done")
      told.outcomes.push(outcome)
    },
    onGivenUp: (written) => void told.givenUp.push(written),
    onNotice: (notice) => void told.notices.push(notice),
    ...more
  })
  return { told, sink, execution }
}

const statementOf = (sql: string | Statement): Statement => (typeof sql === "string" ? { sql, params: [] } : sql)

const run = (
  driver: QueryDriver["Service"],
  sql: string | Statement,
  options: {
    readonly take?: (rows: ReadonlyArray<Row>) => Effect.Effect<void, QueryError>
    readonly execution?: Partial<Execution>
  } = {}
): Effect.Effect<Told> => {
  const { execution, sink, told } = recorder(options.take)
  return Effect.scoped(
    Effect.flatMap(driver.open, (connection) =>
      connection.execute(statementOf(sql), sink, execution(options.execution))
    )
  ).pipe(
    Effect.exit,
    Effect.map((exit) => ({ ...told, exit }))
  )
}

const succeeded = (told: Told): Summary => {
  if (Exit.isFailure(told.exit)) return assert.fail(String(told.exit.cause))
  return told.exit.value
}

const reasonOf = ({ exit }: Pick<Told, "exit">): QueryError["reason"] => {
  const error = Exit.findErrorOption(exit)
  return Option.isSome(error) ? error.value.reason : assert.fail(`no error: ${String(exit)}`)
}

const principal = "alice"

/** A registry of its own over the driver, for the current scope. */
const registryOf = ({ driver }: World, options: QueryRegistry.Options = {}) =>
  QueryRegistry.make(options).pipe(
    Effect.provideService(QueryDriver, driver),
    Effect.provide(QueryResults.layerMemory({ limitBytes: 100_000 }))
  )

const submitted = Effect.fnUntraced(function* (
  registry: QueryRegistry.QueryRegistry["Service"],
  sql: string,
  more: Partial<QueryRegistry.Submission> = {}
) {
  const { id } = yield* registry.submit({ statement: { sql, params: [] }, principal, ...more })
  return id
})

/** How often statements race with their cancels. */
const races = 50 * Math.min(InterruptSweep.scale, 20)

export const queryDriverLaws = ({ capabilities, dialect, law: declare, name }: Engine) => {
  const leftOut: Array<string> = []
  const { late, trickle } = dialect
  const has = {
    cancels: capabilities.cancel !== "none",
    streams: capabilities.streams,
    settings: capabilities.settings,
    notices: capabilities.notices,
    rowsWhileRunning: trickle !== undefined,
    deadlines: capabilities.deadline && late !== undefined
  }
  const law = (
    law: string,
    needs: ReadonlyArray<keyof typeof has>,
    body: (world: World) => Effect.Effect<unknown, unknown, never>
  ) => {
    const missing = needs.filter((need) => !has[need])
    if (missing.length === 0) declare(law, body)
    else leftOut.push(`  ${law} (needs ${missing.join(", ")})`)
  }

  describe(`QueryDriverLaws: ${name}`, () => {
    law(
      "rows come after their columns, in order, none while others are taken, and the end is told last",
      [],
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
    )

    law("columns are told where there are no rows, too", [], ({ driver }) =>
      Effect.gen(function* () {
        const told = yield* run(driver, dialect.numbers(0))
        assert.deepStrictEqual(succeeded(told), { command: "SELECT", rowCount: 0 })
        assert.deepStrictEqual(
          told.columns.map(({ name }) => name.toLowerCase()),
          ["n", "label"]
        )
        assert.deepStrictEqual(told.rows, [])
      })
    )

    law("a statement that writes says how many rows it wrote", [], ({ driver }) =>
      Effect.gen(function* () {
        succeeded(yield* run(driver, dialect.table))
        assert.deepStrictEqual(succeeded(yield* run(driver, dialect.insert(7, 0))), { command: "INSERT", rowCount: 1 })
        assert.deepStrictEqual((yield* run(driver, dialect.written)).rows, [[dialect.number(7)]])
      })
    )

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
    )

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
    )

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
    )

    law("a sink that takes no more ends the statement, with the sink's error", [], ({ driver, running }) =>
      Effect.gen(function* () {
        const refusal = new QueryError({ reason: new ResultTooLarge({ limitBytes: 1 }) })
        let taken = 0
        const told = yield* run(driver, dialect.numbers(20_000), {
          take: () => (++taken > 2 ? Effect.fail(refusal) : Effect.void)
        })
        assert.deepInclude(reasonOf(told), { _tag: "ResultTooLarge", limitBytes: 1 })
        assert.isFalse(told.outcomes.some(Exit.isSuccess))
        yield* eventually(running, (count) => count === 0)
      })
    )

    law("Q6 rows wait for the sink, and are not read from the server before", ["streams"], ({ driver }) =>
      Effect.gen(function* () {
        const waiting = yield* Deferred.make<void>()
        let taken = 0
        const fiber = yield* Effect.forkChild(
          run(driver, dialect.numbers(20_000), {
            take: (rows) => {
              taken += rows.length
              return taken === rows.length
                ? Effect.andThen(Deferred.succeed(waiting, undefined), Effect.never)
                : Effect.void
            }
          })
        )
        yield* Deferred.await(waiting)
        const before = taken
        yield* Effect.yieldNow
        assert.isBelow(before, 20_000)
        assert.strictEqual(taken, before)
        yield* Fiber.interrupt(fiber)
      })
    )

    law("rows are handed over while the statement runs", ["rowsWhileRunning"], ({ driver, running }) =>
      Effect.gen(function* () {
        const first = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(
          run(driver, trickle?.(1000, 60) ?? assert.fail("no rows while it runs"), {
            take: () => Deferred.succeed(first, undefined)
          })
        )
        yield* Deferred.await(first)
        assert.strictEqual(yield* running, 1)
        yield* Fiber.interrupt(fiber)
        assert.strictEqual(yield* running, 0)
      })
    )

    law(
      "C2 an interruption returns when the server is done with the statement, whenever it comes",
      ["cancels"],
      (world) =>
        Effect.gen(function* () {
          for (const millis of [0, 1, 2, 5, 10, 20, 40, 80]) {
            const { execution, sink, told } = recorder()
            const connectionOpen = yield* Deferred.make<void>()
            const fiber = yield* Effect.forkChild(
              Effect.scoped(
                Effect.gen(function* () {
                  const connection = yield* world.driver.open
                  yield* Deferred.succeed(connectionOpen, undefined)
                  yield* connection.execute({ sql: dialect.sleep(60), params: [] }, sink, execution())
                })
              )
            )
            yield* Deferred.await(connectionOpen)
            yield* Effect.sleep(millis)
            yield* Fiber.interrupt(fiber)
            assert.strictEqual(yield* world.running, 0, `after ${millis} ms`)
            assert.deepStrictEqual([told.outcomes, told.givenUp], [[], []], `after ${millis} ms`)
          }
        })
    )

    law("C2 also when it lands on any point where a fiber can be suspended", ["cancels"], (world) =>
      Effect.gen(function* () {
        succeeded(yield* run(world.driver, dialect.table))
        let value = 0
        const ended = new Map<number, string>()
        const interrupted = Effect.gen(function* () {
          const number = ++value
          const { execution, sink, told } = recorder()
          const fiber = yield* Effect.forkChild(
            Effect.scoped(
              Effect.flatMap(world.driver.open, (connection) =>
                connection.execute(statementOf(dialect.insert(number, 0.001)), sink, execution())
              )
            ),
            { startImmediately: true }
          )
          yield* Effect.sleep(Math.random() * 12)
          yield* Fiber.interrupt(fiber)
          const exit = yield* Fiber.await(fiber)
          const isDone = Exit.isSuccess(exit) || told.outcomes.some(Exit.isSuccess)
          const [outcome] = told.outcomes
          // It took effect, and its rows could not be had any more.
          const { written } = {
            written: undefined,
            ...(outcome !== undefined && Exit.isFailure(outcome) && reasonOf({ exit: outcome }))
          }
          ended.set(number, isDone ? "done" : (written ?? told.givenUp[0] ?? "nothing"))
        })
        yield* InterruptSweep.sweep(Effect.replicateEffect(interrupted, 3), { share: { number: 0, of: 4 } })
        assert.strictEqual(yield* world.running, 0)
        const there = new Set((yield* run(world.driver, dialect.written)).rows.map(([value]) => Number(value)))
        for (const [number, state] of ended)
          assert.strictEqual(there.has(number), state !== "nothing", `${number}: ${state}`)
        const ledger = yield* Ledger.Ledger
        assert.deepStrictEqual(
          (yield* ledger.holdings).filter(({ kind }) => kind !== "backend"),
          []
        )
      }).pipe(Effect.provide(Layer.fresh(Ledger.layer)))
    )

    law(
      `Q2 a cancel that races with the end, ${races} times: one terminal state, and the table says the same`,
      ["cancels"],
      (world) =>
        Effect.gen(function* () {
          succeeded(yield* run(world.driver, dialect.table))
          const registry = yield* registryOf(world, { maxRunning: 8 })
          const states = new Map<number, string>()
          const kinds = new Map<string, number>()
          yield* Effect.forEach(
            Array.from({ length: races }, (_, index) => index),
            (index) =>
              Effect.gen(function* () {
                const id = yield* submitted(registry, dialect.insert(index, 0.02))
                yield* Effect.sleep(Math.random() * 60)
                const { error, state } = yield* registry.cancel(principal, id)
                const written = error !== null && "written" in error ? error.written : undefined
                const kind = written === undefined ? state : `${state}, ${written}`
                states.set(index, kind)
                kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
              }),
            { concurrency: 8 }
          )
          assert.strictEqual(yield* world.running, 0)
          const there = (yield* run(world.driver, dialect.written)).rows.map(([value]) => Number(value))
          const said = Array.from(states)
            .filter(([, state]) => state === "Succeeded" || state.endsWith("committed"))
            .map(([index]) => index)
          assert.deepStrictEqual(
            there,
            said.toSorted((a, b) => a - b)
          )
          assert.isFalse(
            Array.from(kinds.keys()).some((kind) => kind.endsWith("unknown")),
            JSON.stringify([...kinds])
          )
        }).pipe(Effect.scoped)
    )

    law("C1 a connection is released once, and the server runs nothing, on each of the exits", ["cancels"], (world) =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        let acquired = 0
        const check = Effect.fnUntraced(function* (exit: string, expected: number) {
          const totals = (yield* ledger.totals).get("connection")
          acquired += expected
          assert.deepInclude(totals, { acquired, released: acquired, stalled: 0, failed: 0 }, exit)
          assert.strictEqual(yield* world.running, 0, exit)
          const held = (yield* ledger.holdings).filter(({ kind }) => kind === "connection" || kind === "statement")
          assert.deepStrictEqual(held, [], exit)
        })
        const registry = yield* registryOf(world)
        const started = Effect.fnUntraced(function* (
          more: Partial<QueryRegistry.Submission> = {},
          of: QueryRegistry.QueryRegistry["Service"] = registry
        ) {
          const id = yield* submitted(of, dialect.sleep(60), more)
          yield* eventually(of.status(principal, id), ({ state }) => state === "Running")
          yield* eventually(world.running, (count) => count === 1)
          return id
        })

        const fine = yield* submitted(registry, dialect.numbers(3))
        assert.deepInclude(yield* registry.await(principal, fine), { state: "Succeeded", rowCount: 3 })
        yield* check("success", 1)

        const failing = yield* submitted(registry, dialect.missing.sql)
        assert.strictEqual((yield* registry.await(principal, failing)).state, "Failed")
        yield* check("failure", 1)

        const canceled = yield* registry.cancel(principal, yield* started())
        assert.deepInclude({ ...canceled.error, state: canceled.state }, { state: "Canceled", _tag: "QueryCanceled" })
        assert.isFalse("written" in (canceled.error ?? assert.fail()))
        yield* check("cancel", 1)

        const late = yield* registry.await(principal, yield* started({ deadline: "500 millis" }))
        assert.deepInclude({ ...late.error, state: late.state }, { state: "Failed", _tag: "QueryDeadlineExceeded" })
        yield* check("deadline", 1)

        const session = yield* Lifetime.scoped({ kind: "session", id: "s1" })
        const owned = yield* started({ owner: session })
        yield* session.end()
        const ended = yield* registry.await(principal, owned)
        assert.deepInclude({ ...ended.error, state: ended.state }, { state: "Canceled", _tag: "SessionEnded" })
        yield* check("end of the session", 1)

        const full = yield* submitted(registry, dialect.numbers(20_000))
        assert.deepInclude((yield* registry.await(principal, full)).error, { _tag: "ResultTooLarge" })
        yield* check("a result that is too large", 1)

        yield* Effect.scoped(
          Effect.gen(function* () {
            const closing = yield* registryOf(world, { drain: "10 millis" })
            yield* started({}, closing)
          })
        )
        yield* check("shutdown", 1)
      }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
    )

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
    )

    law("the server ends a statement by itself when its deadline is over", ["deadlines"], ({ driver, running }) =>
      Effect.gen(function* () {
        const told = yield* run(driver, dialect.sleep(60), { execution: { deadline: Duration.millis(100) } })
        assert.deepInclude(reasonOf(told), { _tag: "StatementFailed", code: late ?? "" })
        assert.strictEqual(yield* running, 0)
      })
    )

    law("what the server remarks is told while the statement runs", ["notices"], ({ driver }) =>
      Effect.gen(function* () {
        const told = yield* run(driver, dialect.notice ?? assert.fail("no notice"))
        assert.deepInclude(told.notices[0], { message: "hello" })
      })
    )
  })
  if (leftOut.length > 0) console.log(`${name} has no place for these laws:\n${leftOut.join("\n")}`)
}
