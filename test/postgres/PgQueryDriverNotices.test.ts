import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { eventually } from "../support/conditions.ts"
import { withQueries } from "../support/queries.ts"

const principal = "alice"

const opened = Effect.gen(function* () {
  const queries = yield* QueryRegistry.make().pipe(Effect.provide(QueryResults.layerMemory()))
  const submit = (sql: string) => queries.submit({ statement: { sql, params: [] }, principal })
  return {
    queries,
    submit,
    run: (sql: string) => Effect.flatMap(submit(sql), ({ id }) => queries.await(principal, id))
  }
})

const block = (body: string) => `do $$ begin ${body}; end $$`

describe("what the server remarks", () => {
  it.live("is in the record while the statement runs and when it is over, and in the events", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const { queries, submit } = yield* opened
        const { id } = yield* submit(
          block("raise notice 'one' using detail = 'more', hint = 'do', errcode = 'HF001'; perform pg_sleep(60)")
        )
        const one = { severity: "NOTICE", code: "HF001", message: "one", detail: "more", hint: "do" }
        const { notices } = yield* eventually(queries.status(principal, id), ({ notices }) => notices.length > 0)
        assert.deepStrictEqual(notices, [one])
        assert.deepStrictEqual((yield* queries.cancel(principal, id)).notices, [one])
        const events = yield* Stream.runCollect(queries.events(principal, id))
        assert.deepStrictEqual(
          events.map(({ record }) => record.notices.length),
          [0, 0, 0, 0, 1]
        )
      })
    )
  )

  it.live("is cut and counted where there is much of it, and breaks no connection", () =>
    withQueries(
      () =>
        Effect.gen(function* () {
          const { run } = yield* opened
          const pid = Effect.map(
            run("do $$ begin raise notice '%', pg_backend_pid(); end $$"),
            ({ notices }) => notices
          )
          const before = yield* pid
          for (const size of [70_000, 15_000_000, 20_000_000]) {
            const { error, notices } = yield* run(
              block(`raise notice '%', repeat('é', ${size / 2}); raise notice 'after'`)
            )
            assert.isNull(error)
            assert.isAtMost(notices[0]?.message.length ?? 0, 4097)
            assert.match(notices[0]?.message ?? "", /^é{4000,}…$/)
            assert.strictEqual(notices[1]?.message, "after")
          }
          const many = yield* run(block("for i in 1..100000 loop raise notice '%', repeat('x', 1000); end loop"))
          assert.isAtMost(many.notices.length, 33)
          assert.strictEqual(many.notices.length + many.noticesDropped, 100_000)
          assert.deepStrictEqual(yield* pid, before)
        }),
      { max: 1 }
    )
  )

  it.live("an error of many megabytes is cut, keeps its code, and breaks no connection", () =>
    withQueries(
      () =>
        Effect.gen(function* () {
          const { run } = yield* opened
          const pid = Effect.map(
            run("do $$ begin raise notice '%', pg_backend_pid(); end $$"),
            ({ notices }) => notices
          )
          const before = yield* pid
          for (const size of [70_000, 15_000_000, 20_000_000]) {
            const { error } = yield* run(block(`raise exception '%', repeat('x', ${size}) using errcode = 'HF001'`))
            assert.deepInclude(error, { _tag: "StatementFailed", code: "HF001" })
            assert.match(error?.message ?? "", /^x{4000,}…$/)
            assert.isAtMost(error?.message.length ?? 0, 4097)
          }
          const { error } = yield* run(
            block("raise exception 'short' using detail = repeat('d', 10000), hint = repeat('h', 10000)")
          )
          if (error?._tag !== "StatementFailed") return assert.fail()
          assert.deepStrictEqual([error.message, error.detail?.length, error.hint?.length], ["short", 4097, 4097])
          assert.deepStrictEqual(yield* pid, before)
        }),
      { max: 1 }
    )
  )
})
