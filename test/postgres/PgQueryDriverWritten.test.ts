import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as PgAtomicity from "../../src/postgres/internal/PgAtomicity.ts"
import * as FileQueryResults from "../../src/node/FileQueryResults.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { busyBackends, eventually } from "../support/conditions.ts"
import { withQueries } from "../support/queries.ts"

const principal = "alice"

/** Submits statements to a registry of one's own. */
const registry = Effect.gen(function* () {
  const queries = yield* QueryRegistry.make()
  const submit = (sql: string) => queries.submit({ statement: { sql, params: [] }, principal })
  const run = (sql: string) => Effect.flatMap(submit(sql), ({ id }) => queries.await(principal, id))
  const rows = (sql: string) =>
    Effect.flatMap(run(sql), ({ error, id }) =>
      error === null
        ? Effect.map(queries.page(principal, id, { offset: 0, limit: 100 }), ({ rows }) => rows)
        : Effect.die(error)
    )
  return { queries, submit, run, rows }
})
const inMemory = registry.pipe(Effect.provide(QueryResults.layerMemory()))

const writtenOf = (record: { readonly error: object | null }) =>
  record.error !== null && "written" in record.error ? record.error.written : "not there"

describe("what a query that failed has written", () => {
  it.live("is not known of a block or a procedure that committed on the way, and nothing of any other statement", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { rows, run } = yield* inMemory
        yield* run("create table t (n int check (n < 100))")
        yield* run(
          "create procedure p() language plpgsql as $$ begin insert into t values (2); commit; perform 1/0; end $$"
        )
        yield* run("create table parent (n int primary key)")
        yield* run("create table child (n int references parent deferrable initially deferred)")
        const ended = (sql: string) => Effect.map(run(sql), (record) => [record.state, writtenOf(record)])
        const unknown = ["Failed", "unknown"]
        const nothing = ["Failed", "not there"]
        assert.deepStrictEqual(
          yield* ended("do $$ begin insert into t values(1); commit; perform 1/0; end $$"),
          unknown
        )
        assert.deepStrictEqual(yield* ended("/* a */ call p()"), unknown)
        assert.deepStrictEqual(yield* ended("do $$ begin call p(); end $$"), unknown)
        assert.deepStrictEqual(yield* rows("select n from t order by n"), [[1], [2], [2]])
        for (const sql of [
          "do $$ begin insert into t values(3); perform 1/0; end $$",
          "call no_such()",
          "cal p()",
          "insert into t values (4), (1000)",
          "insert into child values (1)",
          "with w as (insert into t values (5) returning n) select n / 0 from w",
          "select pg_terminate_backend(pg_backend_pid())",
          "create table t (n int)",
          "begin"
        ]) {
          assert.deepStrictEqual(yield* ended(sql), nothing, sql)
        }
        assert.deepStrictEqual(yield* rows("select count(*)::int from t"), [[3]])
        yield* run("insert into t values (1)")
        yield* run("create table twice (n int)")
        yield* run("insert into twice values (1), (1)")
        assert.deepStrictEqual(yield* ended("create unique index concurrently i on twice (n)"), unknown)
      })
    )
  )

  it.live("is not known when a procedure that commits is cancelled", () =>
    withQueries(({ name }) =>
      Effect.gen(function* () {
        const { queries, rows, run, submit } = yield* inMemory
        yield* run("create table t (n int)")
        yield* run(
          "create procedure p() language plpgsql as $$ begin insert into t values (1); commit; perform pg_sleep(60); end $$"
        )
        const { id } = yield* submit("call p()")
        yield* eventually(rows("select n from t"), ({ length }) => length === 1)
        const record = yield* queries.cancel(principal, id)
        assert.deepStrictEqual([record.state, writtenOf(record)], ["Failed", "unknown"])
        const sleeping = yield* submit("select pg_sleep(60)")
        yield* eventually(busyBackends(name), (busy) => busy.some(({ query }) => String(query).includes("pg_sleep")))
        const other = yield* queries.cancel(principal, sleeping.id)
        assert.deepStrictEqual([other.state, writtenOf(other)], ["Canceled", "not there"])
      })
    )
  )

  it.live("is told of rows that could not be kept", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { rows, run } = yield* registry.pipe(
          Effect.provide(FileQueryResults.layer({ memoryBytes: 1000, limitBytes: 100_000 }))
        )
        yield* run("create table t (n int)")
        const large = "insert into t select 1 from generate_series(1, 200) returning repeat('x', 1000)"
        const record = yield* run(large)
        const [[count] = []] = yield* rows("select count(*)::int from t")
        assert.deepStrictEqual(
          [record.error?._tag, count],
          ["ResultTooLarge", writtenOf(record) === "committed" ? 200 : 0]
        )
      })
    )
  )

  it("is undone for certain only where a statement is one transaction", () => {
    for (const sql of [
      "select 1",
      " -- c\n /* a /* b */ c */ (select 1)",
      "WITH a as (select 1) select 1",
      "create table a (b int)",
      "create or replace function concurrent() returns int language sql as 'select 1'",
      "drop index i",
      "do $$ begin null; end $$"
    ]) {
      assert.isTrue(PgAtomicity.isUndone(sql), sql)
    }
    for (const sql of [
      "call p()",
      "/* select */ call p()",
      "do $$ begin COMMIT; end $$",
      "do E'begin com\\155it; end'",
      "vacuum",
      "create database d",
      "create index concurrently i on t (a)",
      "create index /**/ concurrently i on t (a)",
      "reindex table t",
      "alter system set a = 1",
      "cluster",
      "",
      '"select"'
    ]) {
      assert.isFalse(PgAtomicity.isUndone(sql), sql)
    }
  })
})

it.live("rows are kept again after the directory of results was removed, and the store says that it is ready", () =>
  withQueries(() =>
    Effect.gen(function* () {
      const parent = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "holdfast-test-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
      )
      const results = yield* FileQueryResults.make({ directory: parent, memoryBytes: 1000 })
      const { queries, rows, run } = yield* registry.pipe(Effect.provideService(QueryResults.QueryResults, results))
      const large = "select repeat('x', 1000) from generate_series(1, 50)"
      const before = yield* run(large)
      const remove = () => {
        for (const name of readdirSync(parent)) rmSync(join(parent, name), { recursive: true })
      }
      remove()
      assert.lengthOf(yield* rows(large), 50)
      const lost = yield* Effect.flip(queries.page(principal, before.id, { offset: 0, limit: 100 }))
      assert.strictEqual(lost.reason._tag, "ResultsUnavailable")
      yield* run("create table t (n int)")
      remove()
      assert.lengthOf(yield* rows("insert into t select 1 from generate_series(1, 50) returning repeat('x', 1000)"), 50)
      remove()
      yield* results.ready
      assert.lengthOf(readdirSync(parent), 1)
      rmSync(parent, { recursive: true })
      const away = yield* Effect.flip(results.ready)
      assert.strictEqual(away.reason._tag, "ResultsUnavailable")
      assert.notInclude(away.message, parent)
      const failed = yield* run("insert into t select 1 from generate_series(1, 50) returning repeat('x', 1000)")
      const [[count] = []] = yield* rows("select count(*)::int from t")
      assert.strictEqual(failed.error?._tag, "ResultsUnavailable")
      assert.strictEqual(count, writtenOf(failed) === "committed" ? 100 : 50)
    })
  )
)
