/** The laws of how a statement ends: back pressure, interruption, cancel, deadline, release. */
import { assert } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as Lifetime from "../../lifetime/Lifetime.ts"
import { QueryError, ResultTooLarge } from "../../query/QueryError.ts"
import type * as QueryRegistry from "../../query/QueryRegistry.ts"
import * as InterruptSweep from "../InterruptSweep.ts"
import { eventually } from "./Eventually.ts"
import {
  type Dialect,
  law,
  principal,
  races,
  reasonOf,
  recorder,
  registryOf,
  run,
  statementOf,
  submitted,
  succeeded
} from "./QueryDriverTrial.ts"

export const laws = (dialect: Dialect) => [
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
  ),

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
      yield* Effect.repeat(Effect.yieldNow, { times: 100 })
      assert.isBelow(before, 20_000)
      assert.strictEqual(taken, before)
      yield* Fiber.interrupt(fiber)
    })
  ),

  law("rows are handed over while the statement runs", ["rowsWhileRunning"], ({ driver, running }) =>
    Effect.gen(function* () {
      const first = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(
        run(driver, dialect.trickle?.(1000, 60) ?? assert.fail("no rows while it runs"), {
          take: () => Deferred.succeed(first, undefined)
        })
      )
      yield* Deferred.await(first)
      assert.strictEqual(yield* running, 1)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(yield* running, 0)
    })
  ),

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
  ),

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
  ),

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
  ),

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

      // Nobody looks whether it runs: on a busy machine it may be over by then. It has the time to be sent.
      const brief = yield* submitted(registry, dialect.sleep(60), { deadline: "2 seconds" })
      const late = yield* registry.await(principal, brief)
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
  ),

  law("the server ends a statement by itself when its deadline is over", ["deadlines"], ({ driver, running }) =>
    Effect.gen(function* () {
      const told = yield* run(driver, dialect.sleep(60), { execution: { deadline: Duration.millis(100) } })
      assert.deepInclude(reasonOf(told), { _tag: "StatementFailed", code: dialect.late ?? "" })
      assert.strictEqual(yield* running, 0)
    })
  )
]
