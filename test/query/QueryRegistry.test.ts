import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Query from "../../src/query/Query.ts"
import { QueryDriver, type Row } from "../../src/query/QueryDriver.ts"
import { QueriesUnavailable, QueryError, ResultsUnavailable, StatementFailed } from "../../src/query/QueryError.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { steps, sweep } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import { act, alone, hang, open } from "../support/scripted.ts"

const statement = { sql: "select 1", params: [] }

/** A driver without a server. */
const driver = (execute: QueryDriver["Service"]["open"]) =>
  Layer.succeed(QueryDriver, QueryDriver.of({ open: execute }))

const answering = (rows: ReadonlyArray<Row>) =>
  driver(
    Effect.succeed({
      id: "1",
      execute: (_, sink) =>
        sink
          .columns([{ name: "a", type: "text" }])
          .pipe(Effect.andThen(sink.rows(rows)), Effect.as({ command: "SELECT", rowCount: rows.length }))
    })
  )

const make = (scope: Scope.Scope, results = QueryResults.layerMemory()) =>
  QueryRegistry.make({ drain: "1 millis" }).pipe(Scope.provide(scope), Effect.provide(results))

describe("QueryRegistry", () => {
  it.effect("a connection that is taken away by nobody's order fails the query, and leaves it no secret", () =>
    Effect.gen(function* () {
      const registry = yield* make(yield* Effect.scope)
      const { id } = yield* registry.submit({ statement, principal: "alice" })
      const { error, state } = yield* registry.await("alice", id)
      assert.deepStrictEqual([state, error?._tag], ["Failed", "QueriesUnavailable"])
    }).pipe(Effect.scoped, Effect.provide(driver(Effect.interrupt)))
  )

  it.live("Q7 closing while queries are submitted leaves nothing, whatever comes first", () =>
    Effect.forEach(
      steps.filter((step) => step < 24),
      (step) =>
        Effect.forEach(
          [0, 1, 2, 3, 5, 8, 13, 21],
          (delay) =>
            Effect.gen(function* () {
              const scope = yield* Scope.make()
              const registry = yield* make(scope)
              const submitting = yield* Effect.forkChild(
                Effect.provideService(
                  Effect.exit(registry.submit({ statement, principal: "alice" })),
                  Scheduler.MaxOpsBeforeYield,
                  step
                )
              )
              for (let yields = 0; yields < delay; yields++) yield* Effect.yieldNow
              yield* Scope.close(scope, Exit.void)
              yield* Fiber.join(submitting)
              assert.deepStrictEqual((yield* registry.list("alice")).queries, [], `step ${step}, delay ${delay}`)
              yield* LedgerRecorder.assertEmpty()
            }).pipe(Effect.provide(answering([["x"]])), Effect.provide(Layer.fresh(Ledger.layer))),
          { discard: true }
        ),
      { discard: true }
    )
  )

  it.effect("rows have a limit for each query and one for all, and those of a query that failed take no room", () => {
    let attempts = 0
    const failingFirst = driver(
      Effect.succeed({
        id: "1",
        execute: (_, sink) =>
          Effect.andThen(
            sink.rows([["x".repeat(400)]]),
            Effect.suspend(() =>
              ++attempts === 1
                ? Effect.fail(new QueryError({ reason: new StatementFailed({ problem: "broken" }) }))
                : Effect.succeed({ command: "SELECT", rowCount: 1 })
            )
          )
      })
    )
    return Effect.gen(function* () {
      const results = QueryResults.layerMemory({ limitBytes: 1000, principalBytes: 1500, totalBytes: 1500 })
      const registry = yield* make(yield* Effect.scope, results)
      const outcome = Effect.gen(function* () {
        const { id } = yield* registry.submit({ statement, principal: "alice" })
        const { error, state } = yield* registry.await("alice", id)
        return error?._tag ?? state
      })
      assert.deepStrictEqual(
        [yield* outcome, yield* outcome, yield* outcome],
        ["StatementFailed", "Succeeded", "ResultsFull"]
      )
    }).pipe(Effect.scoped, Effect.provide(failingFirst))
  })
})

const alice = "alice"
const instant = act({})

describe("Q3 the same idempotency key starts one query", () => {
  it.live("of twenty submits at once", () =>
    sweep(
      alone(
        Effect.gen(function* () {
          const { log, registry, submit } = yield* open()
          const records = yield* Effect.all(
            Array.from({ length: 20 }, () => submit(act({ rows: 1 }), { idempotencyKey: "k" })),
            { concurrency: "unbounded" }
          )
          const [id] = new Set(records.map(({ id }) => id))
          assert.strictEqual(new Set(records.map(({ id }) => id)).size, 1)
          assert.strictEqual((yield* registry.await(alice, records[0]?.id ?? assert.fail())).state, "Succeeded")
          assert.deepStrictEqual(Array.from(log.sent.values()), [1])
          assert.strictEqual((yield* submit(act({ rows: 1 }), { idempotencyKey: "k" })).id, id)
        })
      )
    )
  )

  it.effect("after its retention it is known as expired, after the window the key is new", () =>
    alone(
      Effect.gen(function* () {
        const { log, registry, submit } = yield* open({ retention: "1 minute", idempotencyWindow: "1 hour" })
        const first = yield* submit(instant, { idempotencyKey: "k" })
        yield* registry.await(alice, first.id)
        yield* TestClock.adjust("59 minutes")
        assert.deepStrictEqual((yield* registry.list(alice)).queries, [])
        const known = yield* submit(instant, { idempotencyKey: "k" })
        assert.deepInclude(known, { id: first.id, state: "Expired", sql: instant.sql })
        yield* TestClock.adjust("1 minute")
        const second = yield* submit(instant, { idempotencyKey: "k" })
        assert.notStrictEqual(second.id, first.id)
        yield* registry.await(alice, second.id)
        assert.strictEqual(log.sent.get(instant.sql), 2)
      })
    )
  )

  it.effect("a rejected submission uses up no key, and a principal has so many", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ maxRunning: 1, maxWaiting: 0, maxKeysPerPrincipal: 1 })
        const { id } = yield* submit(hang)
        const rejected = yield* Effect.flip(submit(instant, { idempotencyKey: "k" }))
        assert.strictEqual(rejected.reason._tag, "QueryRejected")
        yield* registry.cancel(alice, id)
        const { id: other } = yield* submit(act({ rows: 1 }), { idempotencyKey: "k" })
        yield* registry.await(alice, other)
        yield* TestClock.adjust("23 hours")
        const { reason } = yield* Effect.flip(submit(instant, { idempotencyKey: "l" }))
        assert.deepInclude(reason, {
          _tag: "QueryRejected",
          limit: "keysOfPrincipal",
          count: 1,
          retryAfterSeconds: 3600
        })
        yield* submit(instant, { idempotencyKey: "l", principal: "bob" })
        yield* TestClock.adjust("1 hour")
        yield* submit(instant, { idempotencyKey: "l" })
      })
    )
  )
})

describe("Q2 cancel at any moment ends in one terminal state, with no statement left running", () => {
  it.live("also when it races the completion: it is whichever the server says", () =>
    sweep(
      Effect.forEach(
        Array.from({ length: 24 }, (_, delay) => delay),
        (delay) =>
          alone(
            Effect.gen(function* () {
              const said: Array<string> = []
              const { close, log, registry, submit } = yield* open(undefined, {
                execute: (_, sink, execution) => {
                  const onDone = (outcome: Query.Outcome) => {
                    said.push("done")
                    execution.onDone(outcome)
                  }
                  const isDoneOnCancel = delay % 2 === 0
                  return ScriptedQueryDriver.answer({ rows: [["x"]], turns: 3, cancelTurns: 2, isDoneOnCancel }, sink, {
                    ...execution,
                    onDone
                  })
                },
                close: () => Effect.yieldNow
              })
              const { id } = yield* submit(instant)
              yield* Effect.repeat(Effect.yieldNow, { times: delay })
              const record = yield* registry.cancel(alice, id)
              assert.strictEqual(record.state, said.length > 0 ? "Succeeded" : "Canceled", `delay ${delay}`)
              if (said.length > 0) {
                assert.deepStrictEqual((yield* registry.page(alice, id, { offset: 0, limit: 9 })).rows, [["x"]])
              }
              assert.strictEqual(log.busy.size, 0)
              assert.isTrue([...log.closed.values()].every((times) => times === 1))
              assert.strictEqual(log.closed.size, log.opened())
              yield* LedgerRecorder.assertEmpty()
              yield* close
            })
          ),
        { discard: true }
      ),
      { steps: steps.filter((step) => step % 4 === 0 || step < 16) }
    )
  )

  it.effect("a deadline fails the query, also one that waits, unless the server was done all the same", () =>
    alone(
      Effect.gen(function* () {
        const { log, registry, submit } = yield* open({ maxRunning: 2 })
        const late = yield* submit(hang, { deadline: "1 second" })
        const done = yield* submit(act({ hangs: true, isDoneOnCancel: true, rows: 2 }), { deadline: "2 seconds" })
        const waiting = yield* submit(instant, { deadline: 500 })
        const third = yield* submit(hang, { deadline: "1 hour" })
        yield* TestClock.adjust("500 millis")
        assert.deepInclude(yield* registry.await(alice, waiting.id), { state: "Failed" })
        yield* TestClock.adjust("1500 millis")
        const { error, state } = yield* registry.await(alice, late.id)
        assert.deepInclude({ state, ...error }, { state: "Failed", _tag: "QueryDeadlineExceeded", afterMillis: 1000 })
        assert.deepInclude(yield* registry.await(alice, done.id), { state: "Succeeded", rowCount: 2 })
        yield* registry.cancel(alice, third.id)
        assert.isUndefined(log.sent.get(instant.sql))
        yield* LedgerRecorder.assertEmpty()
      })
    )
  )

  it.effect("a deadline that passes while a query is being cancelled changes nothing", () =>
    alone(
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const { registry, submit } = yield* open(undefined, {
          execute: () => Effect.onInterrupt(Effect.never, () => Deferred.await(gate))
        })
        const { id } = yield* submit(instant, { deadline: "1 second" })
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        const canceling = yield* Effect.forkChild(registry.cancel(alice, id), { startImmediately: true })
        yield* TestClock.adjust("2 seconds")
        yield* Deferred.succeed(gate, undefined)
        const { error, state } = yield* Fiber.join(canceling)
        assert.deepStrictEqual([state, error?._tag], ["Canceled", "QueryCanceled"])
      })
    )
  )
})

it.live("Q5 a launch that fails or is cancelled at any point releases what it had acquired", () =>
  sweep(
    Effect.forEach(
      Array.from({ length: 12 }, (_, delay) => delay),
      (delay) =>
        alone(
          Effect.gen(function* () {
            const broken = new QueryError({ reason: new QueriesUnavailable({ problem: "no connection" }) })
            const { log, registry, submit } = yield* open(undefined, {
              open: (number) => Effect.andThen(Effect.yieldNow, number === 1 ? Effect.fail(broken) : Effect.void)
            })
            const failed = yield* submit(instant)
            const canceled = yield* submit(hang)
            yield* Effect.repeat(Effect.yieldNow, { times: delay })
            yield* registry.cancel(alice, canceled.id)
            const record = yield* registry.await(alice, failed.id)
            assert.deepStrictEqual([record.state, record.error?._tag], ["Failed", "QueriesUnavailable"])
            assert.strictEqual(log.closed.size, log.opened())
            yield* LedgerRecorder.assertEmpty()
          })
        ),
      { discard: true }
    ),
    { steps: steps.filter((step) => step < 24) }
  )
)

it.effect("Q6 rows that nobody reads hold the statement up", () =>
  alone(
    Effect.gen(function* () {
      let rows = 0
      const { driver } = ScriptedQueryDriver.make({
        execute: (_, sink) =>
          Effect.andThen(
            sink.columns([]),
            Effect.forever(
              Effect.suspend(() => {
                rows += 100
                return sink.rows(Array.from({ length: 100 }, () => [1]))
              })
            )
          )
      })
      yield* Effect.gen(function* () {
        const query = yield* Query.Query
        yield* Stream.runDrain(Stream.take(query.rows, 1))
        yield* Effect.repeat(Effect.yieldNow, { times: 100 })
        assert.isAtMost(rows, 1024 + 200)
      }).pipe(Effect.provide(Query.layer("select")), Effect.provide(ScriptedQueryDriver.layer(driver)))
    })
  )
)

describe("Q7 closing", () => {
  it.effect("leaves nobody asleep: no deadline, no pruning", () =>
    alone(
      Effect.gen(function* () {
        let asleep = 0
        const clock = yield* Clock.Clock
        const counting: Clock.Clock = {
          currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
          currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
          monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
          currentTimeMillis: clock.currentTimeMillis,
          currentTimeNanos: clock.currentTimeNanos,
          monotonicTimeNanos: clock.monotonicTimeNanos,
          sleep: (duration) =>
            Effect.acquireUseRelease(
              Effect.sync(() => asleep++),
              () => clock.sleep(duration),
              () => Effect.sync(() => asleep--)
            )
        }
        yield* Effect.gen(function* () {
          const { close, submit } = yield* open({ maxRunning: 1 })
          for (const deadline of ["1 hour", "2 hours"] as const) yield* submit(hang, { deadline })
          yield* Effect.repeat(
            Effect.andThen(
              Effect.yieldNow,
              Effect.sync(() => asleep)
            ),
            { until: (count) => count === 3 }
          )
          yield* close
        }).pipe(Effect.provideService(Clock.Clock, counting))
        assert.strictEqual(asleep, 0)
      })
    )
  )

  it.effect("waits for what runs, then cancels what is left", () =>
    alone(
      Effect.gen(function* () {
        const gate = yield* Deferred.make<void>()
        const { close, registry, submit } = yield* open(
          { drain: "2 seconds" },
          {
            execute: ({ sql }, sink, execution) =>
              Effect.andThen(
                sql === "quick" ? Deferred.await(gate) : Effect.never,
                ScriptedQueryDriver.answer({}, sink, execution)
              )
          }
        )
        const outcomes = yield* Effect.forEach(["quick", "slow"], (sql) =>
          Effect.flatMap(submit({ sql, params: [] }), ({ id }) => Effect.forkChild(registry.await(alice, id)))
        )
        yield* TestClock.adjust("1 second")
        const closing = yield* Effect.forkChild(close, { startImmediately: true })
        yield* Deferred.succeed(gate, undefined)
        const [quick, slow] = outcomes
        assert.strictEqual((yield* Fiber.join(quick ?? assert.fail())).state, "Succeeded")
        assert.strictEqual((yield* Effect.flip(submit(instant))).reason._tag, "QueriesUnavailable")
        yield* TestClock.adjust("1999 millis")
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(closing)
        assert.strictEqual((yield* Fiber.join(slow ?? assert.fail())).state, "Canceled")
        yield* LedgerRecorder.assertEmpty()
      })
    )
  )

  it.effect("takes five seconds at most when a driver is stuck, and the ledger says what was left behind", () =>
    alone(
      Effect.gen(function* () {
        const freed = yield* Deferred.make<void>()
        const { close, registry, submit } = yield* open(
          { drain: "2 seconds" },
          { execute: () => Effect.as(Effect.uninterruptible(Deferred.await(freed)), { command: "", rowCount: 0 }) }
        )
        const { id } = yield* submit(hang)
        const waiter = yield* Effect.forkChild(Effect.flip(registry.await(alice, id)))
        yield* TestClock.adjust("1 second")
        const closing = yield* Effect.forkChild(close, { startImmediately: true })
        yield* TestClock.adjust("4399 millis")
        assert.isUndefined(closing.pollUnsafe())
        yield* TestClock.adjust("1 millis")
        yield* Fiber.join(closing)
        const ledger = yield* Ledger.Ledger
        const left = yield* ledger.holdings
        assert.deepInclude(
          left.find(({ kind }) => kind === "query"),
          { id, state: "stalled" }
        )
        assert.strictEqual((yield* Fiber.join(waiter)).reason._tag, "QueriesUnavailable")
        yield* Deferred.succeed(freed, undefined)
        yield* Effect.repeat(ledger.holdings, { until: (holdings) => holdings.length === 0 })
        yield* LedgerRecorder.assertEmpty()
      })
    )
  )

  it.effect(
    "takes five seconds at most when the result store is stuck, also one that is being pruned, and the ledger says so",
    () =>
      alone(
        Effect.gen(function* () {
          const freed = yield* Deferred.make<void>()
          const stuck = Layer.effect(
            QueryResults.QueryResults,
            Effect.map(QueryResults.QueryResults, (results) =>
              QueryResults.QueryResults.of({
                ready: results.ready,
                open: (id) => Effect.acquireRelease(results.open(id), () => Deferred.await(freed))
              })
            )
          ).pipe(Layer.provide(QueryResults.layerMemory()))
          const { close, registry, submit } = yield* open(
            { drain: "2 seconds", retention: "10 seconds" },
            undefined,
            stuck
          )
          const ids: Array<string> = []
          for (const statement of [instant, instant, act({ fails: true }), hang]) {
            const { id } = yield* submit(statement)
            ids.push(id)
            if (ids.length <= 2) yield* registry.await(alice, id)
            if (ids.length === 1) yield* TestClock.adjust("9500 millis")
          }
          // The first is being pruned, and is given up three seconds later.
          yield* TestClock.adjust("1500 millis")
          const closing = yield* Effect.forkChild(close, { startImmediately: true })
          yield* TestClock.adjust("4999 millis")
          assert.isUndefined(closing.pollUnsafe())
          yield* TestClock.adjust("1 millis")
          yield* Fiber.join(closing)
          // The limit of the one that was cancelled passes in the same moment.
          yield* TestClock.adjust("1 millis")
          const ledger = yield* Ledger.Ledger
          const left = (yield* ledger.holdings).filter(({ kind }) => kind === "result")
          assert.deepStrictEqual(
            left.map(({ id, state }) => [id, state]).toSorted(),
            ids.map((id) => [id, "stalled"]).toSorted()
          )
          yield* Deferred.succeed(freed, undefined)
          yield* Effect.repeat(ledger.holdings, { until: (holdings) => holdings.length === 0 })
          yield* LedgerRecorder.assertEmpty()
        })
      )
  )
})

it.effect("a retention or a deadline beyond any date is as long as there are dates", () =>
  alone(
    Effect.gen(function* () {
      const { registry, submit } = yield* open()
      for (const retention of [Duration.infinity, "200000000 days", "100000001 days"] as const) {
        const { id } = yield* submit(instant, { retention, deadline: retention })
        const { expiresAt } = yield* registry.await(alice, id)
        assert.strictEqual(expiresAt?.epochMilliseconds, 8.64e15)
      }
      yield* TestClock.adjust("1 hour")
      assert.lengthOf((yield* registry.list(alice)).queries, 3)
    })
  )
)

describe("what is known about a query", () => {
  it.effect("has the time of every state", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ maxRunning: 1, retention: "1 minute" })
        const first = yield* submit(hang)
        const { id } = yield* submit(act({ rows: 3 }), { retention: "2 minutes", session: "s" })
        yield* TestClock.adjust("3 seconds")
        yield* registry.cancel(alice, first.id)
        const record = yield* registry.await(alice, id)
        assert.deepStrictEqual(
          record.transitions.map(({ at, state }) => [state, at.epochMilliseconds]),
          [
            ["Queued", 0],
            ["Starting", 3000],
            ["Running", 3000],
            ["Succeeded", 3000]
          ]
        )
        assert.deepInclude(record, { rowCount: 3, bytes: 120, session: "s", state: "Succeeded" })
        assert.strictEqual(record.expiresAt?.epochMilliseconds, 123_000)
      })
    )
  )

  it.live(
    "its events: those so far, then each as it comes, ending with the terminal one; one can go on after any",
    () =>
      sweep(
        alone(
          Effect.gen(function* () {
            const { registry, submit } = yield* open()
            const { id } = yield* submit(act({ rows: 1, turns: 5 }))
            const states = (after?: number) =>
              Effect.map(Stream.runCollect(registry.events(alice, id, { after })), (events) =>
                events.map(
                  ({ record, seq }) => `${seq} ${record.state} ${record.transitions.length} ${record.rowCount}`
                )
              )
            const all = ["1 Queued 1 null", "2 Starting 2 null", "3 Running 3 null", "4 Succeeded 4 1"]
            const readers = yield* Effect.all([states(), states(2), states(4), states(99)], {
              concurrency: "unbounded"
            })
            assert.deepStrictEqual(readers, [all, all.slice(2), [], []])
            assert.deepStrictEqual(yield* states(1), all.slice(1))
          })
        ),
        { steps: steps.filter((step) => step < 24) }
      )
  )

  it.effect("its rows, as a stream too, until its retention is over, also in the middle of reading", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ retention: "1 minute" })
        const { id } = yield* submit(act({ rows: 2500 }))
        yield* registry.await(alice, id)
        const rows = yield* Stream.runCollect(registry.rows(alice, id))
        assert.deepStrictEqual(
          rows.map(([n]) => n),
          Array.from({ length: 2500 }, (_, n) => n)
        )
        let read = 0
        const cut = yield* Effect.flip(
          registry.rows(alice, id).pipe(
            Stream.tap(() => (++read === 1000 ? TestClock.adjust("2 minutes") : Effect.void)),
            Stream.runDrain
          )
        )
        assert.deepStrictEqual([read, cut.reason._tag], [1000, "QueryNotFound"])
        const running = yield* submit(hang)
        assert.strictEqual(
          (yield* Effect.flip(Stream.runDrain(registry.rows(alice, running.id)))).reason._tag,
          "QueryNotSucceeded"
        )
      })
    )
  )

  it.effect("a page that is being read when the rows are freed is no end of the rows, and no fault of the store", () =>
    Effect.forEach(
      [Effect.void, Effect.fail(new QueryError({ reason: new ResultsUnavailable({ problem: "no such file" }) }))],
      (fault) =>
        Effect.gen(function* () {
          const [reading, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
          const slow = Layer.effect(
            QueryResults.QueryResults,
            Effect.map(QueryResults.QueryResults, (results) =>
              QueryResults.QueryResults.of({
                ready: results.ready,
                open: (id) =>
                  Effect.map(results.open(id), (result) => ({
                    ...result,
                    page: (offset, limit) =>
                      Deferred.succeed(reading, undefined).pipe(
                        Effect.andThen(Deferred.await(gate)),
                        Effect.andThen(fault),
                        Effect.andThen(result.page(offset, limit))
                      )
                  }))
              })
            )
          ).pipe(Layer.provide(QueryResults.layerMemory()))
          const registry = yield* make(yield* Effect.scope, slow)
          const { id } = yield* registry.submit({ statement, principal: alice })
          yield* registry.await(alice, id)
          const page = yield* Effect.forkChild(Effect.flip(registry.page(alice, id, { offset: 0, limit: 1 })))
          yield* Deferred.await(reading)
          yield* TestClock.adjust("1 hour")
          yield* Deferred.succeed(gate, undefined)
          assert.strictEqual((yield* Fiber.join(page)).reason._tag, "QueryNotFound")
        }).pipe(Effect.scoped, Effect.provide(answering([["x"]])))
    )
  )

  it.effect("its principal's list: the newest first, by state, page by page, also while some are pruned", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ retention: "1 minute", maxRunning: 100 })
        const ids: Array<string> = []
        for (let index = 0; index < 7; index++) {
          const { id } = yield* submit(index % 2 === 0 ? instant : hang)
          ids.unshift(id)
          if (index % 2 === 0) yield* registry.await(alice, id)
          yield* submit(instant, { principal: "bob" })
        }
        const idsOf = ({ queries }: QueryRegistry.Listing) => queries.map(({ id }) => id)
        assert.deepStrictEqual(idsOf(yield* registry.list(alice)), ids)
        const first = yield* registry.list(alice, { limit: 3 })
        assert.deepStrictEqual(idsOf(first), ids.slice(0, 3))
        const succeeded = yield* registry.list(alice, { state: "Succeeded", limit: 4 })
        assert.deepStrictEqual([succeeded.queries.length, succeeded.next], [4, undefined])
        yield* TestClock.adjust("2 minutes")
        const rest = yield* registry.list(alice, { limit: 3, after: first.next })
        assert.deepStrictEqual(
          idsOf(rest),
          ids.slice(3).filter((_, index) => index % 2 === 0)
        )
        assert.isUndefined(rest.next)
      })
    )
  )
})

describe("a place in the list of a principal", () => {
  /** The cursors of three queries, before and between which others submit so many. */
  const cursors = (others: number) =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ maxRunning: 100 })
        const between = Effect.forEach(Array.from({ length: others }), () => submit(instant, { principal: "bob" }))
        for (let count = 0; count < 3; count++) {
          yield* between
          yield* submit(instant)
          yield* TestClock.adjust("1 millis")
        }
        const { next } = yield* registry.list(alice, { limit: 1 })
        return [next, (yield* registry.list(alice, { limit: 1, after: next })).next]
      })
    )

  it.effect("tells nothing about the queries of others", () =>
    Effect.gen(function* () {
      const alone = yield* cursors(0)
      assert.deepStrictEqual(
        alone.map((next) => typeof next),
        ["number", "number"]
      )
      assert.deepStrictEqual(yield* cursors(7), alone)
    })
  )

  it.effect("has nothing behind it when all before it are gone, though newer ones are there", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ retention: "1 minute", maxRunning: 100 })
        for (let count = 0; count < 3; count++) yield* submit(instant)
        const { next } = yield* registry.list(alice, { limit: 2 })
        yield* TestClock.adjust("2 minutes")
        yield* submit(hang)
        const newer = yield* registry.list(alice)
        assert.lengthOf(newer.queries, 1)
        assert.deepStrictEqual((yield* registry.list(alice, { after: next })).queries, [])
      })
    )
  )
})

describe("admission", () => {
  it.effect("runs and lets wait so many of one principal, and says when to come again", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({
          maxRunning: 3,
          maxRunningPerPrincipal: 2,
          maxWaiting: 3,
          maxWaitingPerPrincipal: 2
        })
        const first = yield* submit(hang)
        yield* TestClock.adjust("60 seconds")
        yield* registry.cancel(alice, first.id)
        for (let index = 0; index < 4; index++) yield* submit(hang)
        const theirs = yield* Effect.flip(submit(hang))
        // The mean is a second to begin with, and an observation counts a fifth: 12.8 s for each of two permits.
        assert.deepInclude(theirs.reason, { limit: "waitingOfPrincipal", count: 2, retryAfterSeconds: 7 })
        yield* submit(hang, { principal: "bob" })
        yield* submit(hang, { principal: "bob" })
        const all = yield* Effect.flip(submit(hang, { principal: "carol" }))
        assert.deepInclude(all.reason, { limit: "waiting", count: 3, retryAfterSeconds: 5 })
        yield* Effect.repeat(Effect.yieldNow, { times: 20 })
        const running = [...(yield* registry.list(alice)).queries, ...(yield* registry.list("bob")).queries].filter(
          ({ state }) => state === "Running"
        )
        assert.deepStrictEqual(
          running.map(({ principal }) => principal),
          [alice, alice, "bob"]
        )
      })
    )
  )
})
