/**
 * The laws of a `QueryRegistry` that it keeps over any journal: its own memory, or one that instances share. Each law is one test and
 * has a registry and principals of its own; those of one file share what is below.
 */
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { randomUUID } from "node:crypto"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import type * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import type { QueryError } from "../../src/query/QueryError.ts"
import type * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryState from "../../src/query/QueryState.ts"
import { eventually } from "../support/conditions.ts"
import { act, alone, hang, type open } from "../support/scripted.ts"

type Opened = Effect.Success<ReturnType<typeof open>>

/** Where a law is tried. */
export class World extends Context.Service<
  World,
  {
    /** A registry over a scripted driver, to be closed by hand or with the current scope. */
    readonly open: (
      options?: QueryRegistry.Options,
      script?: ScriptedQueryDriver.Script
    ) => Effect.Effect<Opened, unknown, Scope.Scope>
  }
>()("test/query/queryRegistryLaws/World") {}

const instant = act({})

/** What a law stands on: a registry, and principals that nobody else has used. */
const world = Effect.fnUntraced(function* (options?: QueryRegistry.Options, script?: ScriptedQueryDriver.Script) {
  const opened = yield* (yield* World).open(options, script)
  const [alice, bob] = [`alice ${randomUUID()}`, `bob ${randomUUID()}`]
  const submit: Opened["submit"] = (statement, more) => opened.submit(statement, { principal: alice, ...more })
  return { ...opened, alice, bob, submit }
})

type Law = Effect.Effect<void, unknown, World | Scope.Scope>

const laws: Readonly<Record<string, Law>> = {
  "Q2 a cancel, and cancels at once, end in the one terminal state that the server says": Effect.gen(function* () {
    const { alice, log, registry, submit } = yield* world()
    const queries = [hang, act({ hangs: true, isDoneOnCancel: true, rows: 1 })]
    for (const [index, expected] of (["Canceled", "Succeeded"] as const).entries()) {
      const { id } = yield* submit(queries[index] ?? assert.fail())
      // Running is told before the server has the statement.
      yield* eventually(
        Effect.sync(() => log.busy.size),
        (busy) => busy === 1
      )
      const cancel = registry.cancel(alice, id)
      const records = yield* Effect.all([cancel, cancel, registry.await(alice, id)], { concurrency: "unbounded" })
      for (const { state } of records) assert.strictEqual(state, expected)
      assert.deepStrictEqual(yield* registry.cancel(alice, id), records[0])
    }
    assert.strictEqual(log.busy.size, 0)
    assert.strictEqual(log.closed.size, log.opened())
  }),

  "Q3 the same key starts one query, and with anything else it is a conflict": Effect.gen(function* () {
    const { alice, bob, log, registry, submit } = yield* world()
    const statement = { sql: "{}", params: [1] }
    const again = { idempotencyKey: "k", deadline: 60_000 }
    const all = yield* Effect.all(
      Array.from({ length: 20 }, () => submit(statement, again)),
      { concurrency: "unbounded" }
    )
    const [first = assert.fail()] = all
    assert.strictEqual(new Set(all.map(({ id }) => id)).size, 1)
    yield* registry.await(alice, first.id)
    assert.strictEqual(log.sent.get("{}"), 1)
    for (const other of [
      submit({ ...statement, sql: "{ }" }, again),
      submit({ ...statement, params: [2] }, again),
      submit({ ...statement, settings: { a: "b" } }, again),
      submit(statement, { ...again, deadline: "2 minutes" })
    ]) {
      const { reason } = yield* Effect.flip(other)
      assert.deepInclude(reason, { _tag: "IdempotencyConflict", id: first.id })
    }
    assert.notStrictEqual((yield* submit(statement, { ...again, principal: bob })).id, first.id)
    assert.notStrictEqual((yield* submit(statement, { ...again, idempotencyKey: "l" })).id, first.id)
  }),

  "Q3 a rejected submission uses up no key": Effect.gen(function* () {
    const { alice, registry, submit } = yield* world({ maxRunning: 1, maxWaiting: 0, maxKeysPerPrincipal: 1 })
    const { id } = yield* submit(hang)
    const rejected = yield* Effect.flip(submit(instant, { idempotencyKey: "k" }))
    assert.strictEqual(rejected.reason._tag, "QueryRejected")
    yield* registry.cancel(alice, id)
    yield* registry.await(alice, (yield* submit(instant, { idempotencyKey: "k" })).id)
    const { reason } = yield* Effect.flip(submit(instant, { idempotencyKey: "l" }))
    assert.deepInclude(reason, { _tag: "QueryRejected", limit: "keysOfPrincipal" })
  }),

  "Q4 a principal sees, reads and cancels only its own queries": Effect.gen(function* () {
    const { alice, bob, registry, submit } = yield* world()
    const { id } = yield* submit(hang)
    const calls: ReadonlyArray<Effect.Effect<unknown, QueryError>> = [
      registry.status(bob, id),
      registry.await(bob, id),
      registry.cancel(bob, id),
      registry.page(bob, id, { offset: 0, limit: 1 }),
      Stream.runDrain(registry.rows(bob, id)),
      Stream.runDrain(registry.events(bob, id))
    ]
    for (const call of calls) assert.strictEqual((yield* Effect.flip(call)).reason._tag, "QueryNotFound")
    assert.deepStrictEqual((yield* registry.list(bob)).queries, [])
    assert.deepStrictEqual(yield* registry.cancelAll({ principal: bob }), [])
    assert.isFalse(QueryState.isTerminal((yield* registry.status(alice, id)).state))
  }),

  "S9 cancelAll ends a session's or a principal's queries, and no others": Effect.gen(function* () {
    const { alice, bob, registry, submit } = yield* world({ maxRunning: 2 })
    const [s, t] = [randomUUID(), randomUUID()]
    yield* registry.await(alice, (yield* submit(instant, { session: s })).id)
    const a = yield* submit(hang, { session: s })
    const b = yield* submit(hang, { session: t })
    const c = yield* submit(hang, { session: s })
    const d = yield* submit(hang, { principal: bob, session: t })
    const ended = yield* registry.cancelAll({ session: s })
    assert.sameDeepMembers(
      ended.map(({ id, state }) => [id, state]),
      [
        [a.id, "Canceled"],
        [c.id, "Canceled"]
      ]
    )
    assert.deepStrictEqual(
      (yield* registry.cancelAll({ principal: alice })).map(({ id }) => id),
      [b.id]
    )
    assert.isFalse(QueryState.isTerminal((yield* registry.status(bob, d.id)).state))
  }),

  "a deadline fails the query, also one that waits, unless the server was done all the same": Effect.gen(function* () {
    const { alice, log, registry, submit } = yield* world({ maxRunning: 2 })
    const late = yield* submit(hang, { deadline: 40 })
    const done = yield* submit(act({ hangs: true, isDoneOnCancel: true, rows: 2 }), { deadline: 60 })
    const waiting = yield* submit(instant, { deadline: 20 })
    assert.deepInclude((yield* registry.await(alice, waiting.id)).error, { _tag: "QueryDeadlineExceeded" })
    const { error, state } = yield* registry.await(alice, late.id)
    assert.deepInclude({ state, ...error }, { state: "Failed", _tag: "QueryDeadlineExceeded", afterMillis: 40 })
    assert.deepInclude(yield* registry.await(alice, done.id), { state: "Succeeded", rowCount: 2 })
    assert.isUndefined(log.sent.get(instant.sql))
  }),

  "a slow reader of events loses none and holds nobody up, and one can go on after any": Effect.gen(function* () {
    const { alice, registry, submit } = yield* world()
    const { id } = yield* submit(hang)
    const gate = yield* Deferred.make<void>()
    const slow = yield* Effect.forkChild(
      registry.events(alice, id).pipe(
        Stream.tap(() => Deferred.await(gate)),
        Stream.runCollect
      ),
      { startImmediately: true }
    )
    const { transitions } = yield* registry.cancel(alice, id)
    yield* Deferred.succeed(gate, undefined)
    const all = transitions.map(({ state }, at) => [at + 1, state])
    const told = (yield* Fiber.join(slow)).map(({ record, seq }) => [seq, record.state])
    assert.deepStrictEqual(told, all)
    const rest = yield* Stream.runCollect(registry.events(alice, id, { after: 2 }))
    assert.deepStrictEqual(
      rest.map(({ record, seq }) => [seq, record.state]),
      all.slice(2)
    )
    assert.deepStrictEqual(yield* Stream.runCollect(registry.events(alice, id, { after: 99 })), [])
  }),

  "rows are read as pages and as a stream, and only of a query that succeeded": Effect.gen(function* () {
    const { alice, registry, submit } = yield* world()
    const { id } = yield* submit(act({ rows: 2500 }))
    assert.deepInclude(yield* registry.await(alice, id), { state: "Succeeded", rowCount: 2500 })
    const rows = yield* Stream.runCollect(registry.rows(alice, id))
    assert.deepStrictEqual(
      rows.map(([n]) => n),
      Array.from({ length: 2500 }, (_, n) => n)
    )
    const { next, rows: page } = yield* registry.page(alice, id, { offset: 1200, limit: 2 })
    assert.deepStrictEqual([page, next], [[[1200], [1201]], 1202])
    assert.isUndefined((yield* registry.page(alice, id, { offset: 2499, limit: 2 })).next)
    const failed = yield* submit(act({ fails: true }))
    assert.deepInclude((yield* registry.await(alice, failed.id)).error, { _tag: "StatementFailed" })
    const { reason } = yield* Effect.flip(Stream.runDrain(registry.rows(alice, failed.id)))
    assert.deepInclude(reason, { _tag: "QueryNotSucceeded", state: "Failed" })
  }),

  "a principal's list: the newest first, by state and page by page": Effect.gen(function* () {
    const { alice, bob, registry, submit } = yield* world({ maxRunning: 100 })
    const ids: Array<string> = []
    for (let index = 0; index < 7; index++) {
      const { id } = yield* submit(index % 2 === 0 ? instant : hang)
      ids.unshift(id)
      if (index % 2 === 0) yield* registry.await(alice, id)
      yield* submit(instant, { principal: bob })
    }
    const idsOf = ({ queries }: QueryRegistry.Listing) => queries.map(({ id }) => id)
    assert.deepStrictEqual(idsOf(yield* registry.list(alice)), ids)
    const first = yield* registry.list(alice, { limit: 3 })
    assert.deepStrictEqual(idsOf(first), ids.slice(0, 3))
    const rest = yield* registry.list(alice, { limit: 30, after: first.next })
    assert.deepStrictEqual([idsOf(rest), rest.next], [ids.slice(3), undefined])
    const succeeded = yield* registry.list(alice, { state: "Succeeded", limit: 4 })
    assert.deepStrictEqual([succeeded.queries.length, succeeded.next], [4, undefined])
  }),

  "Q7 closing refuses what comes, ends what runs and leaves nothing open": Effect.gen(function* () {
    const { close, log, registry, submit } = yield* world({ maxRunning: 2 })
    for (let count = 0; count < 4; count++) yield* submit(hang)
    yield* close
    assert.strictEqual(log.busy.size, 0)
    assert.strictEqual(log.closed.size, log.opened())
    assert.strictEqual((yield* Effect.flip(submit(instant))).reason._tag, "QueriesUnavailable")
    assert.isDefined(registry)
    yield* LedgerRecorder.assertEmpty({ except: ["query journal", "query results"] })
  })
}

/** Declares a test for each law. */
export const run = <E>(name: string, world: Layer.Layer<World, E>): void => {
  layer(world, { excludeTestServices: true, timeout: "60 seconds" })(name, (it) => {
    for (const [law, effect] of Object.entries(laws)) it.effect(law, () => alone(effect))
  })
}
