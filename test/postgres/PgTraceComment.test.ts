import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import * as PgTraceComment from "../../src/postgres/internal/PgTraceComment.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import * as QueryResults from "../../src/query/QueryResults.ts"
import { withQueries } from "../support/queries.ts"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const caller = Tracer.externalSpan({ traceId, spanId: "b7ad6b7169203331", sampled: true })
const principal = "alice"

interface Asked {
  readonly sql: string
  readonly params: ReadonlyArray<string>
}

/** What becomes of statements that are submitted under a span. */
const outcomes = (way: "off" | "comment", statements: ReadonlyArray<Asked>) =>
  Effect.gen(function* () {
    const driver = yield* Effect.provideService(PgQueryDriver.make, PgQueryDriver.TracePropagation, way)
    const queries = yield* QueryRegistry.make().pipe(
      Effect.provideService(QueryDriver, driver),
      Effect.provide(QueryResults.layerMemory())
    )
    return yield* Effect.forEach(statements, (statement) =>
      Effect.gen(function* () {
        const { id } = yield* Effect.withParentSpan(queries.submit({ statement, principal }), caller)
        const { error, sql, state } = yield* queries.await(principal, id)
        const rows = error === null ? yield* Stream.runCollect(queries.rows(principal, id)) : []
        return { sql, state, error, rows }
      })
    )
  }).pipe(Effect.scoped)

describe("the comment of a trace", () => {
  it.live("tells the server which trace a statement belongs to", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const told = yield* outcomes("comment", [
          { sql: "select query from pg_stat_activity where pid = pg_backend_pid()", params: [] },
          { sql: "select current_query(), $1::text", params: ["a value"] }
        ])
        for (const { rows, sql } of told) {
          const text = String(rows[0]?.[0])
          assert.match(text, new RegExp(`^/\\*traceparent='00-${traceId}-[0-9a-f]{16}-01'\\*/ select `))
          assert.strictEqual(text.slice(text.indexOf("*/ ") + 3), sql)
        }
      })
    )
  )

  it.live("changes neither the records of queries nor what the server says of errors and where", () =>
    withQueries(() =>
      Effect.gen(function* () {
        const statements = [
          { sql: "select 1 as one", params: [] },
          { sql: "selec 1", params: [] },
          { sql: "select 'é', nothing", params: [] },
          { sql: "select $1::int, nothing", params: ["1"] },
          { sql: "select", params: [] },
          { sql: "select 1 +", params: [] },
          { sql: "select 'abc", params: [] },
          { sql: "select 1 /* abc", params: [] },
          { sql: "select 1 -- abc", params: [] },
          { sql: "select 1; select 2", params: [] },
          { sql: "", params: [] },
          { sql: "do $$ begin perform 1 / 0; end $$", params: [] }
        ]
        const without = yield* outcomes("off", statements)
        assert.deepStrictEqual(yield* outcomes("comment", statements), without)
        // The first of them works, and the others say where.
        const positions = without.map(({ error }) => (error !== null && "position" in error ? error.position : null))
        assert.deepStrictEqual(positions.slice(0, 4), [null, 1, 13, 17])
      })
    )
  )

  it("has nothing in it but the ids of a span", () => {
    const span = { traceId, spanId: "b7ad6b7169203331", sampled: false }
    assert.strictEqual(PgTraceComment.of(span), `/*traceparent='00-${traceId}-b7ad6b7169203331-00'*/ `)
    // B3 has shorter ones.
    const short = { ...span, traceId: "8448eb211c80319c" }
    assert.include(PgTraceComment.of(short), "'00-00000000000000008448eb211c80319c-b7ad6b7169203331-00'")
    for (const forged of ["*/ drop table t; /*", `${traceId}\n`, "", traceId.toUpperCase()]) {
      assert.strictEqual(PgTraceComment.of({ ...span, traceId: forged }), "")
      assert.strictEqual(PgTraceComment.of({ ...span, spanId: forged }), "")
    }
  })
})
