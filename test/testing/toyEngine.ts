/**
 * A query engine in memory that keeps every law, and whose statements are JSON. It is there to be broken on purpose: each
 * fault is one place in it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Schema from "effect/Schema"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import type { QueryCapabilities } from "../../src/query/QueryCapabilities.ts"
import {
  type Execution,
  QueryDriver,
  type Row,
  type RowSink,
  type Statement,
  type Summary
} from "../../src/query/QueryDriver.ts"
import { QueryError, StatementFailed } from "../../src/query/QueryError.ts"
import type * as QueryDriverLaws from "../../src/testing/QueryDriverLaws.ts"

/** What can be wrong with the engine. Each is a name for one place below. */
export type Fault =
  | "columns late"
  | "columns never"
  | "count wrong"
  | "big numbers"
  | "texts mended"
  | "code lost"
  | "sink ignored"
  | "rows at once"
  | "rows at the end"
  | "cancel not awaited"
  | "done before written"
  | "interrupt says nothing"
  | "connection kept"
  | "settings stay"
  | "deadline ignored"
  | "notice lost"

interface Act {
  readonly numbers?: number
  readonly trickle?: readonly [number, number]
  readonly sleep?: number
  readonly table?: true
  readonly insert?: readonly [number, number]
  readonly written?: true
  readonly missing?: true
  readonly values?: ReadonlyArray<Schema.Json | { readonly param: number }>
  readonly shown?: true
  readonly notice?: true
}

const act = (act: Act) => JSON.stringify(act)
/** An expression, for `select …, …`: the engine takes the list for JSON. */
const value = (json: Schema.Json) => JSON.stringify(json)

export const dialect: QueryDriverLaws.Dialect = {
  numbers: (count) => act({ numbers: count }),
  trickle: (count, seconds) => act({ trickle: [count, seconds] }),
  number: (number) => number,
  sleep: (seconds) => act({ sleep: seconds }),
  table: act({ table: true }),
  insert: (number, seconds) => act({ insert: [number, seconds] }),
  written: act({ written: true }),
  missing: { sql: act({ missing: true }), code: "TOY1" },
  values: [
    {
      sql: value("9007199254740993"),
      json: "9007199254740993",
      back: { sql: value({ param: 0 }), param: "9007199254740993" }
    },
    { sql: value("ü😀"), json: "ü😀", back: { sql: value({ param: 1 }), param: "ü😀" } },
    { sql: value(null), json: null, back: { sql: value({ param: 2 }), param: null } }
  ],
  setting: { name: "zone", value: "Tokyo", shown: act({ shown: true }), unknown: "no_such_setting" },
  notice: act({ notice: true }),
  late: "TOY2"
}

export const capabilities: QueryCapabilities = {
  cancel: "statement",
  streams: true,
  undoes: true,
  settings: true,
  deadline: true,
  columnTypes: true,
  parameterTypes: true,
  notices: true,
  roles: false,
  placeholder: "$0"
}

const failed = (problem: string, code: string) => new QueryError({ reason: new StatementFailed({ problem, code }) })

const parse = (sql: string): Act => {
  const values = /^select (.*)$/s.exec(sql)
  return (values === null ? JSON.parse(sql) : { values: JSON.parse(`[${values[1]}]`) }) as Act
}

/** An engine with one fault, or with none. */
export const make = (fault?: Fault) => {
  const is = (one: Fault) => fault === one
  let running = 0
  let connections = 0
  const written: Array<number> = []
  let zone = "Paris"

  const numbered = (from: number, to: number): ReadonlyArray<Row> =>
    Array.from({ length: to - from }, (_, index) => [from + index + 1, `row ${from + index + 1}`])

  const told = (columns: ReadonlyArray<string>, batches: ReadonlyArray<ReadonlyArray<Row>>, sink: RowSink, pause = 0) =>
    Effect.gen(function* () {
      const announce = sink.columns(columns.map((name) => ({ name, type: "toy" })))
      const isSilent = is("columns late") || (is("columns never") && batches.length === 0)
      if (!isSilent) yield* announce
      let count = 0
      const take = (rows: ReadonlyArray<Row>) =>
        is("rows at once")
          ? Effect.forkChild(Effect.ignore(sink.rows(rows)))
          : is("sink ignored")
            ? Effect.ignore(sink.rows(rows))
            : sink.rows(rows)
      const all = is("rows at the end") ? [batches.flat()] : batches
      if (is("rows at the end")) yield* Effect.sleep(pause * batches.length)
      for (const rows of all) {
        if (pause > 0 && count > 0) yield* Effect.sleep(pause)
        if (rows.length > 0) yield* take(rows)
        count += rows.length
      }
      if (is("columns late")) yield* announce
      return { command: "SELECT", rowCount: is("count wrong") ? count + 1 : count }
    })

  const batchesOf = (count: number) =>
    Array.from({ length: Math.ceil(count / 500) }, (_, index) =>
      numbered(index * 500, Math.min(count, (index + 1) * 500))
    )

  const work = (statement: Statement, sink: RowSink, execution: Execution): Effect.Effect<Summary, QueryError> => {
    const {
      insert,
      missing,
      notice,
      numbers,
      shown,
      sleep,
      table,
      trickle,
      values,
      written: all
    } = parse(statement.sql)
    if (missing === true)
      return Effect.fail(failed("there is no table nowhere_to_be_found", is("code lost") ? "" : "TOY1"))
    if (numbers !== undefined) return told(["n", "label"], batchesOf(numbers), sink)
    if (trickle !== undefined) {
      const [count, seconds] = trickle
      return told(
        ["n", "label"],
        numbered(0, count).map((row) => [row]),
        sink,
        (seconds * 1000) / count
      )
    }
    if (sleep !== undefined) return Effect.andThen(Effect.sleep(sleep * 1000), told(["slept"], [[["ok"]]], sink))
    if (table === true) {
      written.length = 0
      return Effect.succeed({ command: "CREATE", rowCount: 0 })
    }
    if (insert !== undefined) {
      const [number, seconds] = insert
      const summary = { command: "INSERT", rowCount: is("count wrong") ? 0 : 1 }
      // The one moment at which it takes effect, and is said to have.
      const effect = is("interrupt says nothing")
        ? Effect.andThen(
            Effect.sync(() => void written.push(number)),
            Effect.sleep(10)
          )
        : Effect.sync(() => {
            written.push(number)
            execution.onDone(Exit.succeed(summary))
          })
      // Told at once, and written so much later that every interruption comes in between.
      const said = Effect.sync(() => execution.onDone(Exit.succeed(summary)))
      const early = is("done before written") ? Effect.andThen(said, Effect.sleep(50)) : Effect.void
      return Effect.andThen(early, Effect.andThen(Effect.sleep(seconds * 1000), effect)).pipe(Effect.as(summary))
    }
    if (all === true) return told(["n"], [written.toSorted((a, b) => a - b).map((number) => [number])], sink)
    if (values !== undefined) {
      const row = values.map((one) => {
        const json =
          typeof one === "object" && one !== null && "param" in one
            ? (statement.params[Number(one.param)] ?? null)
            : (one as Schema.Json)
        return is("big numbers") && /^\d+$/.test(String(json)) ? Number(json) : json
      })
      return told(["v"], [[row]], sink)
    }
    if (notice === true) {
      if (!is("notice lost")) execution.onNotice?.({ severity: "NOTICE", message: "hello" })
      return Effect.succeed({ command: "DO", rowCount: 0 })
    }
    if (shown === true) return told(["zone"], [[[statement.settings?.["zone"] ?? zone]]], sink)
    return Effect.fail(failed("this is no statement", "TOY3"))
  }

  const execute = (statement: Statement, sink: RowSink, execution: Execution) =>
    Effect.gen(function* () {
      const texts = [statement.sql, ...statement.params.filter((param) => typeof param === "string")]
      if (!is("texts mended") && texts.some((text) => !text.isWellFormed()))
        return yield* Effect.fail(failed("the text has half a surrogate pair", "TOY4"))
      const unknown = Object.keys(statement.settings ?? {}).find((name) => name !== "zone")
      if (unknown !== undefined) return yield* Effect.fail(failed(`there is no setting ${unknown}`, "TOY5"))
      if (is("settings stay")) zone = statement.settings?.["zone"] ?? zone
      let isDone = false
      const heard: Execution = {
        ...execution,
        onDone: (outcome) => {
          if (isDone) return
          isDone = true
          execution.onDone(outcome)
        }
      }
      running++
      // The server takes a moment to say that it has stopped.
      const over = Effect.sync(() => void running--)
      const stopped = is("cancel not awaited")
        ? Effect.forkDetach(Effect.andThen(Effect.sleep(30), over))
        : Effect.andThen(Effect.sleep(1), over)
      // A little later than the registry, whose word is the better one.
      const limit = Duration.sum(execution.deadline ?? Duration.infinity, Duration.millis(200))
      const safe = texts.every((text) => text.isWellFormed()) ? work(statement, sink, heard) : told(["n"], [], sink)
      const summary = yield* safe.pipe(
        Effect.timeoutOrElse({
          duration: is("deadline ignored") ? Duration.infinity : limit,
          orElse: () => Effect.fail(failed("the deadline is over", "TOY2"))
        }),
        Effect.ensuring(stopped)
      )
      heard.onDone(Exit.succeed(summary))
      return summary
    })

  const driver = QueryDriver.of({
    open: Effect.suspend(() => {
      const id = String(++connections)
      const hold = Ledger.hold({ kind: "connection", id }, Effect.succeed({ id, execute }), () => Effect.void)
      // One that belongs to nobody's scope, for a while.
      const kept = Effect.forkDetach(Effect.scoped(Effect.andThen(hold, Effect.sleep("400 millis"))))
      return is("connection kept") ? Effect.andThen(kept, hold) : hold
    })
  })
  return { driver, running: Effect.sync(() => running) }
}
