import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import { QueryDriver, type RowSink } from "../../src/query/QueryDriver.ts"
import { QueryError, ResultsUnavailable } from "../../src/query/QueryError.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import { busyBackends, eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import { layerQueries, withQueries } from "../support/queries.ts"

const principal = "alice"

/** A store that never takes rows, and tells when some wait for it. */
const stuck = (waiting: Deferred.Deferred<void>) =>
  Layer.effect(
    QueryResults.QueryResults,
    Effect.map(QueryResults.QueryResults, (results) =>
      QueryResults.QueryResults.of({
        ready: results.ready,
        open: (id) =>
          Effect.map(results.open(id), (result) => ({
            ...result,
            sink: { ...result.sink, rows: () => Effect.andThen(Deferred.succeed(waiting, undefined), Effect.never) }
          }))
      })
    )
  ).pipe(Layer.provide(QueryResults.layerMemory()))

/** Cancels a statement whose rows wait for the store. */
const cancelHeldUp = Effect.fnUntraced(function* (sql: string) {
  const waiting = yield* Deferred.make<void>()
  const registry = yield* QueryRegistry.make().pipe(Effect.provide(stuck(waiting)))
  const { id } = yield* registry.submit({ statement: { sql, params: [] }, principal })
  yield* Deferred.await(waiting)
  return yield* registry.cancel(principal, id)
})

const run = Effect.fnUntraced(function* (sql: string) {
  const registry = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
  const { id } = yield* registry.submit({ statement: { sql, params: [] }, principal })
  assert.strictEqual((yield* registry.await(principal, id)).state, "Succeeded")
  return (yield* registry.page(principal, id, { offset: 0, limit: 1000 })).rows
})

const writeFive = "insert into written select n from generate_series(1, 5) n returning n"

describe("Q2 a cancel while rows wait for whoever takes them ends in what the server says", () => {
  it.live("committed, of which not all rows could be kept, is failed, and says that it took effect", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        yield* run("create table written (n int)")
        const record = yield* cancelHeldUp(writeFive)
        assert.deepInclude({ ...record, ...record.error }, { state: "Failed", _tag: "ResultsUnavailable" })
        assert.match(record.error?.message ?? "", /took effect/)
        assert.deepStrictEqual(yield* run("select count(*)::int from written"), [[5]])
        assert.deepStrictEqual(yield* busyBackends(name), [])
      })
    )
  )

  it.live("the record and the table agree, however much is on its way", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        yield* run("create table written (n int, x text)")
        for (const size of [10, 1000, 50_000]) {
          const record = yield* cancelHeldUp(
            `insert into written select n, repeat('x', 1000) from generate_series(1, ${size}) n returning n, x`
          )
          assert.isTrue(["Canceled", "Failed"].includes(record.state))
          const written = record.state === "Canceled" ? 0 : size
          assert.deepStrictEqual(
            yield* run("with gone as (delete from written returning 1) select count(*)::int from gone"),
            [[written]]
          )
        }
        assert.deepStrictEqual(yield* busyBackends(name), [])
      })
    )
  )

  it.live("what only returns rows is cancelled, also when the server was done with it, and says so", () =>
    withQueries(() =>
      Effect.gen(function* () {
        yield* run("create table written as select n from generate_series(1, 5) n")
        // No command tag tells what a function or a part of the statement wrote.
        const { error, state } = yield* cancelHeldUp(
          "with gone as (delete from written returning n) select n from gone"
        )
        assert.deepInclude({ ...error, state }, { state: "Canceled", _tag: "QueryCanceled", written: "committed" })
        assert.match(error?.message ?? "", /is committed/)
        assert.deepStrictEqual(yield* run("select count(*)::int from written"), [[0]])
        // Nor does every tag tell how many rows there were.
        const explained = yield* cancelHeldUp("explain (analyze, costs off) insert into written values (6)")
        assert.deepInclude({ ...explained.error, state: explained.state }, { state: "Canceled", written: "committed" })
        yield* run("create procedure write(out n int) language sql as 'insert into written values (7) returning 7'")
        const called = yield* cancelHeldUp("call write(null)")
        assert.deepInclude({ ...called, ...called.error }, { state: "Failed", _tag: "ResultsUnavailable" })
        assert.deepStrictEqual(yield* run("select n from written order by n"), [[6], [7]])
      })
    )
  )
})

describe("a failed query says what its statement wrote all the same", () => {
  it.live("when its rows could not be kept", () =>
    withQueries(() =>
      Effect.gen(function* () {
        yield* run("create table written (n int, x text)")
        const registry = yield* QueryRegistry.make().pipe(
          Effect.provide(QueryResults.layerMemory({ limitBytes: 100_000 }))
        )
        for (const size of [300, 50_000]) {
          const { id } = yield* registry.submit({
            statement: {
              sql: `insert into written select n, repeat('x', 1000) from generate_series(1, ${size}) n returning n, x`,
              params: []
            },
            principal
          })
          const { error, state } = yield* registry.await(principal, id)
          assert.strictEqual(state, "Failed")
          assert.strictEqual(error?._tag, "ResultTooLarge")
          const [[count] = []] = yield* run(
            "with gone as (delete from written returning 1) select count(*)::int from gone"
          )
          assert.deepInclude(error, count === 0 ? { limitBytes: 100_000 } : { written: "committed" })
          if (size === 300) assert.strictEqual(count, 300)
        }
      })
    )
  )

  const throughProxy = <A, E>(
    test: (
      proxy: FaultProxy.FaultProxy,
      begin: (
        more?: Partial<QueryRegistry.Submission>
      ) => Effect.Effect<readonly [QueryRegistry.QueryRegistry["Service"], QueryId.QueryId], unknown, Scope.Scope>,
      url: Redacted.Redacted<string>
    ) => Effect.Effect<A, E, QueryDriver | ConnectionPool.ConnectionPool | Scope.Scope>
  ) =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      yield* proxy.decideCancels("swallow")
      yield* Effect.gen(function* () {
        yield* run("create table written (n int)")
        const registry = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
        const begin = Effect.fnUntraced(function* (more: Partial<QueryRegistry.Submission> = {}) {
          const statement = { sql: "insert into written select 1 from pg_sleep(60)", params: [] }
          const { id } = yield* registry.submit({ statement, principal, ...more })
          // One with a deadline may be over by then.
          yield* eventually(registry.status(principal, id), ({ state }) => state === "Running" || state === "Failed")
          return [registry, id] as const
        })
        yield* test(proxy, begin, url)
      }).pipe(Effect.scoped, Effect.provide(layerQueries(proxy.through(url), { max: 2 })))
    }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

  it.live("Q2 a statement whose cancel is lost is ended in another way, within 5 s, and then the call answers", () =>
    throughProxy((_, begin, url) =>
      Effect.gen(function* () {
        const database = new URL(Redacted.value(url)).pathname.slice(1)
        const [registry, id] = yield* begin()
        const begun = performance.now()
        const canceled = yield* registry.cancel(principal, id)
        assert.isBelow(performance.now() - begun, 5000)
        assert.deepStrictEqual(yield* busyBackends(database), [])
        // The server said that it ended it: nothing was written.
        assert.deepInclude({ ...canceled.error, state: canceled.state }, { state: "Canceled", _tag: "QueryCanceled" })
        assert.isFalse("written" in (canceled.error ?? assert.fail()))
        const [, late] = yield* begin({ deadline: "500 millis" })
        const { error, state } = yield* registry.await(principal, late)
        assert.deepInclude({ ...error, state }, { state: "Failed", _tag: "QueryDeadlineExceeded" })
        assert.isFalse("written" in (error ?? assert.fail()))
        assert.deepStrictEqual(yield* busyBackends(database), [])
        assert.deepStrictEqual(yield* run("select count(*)::int from written"), [[0]])
      })
    )
  )

  it.live("when the server did not confirm the end, so that nobody knows, and the zombie stands in the account", () =>
    throughProxy((proxy, begin) =>
      Effect.gen(function* () {
        const pool = yield* ConnectionPool.ConnectionPool
        const [registry, id] = yield* begin()
        yield* proxy.decide(() => "swallow")
        const begun = performance.now()
        const canceled = yield* registry.cancel(principal, id)
        assert.isBelow(performance.now() - begun, 5000)
        assert.deepInclude(
          { ...canceled.error, state: canceled.state },
          { state: "Failed", _tag: "QueryCanceled", written: "unknown" }
        )
        assert.match(canceled.error?.message ?? "", /may be committed/)
        assert.strictEqual((yield* pool.stats).zombies, 1)
        yield* proxy.decide(() => "pass")
        yield* eventually(pool.stats, ({ zombies }) => zombies === 0)
        const [, lost] = yield* begin()
        const canceling = yield* Effect.forkChild(registry.cancel(principal, lost), { startImmediately: true })
        yield* eventually(proxy.cancels, (count) => count === 2)
        yield* proxy.cut
        const broken = yield* Fiber.join(canceling)
        assert.deepInclude({ ...broken.error, state: broken.state }, { state: "Failed", written: "unknown" })
        // The server has a time limit of its own for it, a second later.
        const [, late] = yield* begin({ deadline: "500 millis" })
        yield* proxy.decide(() => "swallow")
        const { error, state } = yield* registry.await(principal, late)
        assert.deepInclude({ ...error, state }, { state: "Failed", _tag: "QueryDeadlineExceeded" })
        assert.isFalse("written" in (error ?? assert.fail()))
        yield* proxy.decide(() => "pass")
      })
    )
  )

  it.live("and nothing of it when the server undid it, also with its own last word", () =>
    withQueries(() =>
      Effect.gen(function* () {
        yield* run("create table parent (n int primary key)")
        yield* run("create table child (n int references parent deferrable initially deferred)")
        const registry = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
        const statement = { sql: "insert into child values (1) returning n", params: [] }
        const { id } = yield* registry.submit({ statement, principal })
        const { error } = yield* registry.await(principal, id)
        assert.deepInclude({ ...error }, { _tag: "StatementFailed", code: "23503" })
        // Its rows are refused, and then it is the server that undoes it, when it was all but done.
        const small = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory({ limitBytes: 10 })))
        const refused = yield* small.submit({ statement, principal })
        const undone = yield* small.await(principal, refused.id)
        assert.deepStrictEqual([undone.state, undone.error?._tag], ["Failed", "ResultTooLarge"])
        assert.isFalse("written" in (undone.error ?? assert.fail()))
        assert.deepStrictEqual(yield* run("select count(*)::int from child"), [[0]])
        const sleeping = yield* registry.submit({ statement: { sql: "select pg_sleep(60)", params: [] }, principal })
        yield* eventually(registry.status(principal, sleeping.id), ({ state }) => state === "Running")
        const canceled = yield* registry.cancel(principal, sleeping.id)
        assert.isFalse("written" in (canceled.error ?? assert.fail()))
      })
    )
  )
})

it.live(
  "Q2, C6 a cancel request that arrives as the server commits: the record and the table agree, and the next statement is not hit",
  () =>
    withQueries(
      ({ name, url }) =>
        Effect.gen(function* () {
          const registry = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
          const ended = (sql: string) =>
            Effect.flatMap(registry.submit({ statement: { sql, params: [] }, principal }), ({ id }) =>
              registry.await(principal, id)
            )
          yield* ended("create table written (n int primary key)")
          const gate = yield* PgConnection.make({ url })
          const waits = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like 'insert into written%'`
          const succeeded: Array<number> = []
          // The server is asked five milliseconds after the interruption: the statement ends about then.
          const [first, last] = [3000, 9000]
          const rounds = 40 * scale
          for (let n = 0; n < rounds; n++) {
            yield* gate.query("select pg_advisory_lock(1)")
            const sql = `insert into written select ${n} from pg_advisory_xact_lock_shared(1)`
            const { id } = yield* registry.submit({ statement: { sql, params: [] }, principal })
            yield* eventually(gate.query(waits), ({ rows }) => rows.length > 0)
            const until = performance.now() + (first + ((last - first) * n) / rounds) / 1000
            const canceling = yield* Effect.forkChild(registry.cancel(principal, id), { startImmediately: true })
            yield* Effect.repeat(Effect.yieldNow, { until: () => performance.now() >= until })
            yield* gate.query("select pg_advisory_unlock(1)")
            const { state } = yield* Fiber.join(canceling)
            assert.include(["Succeeded", "Canceled"], state)
            if (state === "Succeeded") succeeded.push(n)
            assert.strictEqual((yield* ended(`select ${n}`)).state, "Succeeded")
          }
          assert.deepStrictEqual(yield* run("select array_agg(n order by n) from written"), [[succeeded]])
          assert.isAbove(succeeded.length, 0)
          assert.isBelow(succeeded.length, rounds)
          assert.deepStrictEqual(yield* busyBackends(name), [])
        }),
      { max: 1 }
    )
)

it.live("C6 a cancel waits for the settings that travel ahead of its statement, and hits the statement", () =>
  Effect.gen(function* () {
    const { url } = yield* freshDatabase
    const { hostname, port } = new URL(Redacted.value(url))
    const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
    // Sent at once, the cancel would overtake settings and statement: nothing would be running when it arrives.
    yield* proxy.decide(() => ({ delay: 100 }))
    yield* proxy.decideCancels("pass")
    yield* Effect.gen(function* () {
      const before = yield* run("select pg_backend_pid()")
      const registry = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
      const { id } = yield* registry.submit({ statement: { sql: "select pg_sleep(60)", params: [] }, principal })
      yield* eventually(registry.status(principal, id), ({ state }) => state === "Running")
      assert.strictEqual((yield* registry.cancel(principal, id)).state, "Canceled")
      assert.strictEqual(yield* proxy.cancels, 1)
      assert.deepStrictEqual(yield* run("select pg_backend_pid()"), before, "the connection was given up")
    }).pipe(Effect.scoped, Effect.provide(layerQueries(proxy.through(url), { max: 1 })))
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
)

const lazy = `create function lazy() returns setof int language plpgsql as $$
  begin perform pg_sleep(60); exception when query_canceled then return; end $$`

it.live("C6 a statement that takes a cancel for nothing succeeds, and its connection is given up", () =>
  withQueries(
    ({ url }) =>
      Effect.gen(function* () {
        const witness = yield* PgConnection.make({ url })
        yield* run(lazy)
        const before = yield* run("select pg_backend_pid()")
        const registry = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
        const { id } = yield* registry.submit({ statement: { sql: "select * from lazy()", params: [] }, principal })
        const asleep = "select from pg_stat_activity where wait_event = 'PgSleep' and query like '%from lazy()'"
        yield* eventually(witness.query(asleep), ({ rows }) => rows.length > 0)
        assert.deepInclude(yield* registry.cancel(principal, id), { state: "Succeeded", rowCount: 0 })
        assert.notDeepEqual(yield* run("select pg_backend_pid()"), before)
      }),
    { max: 1 }
  )
)

describe("what is told of a statement", () => {
  /** Executes on a connection of its own, with a sink of the test's. */
  const execute = Effect.fnUntraced(function* (sql: string, sink: Partial<RowSink>) {
    const driver = yield* QueryDriver
    return yield* Effect.scoped(
      Effect.flatMap(driver.open, (connection) =>
        connection.execute(
          { sql, params: [] },
          { columns: () => Effect.void, rows: () => Effect.void, ...sink },
          { id: QueryId.make(), onDone: () => {}, onGivenUp: () => {} }
        )
      )
    )
  })

  it.live("its columns once, and how many rows there were where the server does not say", () =>
    withQueries(() =>
      Effect.gen(function* () {
        let columns = 0
        let count = 0
        const sink = {
          columns: () => Effect.sync(() => void columns++),
          rows: (rows: ReadonlyArray<unknown>) => Effect.sync(() => void (count += rows.length))
        }
        const summary = yield* execute("explain select 1 union select 2", sink)
        assert.isAbove(count, 1)
        assert.deepStrictEqual([columns, summary], [1, { command: "EXPLAIN", rowCount: count }])
        yield* execute("select generate_series(1, 20000)", sink)
        assert.strictEqual(columns, 2)
      })
    )
  )

  it.live(
    "nothing of one that was interrupted and left a transaction open, and of refused rows what became of them",
    () =>
      withQueries(
        () =>
          Effect.gen(function* () {
            const outcomes: Array<unknown> = []
            yield* Effect.scoped(
              Effect.gen(function* () {
                const connection = yield* (yield* QueryDriver).open
                const sink = { columns: () => Effect.void, rows: () => Effect.void }
                const execution = {
                  id: QueryId.make(),
                  onDone: (it: unknown) => void outcomes.push(it),
                  onGivenUp: () => {}
                }
                const begun = connection.execute({ sql: "begin", params: [] }, sink, execution)
                // The server is done with it before it would be asked to cancel.
                yield* Fiber.interrupt(yield* Effect.forkChild(begun, { startImmediately: true }))
              })
            )
            assert.deepStrictEqual(outcomes, [])
            const full = new QueryError({ reason: new ResultsUnavailable({ problem: "full" }) })
            const refused = execute("create table made as select 1 as a", {}).pipe(
              Effect.andThen(execute("insert into made values (2) returning a", { rows: () => Effect.fail(full) }))
            )
            const { reason } = yield* Effect.flip(refused)
            assert.deepInclude(reason, { _tag: "ResultsUnavailable", written: "committed" })
          }),
        { max: 1 }
      )
  )
})
