import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Connection from "../../src/connection/Connection.ts"
import { ConnectionPool } from "../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as Query from "../../src/query/Query.ts"
import type { QueryError } from "../../src/query/QueryError.ts"
import type { QueryId } from "../../src/query/QueryId.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as QueryState from "../../src/query/QueryState.ts"
import { sweep } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { busyBackends, eventually, inTimeOf } from "../support/conditions.ts"
import { superuserUrl } from "../support/postgres.ts"
import { withQueries } from "../support/queries.ts"

const alice = "alice"
const sleep = { sql: "select pg_sleep(60)", params: [] }

const openRegistry = (options?: QueryRegistry.Options) =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const registry = yield* QueryRegistry.make(options).pipe(
      Scope.provide(scope),
      Effect.provide(QueryResults.layerMemory())
    )
    return { registry, close: Scope.close(scope, Exit.void) }
  })

const submit = (
  registry: QueryRegistry.QueryRegistry["Service"],
  statement: { readonly sql: string; readonly params: [] } | typeof sleep,
  options: Partial<QueryRegistry.Submission> = {}
) => registry.submit({ statement, principal: alice, ...options })

const running = (database: string) =>
  eventually(busyBackends(database), (busy) => busy.some(({ query }) => String(query).includes("pg_sleep")))
const idle = (database: string) => Effect.map(busyBackends(database), (busy) => assert.deepStrictEqual(busy, []))

const released = ["statement released", "connection released", "query released"]
const interrupted = ["query ending", ...released]
const endOf = (story: ReadonlyArray<string>) => story.filter((step) => !step.endsWith("acquired"))

describe("the exits of a query: interrupt, then the server's answer, then release, exactly once (C1, C2)", () => {
  it.live("finished", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { registry } = yield* openRegistry()
        const { id } = yield* submit(registry, { sql: "select 1", params: [] })
        assert.strictEqual((yield* registry.await(alice, id)).state, "Succeeded")
        assert.deepStrictEqual(endOf(recorder.story("query")), [
          "statement released",
          "connection released",
          "query ending",
          "query released"
        ])
        yield* idle(name)
      })
    )
  )

  it.live("failed", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { registry } = yield* openRegistry()
        const { id } = yield* submit(registry, { sql: "select 1/0", params: [] })
        const record = yield* registry.await(alice, id)
        assert.strictEqual(record.state, "Failed")
        assert.deepInclude(record.error, { _tag: "StatementFailed", code: "22012" })
        assert.deepStrictEqual(endOf(recorder.story("query")), [
          "statement released",
          "connection released",
          "query ending",
          "query released"
        ])
        yield* idle(name)
      })
    )
  )

  it.live("Q5 failed launch: what it had acquired is released", () =>
    withQueries(
      ({ name }) =>
        Effect.gen(function* () {
          const recorder = yield* LedgerRecorder.make
          const { registry } = yield* openRegistry()
          const pool = yield* ConnectionPool
          const held = yield* Scope.fork(yield* Effect.scope)
          yield* Scope.provide(pool.lease(), held)
          const { id } = yield* submit(registry, { sql: "select 1", params: [] })
          const record = yield* registry.await(alice, id)
          assert.strictEqual(record.state, "Failed")
          assert.strictEqual(record.error?._tag, "QueriesUnavailable")
          assert.deepStrictEqual(endOf(recorder.story("query")), ["query ending", "query released"])
          yield* Scope.close(held, Exit.void)
          assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 })
          yield* idle(name)
        }),
      { max: 1, acquireTimeout: "1 second" }
    )
  )

  it.live("cancelled", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { registry } = yield* openRegistry()
        const { id } = yield* submit(registry, sleep)
        yield* running(name)
        const cancels = yield* Effect.all([registry.cancel(alice, id), registry.cancel(alice, id)], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(
          cancels.map(({ state }) => state),
          ["Canceled", "Canceled"]
        )
        assert.deepStrictEqual(endOf(recorder.story("query")), interrupted)
        yield* idle(name)
      })
    )
  )

  it.live("past its deadline", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { registry } = yield* openRegistry()
        const { id } = yield* submit(registry, sleep, { deadline: "2 seconds" })
        const record = yield* registry.await(alice, id)
        assert.deepStrictEqual([record.state, record.error?._tag], ["Failed", "QueryDeadlineExceeded"])
        assert.deepStrictEqual(endOf(recorder.story("query")), interrupted)
        yield* idle(name)
      })
    )
  )

  it.effect("pruned after its time: released once, long before, and gone with its rows", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { registry } = yield* openRegistry({ retention: "15 minutes" })
        const { id } = yield* submit(registry, { sql: "select 1", params: [] })
        yield* registry.await(alice, id)
        const before = recorder.changes().length
        yield* TestClock.adjust("14 minutes")
        assert.deepStrictEqual((yield* registry.page(alice, id, { offset: 0, limit: 10 })).rows, [[1]])
        yield* TestClock.adjust("2 minutes")
        assert.strictEqual((yield* Effect.flip(registry.status(alice, id))).reason._tag, "QueryNotFound")
        assert.deepStrictEqual((yield* registry.list(alice)).queries, [])
        assert.deepStrictEqual(
          recorder
            .changes()
            .slice(before)
            // The pool looks after its connections meanwhile, by the same clock.
            .filter(({ kind }) => kind !== "backend" && kind !== "zombie"),
          []
        )
        yield* idle(name)
      })
    )
  )

  it.live("registry closed", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { close, registry } = yield* openRegistry({ drain: "10 millis" })
        yield* submit(registry, sleep)
        yield* running(name)
        yield* close
        assert.deepStrictEqual(endOf(recorder.story("query")), interrupted)
        yield* LedgerRecorder.assertEmpty({ except: ["backend"] })
        yield* idle(name)
        assert.strictEqual((yield* Effect.flip(submit(registry, sleep))).reason._tag, "QueriesUnavailable")
      })
    )
  )

  it.live("S9 the session it belongs to ended", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { registry } = yield* openRegistry()
        const session = yield* Lifetime.scoped({ kind: "session", id: "s", release: "parallel" })
        const { id } = yield* submit(registry, sleep, { owner: session })
        yield* running(name)
        yield* session.end()
        assert.deepStrictEqual(endOf(recorder.story("query")), interrupted)
        const record = yield* registry.status(alice, id)
        assert.deepStrictEqual([record.state, record.error?._tag], ["Canceled", "SessionEnded"])
        const late = yield* submit(registry, sleep, { owner: session })
        assert.deepStrictEqual(
          [late.state, (yield* registry.await(alice, late.id)).error?._tag],
          ["Canceled", "SessionEnded"]
        )
        yield* idle(name)
      })
    )
  )
})

describe("Q2 cancel at any moment ends in one terminal state, with no statement left running on the server", () => {
  it.live("which is whichever the server says: a row is there exactly when the query succeeded", () =>
    withQueries(({ name, url }) =>
      Effect.gen(function* () {
        const { registry } = yield* openRegistry()
        const run = (sql: string) =>
          Effect.flatMap(submit(registry, { sql, params: [] }), ({ id }) => registry.await(alice, id))
        yield* run("create table written (n int primary key)")
        const gate = yield* PgConnection.make({ url })
        const waits = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like 'insert into written%'`
        const open = gate.query("select pg_advisory_unlock(1)")
        const succeeded: Array<number> = []
        for (let n = 0; n < 120; n++) {
          yield* gate.query("select pg_advisory_lock(1)")
          const sql = `insert into written select ${n} from pg_advisory_xact_lock_shared(1)`
          const { id } = yield* submit(registry, { sql, params: [] })
          yield* eventually(gate.query(waits), ({ rows }) => rows.length > 0)
          // The server may go on while the cancel is on its way: first a cancel that nothing races, last one that is too late.
          const going = yield* Effect.forkChild(n === 0 ? Effect.void : open, { startImmediately: true })
          if (n === 119) yield* registry.await(alice, id)
          yield* Effect.repeat(Effect.yieldNow, { times: n * 3 })
          const { state } = yield* registry.cancel(alice, id)
          assert.include(["Succeeded", "Canceled"], state)
          if (state === "Succeeded") succeeded.push(n)
          yield* Fiber.join(going)
          if (n === 0) yield* open
        }
        const { id } = yield* submit(registry, { sql: "select n from written order by n", params: [] })
        yield* registry.await(alice, id)
        const { rows } = yield* registry.page(alice, id, { offset: 0, limit: 1000 })
        assert.deepStrictEqual(
          rows.map(([n]) => n),
          succeeded
        )
        assert.isAbove(succeeded.length, 0)
        assert.isBelow(succeeded.length, 120)
        yield* idle(name)
      })
    )
  )
})

describe("a query as a layer", () => {
  it.live("C2 interrupting the program in mid-statement: the server's answer, then release, well under a second", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const program = Effect.gen(function* () {
          return yield* Stream.runCollect((yield* Query.Query).rows)
        }).pipe(Effect.provide(Query.layer(sleep.sql)))
        const fiber = yield* Effect.forkChild(program)
        yield* running(name)
        const begun = Date.now()
        yield* Fiber.interrupt(fiber)
        assert.isBelow(Date.now() - begun, inTimeOf(1000))
        assert.deepStrictEqual(endOf(recorder.story("query")), interrupted)
        yield* idle(name)
        yield* LedgerRecorder.assertEmpty({ except: ["backend"] })
      })
    )
  )

  it.live("Q1 the end of the rows and the outcome are seen only after the connection was released", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const pool = yield* ConnectionPool
        yield* Effect.gen(function* () {
          const query = yield* Query.Query
          yield* Stream.runDrain(query.rows)
          assert.strictEqual((yield* pool.stats).leased, 0)
          yield* query.summary
          assert.strictEqual((yield* pool.stats).leased, 0)
        }).pipe(Effect.provide(Query.layer("select n from generate_series(1, 3000) as n")))
      })
    )
  )

  it.live("Q6 rows that nobody reads wait at the server", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const connection = yield* PgConnection.make({ url: yield* superuserUrl, database: name })
        yield* connection.query("create sequence taken")
        yield* connection.query("grant usage on sequence taken to public")
        const taken = Effect.map(connection.queryValues("select last_value::int from taken"), ([row]) =>
          Number(row?.[0])
        )
        const isHeldUp = Effect.gen(function* () {
          const before = yield* taken
          yield* Effect.repeat(taken, { times: 100 })
          return before > 1024 && (yield* taken) === before
        })
        yield* Effect.gen(function* () {
          const query = yield* Query.Query
          yield* Stream.runDrain(Stream.take(query.rows, 1))
          yield* eventually(isHeldUp, Boolean)
        }).pipe(
          Effect.provide(Query.layer("select nextval('taken'), repeat('x', 200) from generate_series(1, 5000000)"))
        )
        assert.isBelow(yield* taken, 5_000_000)
      })
    )
  )

  it.live("a reader that stops early leaves nothing running", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const some = yield* Effect.gen(function* () {
          return yield* Stream.runCollect(Stream.take((yield* Query.Query).rows, 2))
        }).pipe(Effect.provide(Query.layer("select generate_series(1, 100000000)")))
        assert.deepStrictEqual(some, [[1], [2]])
        yield* idle(name)
        yield* LedgerRecorder.assertEmpty({ except: ["backend"] })
      })
    )
  )
})

describe("a registered query", () => {
  it.live("Q1 a terminal state is visible only after the connection was released", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const pool = yield* ConnectionPool
        const { registry } = yield* openRegistry()
        for (let round = 0; round < 20; round++) {
          const { id } = yield* submit(registry, { sql: `select ${round}`, params: [] })
          const seen = yield* Effect.gen(function* () {
            const { state } = yield* registry.status(alice, id)
            const { leased } = yield* pool.stats
            return { state, leased }
          }).pipe(Effect.tap(Effect.yieldNow), Effect.repeat({ until: ({ state }) => state === "Succeeded" }))
          assert.deepStrictEqual(seen, { state: "Succeeded", leased: 0 })
        }
        yield* idle(name)
      })
    )
  )

  it.live("Q4 a principal sees and cancels only its own queries", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const { registry } = yield* openRegistry()
        const { id } = yield* submit(registry, sleep)
        yield* running(name)
        for (const call of [registry.status("bob", id), registry.cancel("bob", id)]) {
          assert.strictEqual((yield* Effect.flip(call)).reason._tag, "QueryNotFound")
        }
        assert.deepStrictEqual((yield* registry.list("bob")).queries, [])
        assert.strictEqual((yield* registry.status(alice, id)).state, "Running")
        yield* registry.cancel(alice, id)
      })
    )
  )

  it.live("waits its turn, fair between principals, and is rejected at once when too many wait", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { registry } = yield* openRegistry({ maxRunning: 1, maxWaiting: 3 })
        const first = yield* submit(registry, sleep)
        yield* eventually(registry.status(alice, first.id), ({ state }) => state === "Running")
        const second = yield* submit(registry, sleep)
        const third = yield* submit(registry, sleep)
        const bobs = yield* submit(registry, sleep, { principal: "bob" })
        assert.strictEqual((yield* Effect.flip(submit(registry, sleep))).reason._tag, "QueryRejected")
        yield* registry.cancel(alice, second.id)
        yield* registry.cancel(alice, first.id)
        yield* eventually(Effect.all([registry.status(alice, third.id), registry.status("bob", bobs.id)]), (records) =>
          records.some(({ state }) => state === "Running")
        )
        yield* registry.cancel(alice, third.id)
        yield* eventually(registry.status("bob", bobs.id), ({ state }) => state === "Running")
        yield* registry.cancel("bob", bobs.id)
      })
    )
  )
})

describe("Q3 the same idempotency key starts one query", () => {
  it.live("of twenty submits at once", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { registry } = yield* openRegistry()
        const run = (sql: string, options?: Partial<QueryRegistry.Submission>) =>
          Effect.flatMap(submit(registry, { sql, params: [] }, options), ({ id }) => registry.await(alice, id))
        yield* run("create table once (n int)")
        const records = yield* Effect.all(
          Array.from({ length: 20 }, () => run("insert into once values (1)", { idempotencyKey: "k" })),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          records.map(({ id, state }) => [id, state]),
          records.map(() => [records[0]?.id, "Succeeded"])
        )
        const { id } = yield* run("select count(*)::int from once")
        assert.deepStrictEqual((yield* registry.page(alice, id, { offset: 0, limit: 1 })).rows, [[1]])
      })
    )
  )
})

describe("Q7 closing the registry leaves no fiber, no connection, no timer", () => {
  it.live("forty running queries: cancelled and acknowledged within three seconds", () =>
    withQueries(
      ({ name }) =>
        Effect.gen(function* () {
          const { close, registry } = yield* openRegistry({ maxRunning: 40, reservedRunning: 0, drain: 0 })
          for (let index = 0; index < 60; index++) yield* submit(registry, sleep)
          yield* eventually(busyBackends(name), (busy) => busy.length === 40)
          const begun = Date.now()
          yield* close
          assert.isBelow(Date.now() - begun, 3000)
          yield* idle(name)
          assert.deepInclude(yield* (yield* ConnectionPool).stats, { leased: 0, waiting: 0 })
          yield* LedgerRecorder.assertEmpty({ except: ["backend"] })
        }),
      { max: 40 }
    )
  )
})

describe("under the interrupt sweep, on the real server", () => {
  it.live("C1, Q1, Q2, Q7: cancelled, ended by its session, finished or closed at any moment, nothing is left", () =>
    withQueries(
      ({ name }) =>
        Effect.gen(function* () {
          const pool = yield* ConnectionPool
          yield* sweep(
            Effect.gen(function* () {
              const { close, registry } = yield* openRegistry({ maxRunning: 3, drain: 0 })
              const session = yield* Lifetime.scoped({ kind: "session", id: "s", release: "parallel" })
              const queries = yield* Effect.forEach(Array.from({ length: 8 }), (_, index) =>
                submit(
                  registry,
                  { sql: `select pg_sleep(${index % 2 === 0 ? 0 : 60})`, params: [] },
                  { owner: index % 4 < 2 ? session : undefined }
                )
              )
              const ids = queries.map(({ id }) => id)
              const until = (index: number, isIt: (state: QueryState.QueryState) => boolean) =>
                Stream.runDrain(
                  Stream.takeUntil(registry.events(alice, ids[index] ?? assert.fail()), ({ record }) =>
                    isIt(record.state)
                  )
                )
              yield* Effect.all(
                [
                  ...ids
                    .slice(0, 3)
                    .map((id, index) =>
                      Effect.andThen(
                        Effect.repeat(Effect.yieldNow, { times: index * 40 }),
                        Effect.andThen(unlessClosed(registry.cancel(alice, id)), isFree(registry, id))
                      )
                    ),
                  Effect.andThen(unlessClosed(until(3, (state) => state === "Running")), session.end()),
                  Effect.andThen(until(6, QueryState.isTerminal), close)
                ],
                { concurrency: "unbounded" }
              )
              assert.deepInclude(yield* pool.stats, { leased: 0, waiting: 0 })
            }),
            { share: { number: 0, of: 6 } }
          )
          yield* idle(name)
          yield* LedgerRecorder.assertEmpty({ except: ["backend"] })
        }),
      { max: 3 }
    )
  )
})

/** A registry that is closed knows no query. */
const unlessClosed = <A>(call: Effect.Effect<A, QueryError>) =>
  Effect.catchIf(
    call,
    ({ reason }) => reason._tag === "QueryNotFound",
    () => Effect.void
  )

/** Whoever sees a query over sees nothing of it in the ledger; the registry may have closed meanwhile. */
const isFree = (registry: QueryRegistry.QueryRegistry["Service"], id: QueryId) =>
  Effect.gen(function* () {
    const record = yield* Effect.option(registry.status(alice, id))
    if (Option.isSome(record)) assert.isTrue(QueryState.isTerminal(record.value.state))
    const held = yield* (yield* Ledger.Ledger).holdings
    assert.isUndefined(held.find((holding) => holding.id === id))
  })

describe("Connection.layer", () => {
  const id = Effect.map(Connection.Connection, ({ id }) => id)

  it.live("C9 two requests never share a leased connection, also when the app's graph holds the layer", () =>
    withQueries(() =>
      Effect.gen(function* () {
        // Each request holds its connection until the other has one too.
        const bothHold = yield* Latch.make()
        let holding = 0
        const request = Effect.gen(function* () {
          const mine = yield* id
          if (++holding === 2) yield* bothHold.open
          yield* bothHold.await
          return mine
        }).pipe(Effect.provide(Connection.layer))
        const app = Effect.gen(function* () {
          const apps = yield* id
          const requests = yield* Effect.all([request, request], { concurrency: "unbounded" })
          return [apps, ...requests]
        })
        const ids = yield* Effect.provide(app, Connection.layer)
        assert.strictEqual(new Set(ids).size, 3)
        yield* LedgerRecorder.assertEmpty({ except: ["backend"] })
      })
    )
  )
})
