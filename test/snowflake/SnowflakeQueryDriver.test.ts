import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { type Execution, QueryDriver, type Row, type RowSink } from "../../src/query/QueryDriver.ts"
import type { Written } from "../../src/query/QueryError.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as SnowflakeQueryDriver from "../../src/snowflake/SnowflakeQueryDriver.ts"
import type { SnowflakeServer } from "../../src/testing/SnowflakeServer.ts"
import { busyBackends, eventually } from "../support/conditions.ts"
import { gate } from "../support/postgres.ts"
import { optionsOf, withSnowflake } from "../support/snowflake.ts"

const listening = () => {
  const rows: Array<Row> = []
  const outcomes: Array<Parameters<Execution["onDone"]>[0]> = []
  const givenUp: Array<Written> = []
  const sink: RowSink = {
    columns: () => Effect.void,
    rows: (some) => Effect.sync(() => void rows.push(...some))
  }
  const execution: Execution = {
    id: QueryId.make(),
    onDone: (outcome) => void outcomes.push(outcome),
    onGivenUp: (written) => void givenUp.push(written)
  }
  return { rows, outcomes, givenUp, sink, execution }
}

const statement = (sql: string) => ({ sql, params: [] })

const held = (kind: string) =>
  Effect.flatMap(Ledger.Ledger, (ledger) =>
    Effect.map(ledger.holdings, (all) => all.filter((holding) => holding.kind === kind))
  )

/** Begins a statement, and returns when the server runs it, and, unless told otherwise, the driver knows its handle. */
const begun = Effect.fnUntraced(function* (
  server: SnowflakeServer["Service"],
  sql: string,
  until: "known" | "running" = "known"
) {
  const told = listening()
  const driver = yield* QueryDriver
  const fiber = yield* Effect.forkChild(
    Effect.scoped(
      Effect.flatMap(driver.open, (connection) => connection.execute(statement(sql), told.sink, told.execution))
    ),
    { startImmediately: true }
  )
  const [{ handle } = assert.fail("no statement")] = yield* eventually(
    Effect.map(server.statements, (all) => all.filter((known) => known.sql === sql && known.state === "running")),
    (running) => running.length === 1
  )
  if (until === "known") {
    yield* eventually(held("connection"), (all) => all.some(({ attributes }) => attributes["handle"] === handle))
  }
  return { fiber, told, handle }
})

const sleep = "select pg_sleep(60)::text"
const write = "insert into written select 1 from pg_sleep(60)"

const run = Effect.fnUntraced(function* (sql: string) {
  const { execution, rows, sink } = listening()
  const driver = yield* QueryDriver
  yield* Effect.scoped(Effect.flatMap(driver.open, (connection) => connection.execute(statement(sql), sink, execution)))
  return rows
})

describe("a statement on Snowflake", () => {
  it.live(
    "has the query's id as its tag, in the place that the driver was given, and at most a second past its deadline",
    () => {
      const bodies: Array<Record<string, unknown>> = []
      return withSnowflake(
        () =>
          Effect.gen(function* () {
            const driver = yield* QueryDriver
            const { execution, sink } = listening()
            yield* Effect.scoped(
              Effect.flatMap(driver.open, (connection) =>
                connection.execute(
                  { sql: "select 1", params: [], settings: { QUERY_TAG: "report", timezone: "UTC" } },
                  sink,
                  { ...execution, deadline: Duration.seconds(90) }
                )
              )
            )
            assert.deepStrictEqual(bodies, [
              {
                statement: "select 1",
                database: "TEST",
                schema: "PUBLIC",
                warehouse: "SMALL",
                timeout: 91,
                parameters: {
                  week_start: "1",
                  timezone: "UTC",
                  query_tag: `holdfast ${execution.id} report`,
                  binary_output_format: "HEX"
                }
              }
            ])
          }),
        {
          server: { onExchange: ({ kind, request }) => kind === "submit" && bodies.push(JSON.parse(request.body)) },
          driver: { parameters: { WEEK_START: "1", timezone: "Asia/Tokyo" } }
        }
      )
    }
  )

  it.live("tells where the server found it wrong, and what the server calls that", () =>
    withSnowflake(() =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(run("select 1\nfrom  nowhere_to_be_found"))
        const { reason } = error
        assert.deepInclude(reason, { _tag: "StatementFailed", code: "42S02", position: 16 })
        assert.match(
          "detail" in reason ? String(reason.detail) : "",
          /^Snowflake calls it 002003\. The statement's handle is [0-9a-f-]{36}\.$/
        )
      })
    )
  )

  it.live("is refused where a parameter or a setting of it would not be what it seems", () =>
    withSnowflake(({ server }) =>
      Effect.gen(function* () {
        const driver = yield* QueryDriver
        const { execution, sink } = listening()
        const refused = (params: ReadonlyArray<Row[number]>, settings?: Readonly<Record<string, string>>) =>
          Effect.scoped(
            Effect.flatMap(driver.open, (connection) =>
              connection.execute({ sql: "select ?", params, settings }, sink, execution)
            )
          ).pipe(
            Effect.flip,
            Effect.map(({ message }) => message)
          )
        assert.match(yield* refused([{ type: "BINARY", value: "no base64" }]), /^The parameter 1 is no BINARY/)
        assert.match(yield* refused([{ type: "DATE", value: "2026-02-30" }]), /is no DATE/)
        assert.match(yield* refused([{ type: "TIMESTAMP_TZ", value: "2026-02-03T00:00:00" }]), /is no TIMESTAMP_TZ/)
        assert.match(
          yield* refused([1, { type: "GEOGRAPHY", value: "x" }]),
          /^The parameter 2 has the type "GEOGRAPHY"/
        )
        assert.match(yield* refused([{ type: "TEXT", value: [1] }]), /a list/)
        assert.match(yield* refused([1], { Timestamp_Output_Format: "AUTO" }), /how values are written/)
        assert.deepStrictEqual(yield* server.statements, [])
      })
    )
  )

  it.live("is sent again after a 401 with another token, and is one statement", () =>
    withSnowflake(({ server }) =>
      Effect.gen(function* () {
        const failed = yield* Effect.flip(Effect.andThen(server.refuse(server.token), run("select 1 as refused")))
        assert.deepInclude(failed.reason, { _tag: "QueriesUnavailable" })
        assert.match(failed.message, /answered 401 \(394400\)\. Check the token/)
        assert.isFalse("written" in failed.reason)
        assert.deepStrictEqual(yield* server.statements, [])
        yield* server.admit(server.token)
        assert.deepStrictEqual(yield* run("select 1"), [["1"]])
      })
    )
  )
})

describe("an interruption", () => {
  const options = { driver: { cancelLimit: "1500 millis" } } as const

  it.live("ends a statement in another way where the call that cancels does not work", () =>
    withSnowflake(({ server }) =>
      Effect.gen(function* () {
        yield* server.decide(({ kind }) => (kind === "cancel" ? "hang" : "pass"))
        const { fiber, told } = yield* begun(server, sleep)
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual([told.outcomes, told.givenUp], [[], []])
        assert.strictEqual(yield* server.running, 0)
      })
    )
  )

  it.live(
    "that nobody confirms is over in time and says that nothing is known; the statement is ended when that is possible again",
    () =>
      withSnowflake(
        ({ database, server }) =>
          Effect.gen(function* () {
            yield* run("create table written (n int)")
            const { fiber, handle, told } = yield* begun(server, write)
            yield* server.decide(() => "hang")
            const before = performance.now()
            yield* Fiber.interrupt(fiber)
            assert.isBelow(performance.now() - before, 4000)
            assert.deepStrictEqual([told.outcomes, told.givenUp], [[], ["unknown"]])
            assert.deepStrictEqual(yield* held("connection"), [])
            const [zombie] = yield* held("unconfirmed statement")
            assert.deepStrictEqual(zombie?.attributes, { handle })
            yield* server.decide(() => "pass")
            yield* eventually(held("unconfirmed statement"), (all) => all.length === 0)
            assert.strictEqual(yield* server.running, 0)
            assert.deepStrictEqual(yield* busyBackends(database), [])
          }),
        options
      )
  )

  it.live("of a statement that was not taken in sends it no more", () =>
    withSnowflake(({ server }) =>
      Effect.gen(function* () {
        const asked = yield* Deferred.make<void>()
        yield* server.decide(({ kind }) => {
          if (kind === "submit") Deferred.doneUnsafe(asked, Effect.void)
          return { status: 429 }
        })
        const { execution, givenUp, outcomes, sink } = listening()
        const driver = yield* QueryDriver
        const fiber = yield* Effect.forkChild(
          Effect.scoped(
            Effect.flatMap(driver.open, (connection) => connection.execute(statement("select 7"), sink, execution))
          )
        )
        yield* Deferred.await(asked)
        yield* Fiber.interrupt(fiber)
        yield* server.decide(() => "pass")
        assert.deepStrictEqual([outcomes, givenUp], [[], []])
        // It would have come again before these, which are waited for longer and longer.
        for (const number of [1, 2, 3, 4, 5]) yield* run(`select pg_sleep(0.05 * ${number})`)
        assert.strictEqual(yield* server.executions("select 7"), 0)
      })
    )
  )

  it.live("while the answer to the submission is lost finds the statement and ends it", () =>
    withSnowflake(({ server }) =>
      Effect.gen(function* () {
        yield* server.decide(({ kind, number }) => (kind === "submit" && number === 1 ? "lose" : "pass"))
        const { fiber, told } = yield* begun(server, sleep, "running")
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual([told.outcomes, told.givenUp], [[], []])
        assert.strictEqual(yield* server.running, 0)
        assert.strictEqual((yield* server.statements).length, 1)
      })
    )
  )

  it.live("finds that the server was done, and its word stands", () =>
    withSnowflake(({ database, server }) =>
      Effect.gen(function* () {
        yield* run("create table written (n int)")
        const { open, wait } = yield* gate(database)
        const { fiber, told } = yield* begun(server, `insert into written select 1 from ${wait}`)
        yield* server.decide(({ kind }) => (kind === "status" ? "pending" : "pass"))
        yield* open
        yield* eventually(server.running, (count) => count === 0)
        yield* server.decide(() => "pass")
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(told.outcomes, [Exit.succeed({ command: "INSERT", rowCount: 1 })])
        assert.deepStrictEqual(told.rows, [["1"]])
        assert.deepStrictEqual(yield* run("select n from written"), [["1"]])
      })
    )
  )

  it.live("while rows wait for their reader lets go of them, and the statement took effect", () =>
    withSnowflake(
      () =>
        Effect.gen(function* () {
          const driver = yield* QueryDriver
          for (const [sql, outcomes, givenUp] of [
            ["select n from generate_series(1, 5000) n", 0, ["committed"]],
            ["call_it", 1, []]
          ] as const) {
            if (sql === "call_it") {
              yield* run("create table written (n int)")
            }
            const text =
              sql === "call_it" ? "insert into written select n from generate_series(1, 5000) n returning n" : sql
            const told = listening()
            const waiting = yield* Deferred.make<void>()
            const stuck = {
              ...told.sink,
              rows: () => Effect.andThen(Deferred.succeed(waiting, undefined), Effect.never)
            }
            const fiber = yield* Effect.forkChild(
              Effect.scoped(
                Effect.flatMap(driver.open, (connection) => connection.execute(statement(text), stuck, told.execution))
              )
            )
            yield* Deferred.await(waiting)
            yield* Fiber.interrupt(fiber)
            assert.strictEqual(told.outcomes.length, outcomes)
            assert.deepStrictEqual(told.givenUp, [...givenUp])
          }
          assert.deepStrictEqual(yield* run("select count(*) from written"), [["5000"]])
        }),
      { server: { partitionBytes: 4000 } }
    )
  )
})

describe("a handle", () => {
  it.live("is told as soon as it is known, and another driver takes the statement up, or ends it", () => {
    const handles = new Map<string, string>()
    return withSnowflake(
      ({ database, server }) =>
        Effect.gen(function* () {
          const { open, wait } = yield* gate(database)
          const first = yield* begun(server, `select n, ${wait}::text from generate_series(1, 3) n`)
          assert.strictEqual(handles.get(first.told.execution.id), first.handle)
          const other = SnowflakeQueryDriver.layer(optionsOf(server))
          const second = yield* begun(server, sleep)
          yield* Effect.gen(function* () {
            const { attach, end } = yield* SnowflakeQueryDriver.SnowflakeStatements
            const { execution, rows, sink } = listening()
            const attached = Effect.all([attach(first.handle, sink, execution), open], { concurrency: 2 })
            assert.strictEqual((yield* attached)[0].rowCount, 3)
            assert.strictEqual(rows.length, 3)
            assert.isTrue(yield* end(second.handle))
            assert.isTrue(yield* end(second.handle))
            assert.isTrue(yield* end("00000000-0000-0000-0000-000000000000"))
          }).pipe(Effect.provide(other))
          assert.strictEqual(yield* server.running, 0)
          yield* Fiber.join(first.fiber)
          assert.deepStrictEqual(first.told.rows.length, 3)
          const { reason } = yield* Effect.flip(Fiber.join(second.fiber))
          assert.deepInclude(reason, { _tag: "StatementFailed", code: "57014" })
        }),
      {
        driver: {
          onSubmitted: (id, handle) => Effect.sync(() => void handles.set(id, handle))
        }
      }
    )
  })

  it.live("that expired says that nothing is known of the statement", () =>
    withSnowflake(({ database, server }) =>
      Effect.gen(function* () {
        const { open, wait } = yield* gate(database)
        const { fiber, handle } = yield* begun(server, `select ${wait}::text`)
        yield* server.expire(handle)
        const { reason } = yield* Effect.flip(Fiber.join(fiber))
        assert.deepInclude(reason, { _tag: "QueriesUnavailable", written: "unknown" })
        yield* open
        yield* eventually(busyBackends(database), (busy) => busy.length === 0)
      })
    )
  )
})

it.live("C1 a launch that fails releases what it had, and says that nothing was written", () =>
  withSnowflake(
    ({ server }) =>
      Effect.gen(function* () {
        const registry = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
        const outcome = Effect.fnUntraced(function* () {
          const { id } = yield* registry.submit({ statement: statement("select 1"), principal: "alice" })
          return yield* registry.await("alice", id)
        })
        for (const status of [400, 401, 403, 415, 429, 503]) {
          yield* server.decide(() => ({ status }))
          const { error, state } = yield* outcome()
          assert.deepInclude({ ...error, state }, { state: "Failed", _tag: "QueriesUnavailable" }, String(status))
          assert.isFalse("written" in (error ?? assert.fail()), String(status))
          assert.deepStrictEqual(yield* held("connection"), [])
        }
        yield* server.decide(() => "reset")
        const { error } = yield* outcome()
        // It may have arrived.
        assert.deepInclude(error, { _tag: "QueriesUnavailable", written: "unknown" })
        assert.deepStrictEqual(yield* server.statements, [])
      }),
    { driver: { outageLimit: "100 millis" } }
  )
)

it.live("a slow reader has one partition read ahead of it, and holds up no connection", () => {
  let fetched = 0
  let rowsOf: ReadonlyArray<number> = []
  return withSnowflake(
    () =>
      Effect.gen(function* () {
        let taken = 0
        let most = 0
        const driver = yield* QueryDriver
        const { execution, sink } = listening()
        const slow: RowSink = {
          ...sink,
          rows: (rows) =>
            Effect.gen(function* () {
              taken += rows.length
              // How many partitions have been taken in whole, and one that is being taken.
              let begun = 0
              for (let sum = 0; sum < taken; begun++) sum += rowsOf[begun] ?? assert.fail()
              // Meanwhile others get their answers, and so does what is read ahead.
              assert.deepStrictEqual(
                yield* Effect.orDie(Effect.provideService(run(`select ${begun}`), QueryDriver, driver)),
                [[String(begun)]]
              )
              most = Math.max(most, fetched + 1 - begun)
            })
        }
        const { rowCount } = yield* Effect.scoped(
          Effect.flatMap(driver.open, (connection) =>
            connection.execute(
              statement("select n, repeat('x', 90) from generate_series(100, 4099) n"),
              slow,
              execution
            )
          )
        )
        assert.deepStrictEqual([rowCount, taken], [4000, 4000])
        assert.strictEqual(fetched, rowsOf.length - 1)
        assert.isAtLeast(fetched, 10)
        assert.strictEqual(most, 1)
      }),
    {
      server: {
        partitionBytes: 20_000,
        onExchange: ({ kind, reply }) => {
          if (kind === "partition") fetched++
          if (kind !== "status" || reply.status !== 200) return
          const { resultSetMetaData } = JSON.parse(Buffer.from(reply.body).toString())
          const rows = resultSetMetaData.partitionInfo.map(({ rowCount }: { readonly rowCount: number }) => rowCount)
          if (rows.length > 1) rowsOf = rows
        }
      }
    }
  )
})

it.live(
  "rows that are too large to be read at once are the rows that they are, between others, for every kind of reader",
  () =>
    withSnowflake(() =>
      Effect.gen(function* () {
        const driver = yield* QueryDriver
        const sql =
          "select n, repeat('é', 100000 * (n % 2)), jsonb_build_object('a', repeat('x', 200000 * (n % 2))) from generate_series(1, 5) n"
        const expected = Array.from({ length: 5 }, (_, index) => {
          const isLarge = (index + 1) % 2
          return [String(index + 1), "é".repeat(100_000 * isLarge), { a: "x".repeat(200_000 * isLarge) }]
        })
        assert.deepStrictEqual(yield* run(sql), expected)
        const { execution, rows, sink } = listening()
        const text: RowSink["text"] = (pieces) =>
          Effect.sync(() => {
            const parts = Array.from({ [Symbol.iterator]: () => pieces }, (part) => Buffer.from(part))
            rows.push(JSON.parse(Buffer.concat(parts).toString()))
          })
        yield* Effect.scoped(
          Effect.flatMap(driver.open, (connection) => connection.execute(statement(sql), { ...sink, text }, execution))
        )
        assert.deepStrictEqual(rows, expected)
      })
    )
)

it.live("a token that another part of the program looks after is asked for at each call", () =>
  withSnowflake(({ server }) =>
    Effect.gen(function* () {
      const other = Redacted.make("oauth-token")
      yield* server.admit(other)
      let asked = 0
      const tokens = {
        get: Effect.sync(() => {
          asked++
          return { value: other }
        }),
        refresh: Effect.succeed({ value: other }),
        invalidate: () => Effect.void
      }
      const layer = SnowflakeQueryDriver.layer({ ...optionsOf(server), token: { type: "OAUTH", tokens } })
      assert.deepStrictEqual(yield* run("select 5").pipe(Effect.provide(layer)), [["5"]])
      assert.isAtLeast(asked, 3)
    })
  )
)
