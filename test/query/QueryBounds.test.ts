import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { QueriesUnavailable, QueryError, StatementFailed } from "../../src/query/QueryError.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import type * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import { act, alone, hang, open } from "../support/scripted.ts"

const alice = "alice"
const instant = act({})

/** A driver whose statements fail with texts of a length, or have so many columns. */
const long = (length: number): ScriptedQueryDriver.Script => ({
  execute: ({ sql }, sink, { onNotice }) => {
    if (sql.startsWith("columns")) {
      const columns = Array.from({ length }, (_, index) => ({ name: `column ${index}`, type: "text" }))
      return Effect.as(sink.columns(columns), { command: "SELECT", rowCount: 0 })
    }
    onNotice?.({ severity: "NOTICE", message: "n".repeat(length) })
    return Effect.fail(
      new QueryError({
        reason: new StatementFailed({
          problem: "p".repeat(length),
          detail: "d".repeat(length),
          hint: "h".repeat(length),
          code: "HF001",
          written: "unknown"
        })
      })
    )
  }
})

describe("what a record keeps", () => {
  it.effect("Q9 the texts of an error and of notices are cut, whatever the driver", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ retention: "1 minute" }, long(1_000_000))
        const { id } = yield* submit(instant, { idempotencyKey: "k" })
        const { error, notices } = yield* registry.await(alice, id)
        if (error?._tag !== "StatementFailed") return assert.fail()
        const { code, detail, hint, problem, written } = error
        assert.deepStrictEqual(
          [problem, detail, hint].map((text) => text?.length),
          [4097, 4097, 4097]
        )
        assert.deepStrictEqual([problem.at(-1), code, written], ["…", "HF001", "unknown"])
        assert.deepStrictEqual(
          notices.map(({ message }) => message.length),
          [4097]
        )
        // An idempotency key keeps even less.
        yield* TestClock.adjust("2 minutes")
        const expired = yield* submit(instant, { idempotencyKey: "k" })
        assert.deepInclude(expired, { id, state: "Expired", notices: [] })
        assert.isBelow(JSON.stringify(expired.error).length, 1000)
      })
    )
  )

  it.effect("Q6 errors, notices and columns count like statements: the oldest go", () =>
    alone(
      Effect.gen(function* () {
        const texts = yield* open({ maxKeptText: 100_000, maxKept: 1000 }, long(4000))
        for (let count = 0; count < 20; count++) {
          yield* texts.registry.await(alice, (yield* texts.submit(instant)).id)
        }
        // A quarter of it is for one principal, and each of these keeps sixteen thousand.
        assert.lengthOf((yield* texts.registry.list(alice)).queries, 1)
        const columns = yield* open({ maxKeptText: 1_200_000, maxKept: 1000 }, long(1600))
        for (let count = 0; count < 20; count++) {
          yield* columns.registry.await(alice, (yield* columns.submit({ sql: "columns", params: [] })).id)
        }
        assert.lengthOf((yield* columns.registry.list(alice)).queries, 2)
      })
    )
  )

  it.effect("a listing ends early where the texts are long, has one at least, and goes on where it ended", () =>
    alone(
      Effect.gen(function* () {
        const { registry, submit } = yield* open({ maxWaitingBytesPerPrincipal: 1e9, maxWaitingBytes: 1e9 })
        const { params, sql } = hang
        for (const length of [10, 3_000_000, 2_000_000, 5_000_000, 10]) {
          yield* submit({ sql: sql.padEnd(length), params })
        }
        const lengths: Array<ReadonlyArray<number>> = []
        for (let after: number | undefined, more = true; more;) {
          const { next, queries } = yield* registry.list(alice, { after })
          lengths.push(queries.map(({ sql }) => sql.length))
          more = next !== undefined
          after = next
        }
        assert.deepStrictEqual(lengths, [[sql.length], [5_000_000], [2_000_000], [3_000_000, sql.length]])
      })
    )
  )
})

describe("what queries that are not over may take up", () => {
  it.effect(
    "is bounded in bytes, of all and of each principal; the first is always taken in, and what ended is free",
    () =>
      alone(
        Effect.gen(function* () {
          const { registry, submit } = yield* open({ maxWaitingBytes: 40_000, maxWaitingBytesPerPrincipal: 10_000 })
          const of = (length: number) => ({ ...hang, sql: hang.sql.padEnd(length) })
          const huge = yield* submit(of(50_000))
          const theirs = yield* Effect.flip(submit(of(10)))
          assert.deepInclude(theirs.reason, { _tag: "QueryRejected", limit: "waitingBytesOfPrincipal" })
          const all = yield* Effect.flip(submit(of(10), { principal: "bob" }))
          assert.deepInclude(all.reason, { limit: "waitingBytes" })
          yield* registry.cancel(alice, huge.id)
          yield* submit(of(4000))
          assert.deepInclude((yield* Effect.flip(submit({ ...hang, params: ["x".repeat(4000)] }))).reason, {
            limit: "waitingBytesOfPrincipal"
          })
          yield* submit(of(4000), { principal: "bob" })
        })
      )
  )

  it.effect(
    "idempotency keys are bounded for all principals together, and the first to go tells when to come again",
    () =>
      alone(
        Effect.gen(function* () {
          const { registry, submit } = yield* open({ maxKeys: 3, maxKeysPerPrincipal: 2, idempotencyWindow: "1 hour" })
          const key = (principal: string, idempotencyKey: string) => submit(instant, { principal, idempotencyKey })
          const first = yield* key(alice, "a")
          yield* TestClock.adjust("10 minutes")
          yield* key("bob", "b")
          yield* key("carol", "c")
          const refused = yield* Effect.flip(key("dave", "d"))
          assert.deepInclude(refused.reason, { limit: "keys", count: 3, retryAfterSeconds: 3000 })
          assert.strictEqual((yield* key(alice, "a")).id, first.id)
          yield* TestClock.adjust("50 minutes")
          const { id } = yield* key("dave", "d")
          yield* registry.await("dave", id)
          assert.deepInclude((yield* Effect.flip(key(alice, "a"))).reason, { limit: "keys" })
        })
      )
  )
})

it.effect("Q1 the place is free when the outcome is told: who was told may submit at once", () =>
  alone(
    Effect.gen(function* () {
      const { registry, submit } = yield* open({ maxRunning: 1, maxWaiting: 0 })
      for (let count = 0; count < 10; count++) {
        const { id } = yield* submit(act({ turns: count }))
        yield* registry.await(alice, id)
      }
      const { id } = yield* submit(hang)
      yield* registry.cancel(alice, id)
      yield* submit(hang)
    })
  )
)

it.effect("Q7 closing waits for rows that are being freed already", () =>
  alone(
    Effect.gen(function* () {
      const [freeing, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const slow = Layer.effect(
        QueryResults.QueryResults,
        Effect.map(QueryResults.QueryResults, (results) =>
          QueryResults.QueryResults.of({
            ready: results.ready,
            open: (id) =>
              Effect.acquireRelease(results.open(id), () =>
                Effect.andThen(Deferred.succeed(freeing, undefined), Deferred.await(gate))
              )
          })
        )
      ).pipe(Layer.provide(QueryResults.layerMemory()))
      const { close, registry, submit } = yield* open({ retention: "500 millis" }, undefined, slow)
      yield* registry.await(alice, (yield* submit(act({ rows: 1 }))).id)
      // Before the registry prunes by itself, whose own fiber it ends anyway.
      yield* TestClock.adjust("600 millis")
      yield* Effect.forkChild(registry.prune, { startImmediately: true })
      yield* Deferred.await(freeing)
      const closing = yield* Effect.forkChild(close, { startImmediately: true })
      for (let count = 0; count < 100; count++) yield* Effect.yieldNow
      assert.isUndefined(closing.pollUnsafe())
      yield* Deferred.succeed(gate, undefined)
      yield* Fiber.join(closing)
    })
  )
)

it.effect("who is rejected is told to come again after a minute at most, and a second at least", () =>
  alone(
    Effect.gen(function* () {
      const { registry, submit } = yield* open({ maxRunning: 1, maxWaiting: 0 })
      const soon = yield* submit(hang)
      assert.deepInclude((yield* Effect.flip(submit(hang))).reason, { retryAfterSeconds: 1 })
      yield* TestClock.adjust("59 minutes")
      yield* registry.cancel(alice, soon.id)
      yield* submit(hang)
      assert.deepInclude((yield* Effect.flip(submit(hang))).reason, { retryAfterSeconds: 60 })
    })
  )
)

it.effect("an error of another kind is cut, too", () =>
  alone(
    Effect.gen(function* () {
      const problem = "x".repeat(10_000)
      const { registry, submit } = yield* open(undefined, {
        open: () => Effect.fail(new QueryError({ reason: new QueriesUnavailable({ problem }) }))
      })
      const { error } = yield* registry.await(alice, (yield* submit(instant)).id)
      assert.strictEqual(error?.message.length, 4097)
    })
  )
)
