import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import { type Row, type RowSink } from "../../src/query/QueryDriver.ts"
import type * as QueryError from "../../src/query/QueryError.ts"
import type { PageText } from "../../src/query/QueryResults.ts"
import { eventually } from "../support/conditions.ts"
import { alone } from "../support/scripted.ts"
import * as Shared from "../support/sharedQueries.ts"

const alice = "alice"

const ask = (url: Redacted.Redacted<string>, sql: string) =>
  Effect.scoped(Effect.flatMap(PgConnection.make({ url }), (connection) => connection.queryValues(sql, [], false)))

/** A script that adds rows, and succeeds unless told otherwise. */
const adding = (rows: (sink: RowSink) => Effect.Effect<number, QueryError.QueryError>) => ({
  execute: (_: unknown, sink: RowSink) =>
    sink.columns([{ name: "a", type: "text" }]).pipe(
      Effect.andThen(rows(sink)),
      Effect.map((rowCount) => ({ command: "SELECT", rowCount }))
    )
})

const statement = { sql: "select", params: [] }

/** Every piece of a page, as JSON. */
const whole = (page: PageText) =>
  Effect.gen(function* () {
    const pieces: Array<Uint8Array> = []
    for (let piece = yield* page.pull; piece !== undefined; piece = yield* page.pull) {
      assert.isAtMost(piece.length, 64 * 1024)
      pieces.push(piece)
    }
    return JSON.parse(`[${Buffer.concat(pieces).toString()}]`) as ReadonlyArray<Row>
  })

describe("PgQueryResults", () => {
  it.live("every page is the rows that were added, wherever chunks end, from any instance, also of a dead owner", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        // From nothing to several chunks, in odd lengths, with texts that no other byte of JSON is like.
        const sizes = [0, 1, 100_000, 3, 300_000, 7, 700_000, 262_143, 262_144, 2, 90_000]
        const added = sizes.map((size, at): Row => [at, `é"\\\n${"x".repeat(size)}`])
        const script = adding((sink) =>
          Effect.gen(function* () {
            for (const [at, row] of added.entries()) {
              if (at % 2 === 0) yield* sink.rows([row])
              else {
                const text = Buffer.from(JSON.stringify(row))
                const pieces = Array.from({ length: Math.ceil(text.length / 60_000) }, (_, part) =>
                  text.subarray(part * 60_000, (part + 1) * 60_000)
                )
                yield* sink.text?.(pieces[Symbol.iterator]()) ?? assert.fail()
              }
            }
            return added.length
          })
        )
        const a = yield* Shared.start(url, { script })
        const { id } = yield* a.submit(statement)
        const { bytes, state } = yield* a.registry.await(alice, id)
        assert.strictEqual(state, "Succeeded")
        assert.strictEqual(
          bytes,
          added.reduce((sum, row) => sum + Buffer.byteLength(JSON.stringify(row)) + 1, 0)
        )
        yield* a.close
        const b = yield* Shared.start(url)
        for (let offset = 0; offset <= added.length; offset++) {
          for (const limit of [1, 2, 5, 20]) {
            const page = yield* b.registry.page(alice, id, { offset, limit })
            assert.deepStrictEqual(page.rows, added.slice(offset, offset + limit), `${offset} ${limit}`)
            assert.strictEqual(page.next, offset + limit < added.length ? offset + limit : undefined)
            const text = yield* b.registry.pageText(alice, id, { offset, limit })
            assert.deepStrictEqual(yield* whole(text), added.slice(offset, offset + limit))
            assert.strictEqual(text.next(), page.next)
          }
        }
        assert.isAbove((yield* ask(url, "select from holdfast.query_rows")).length, 4)
      })
    )
  )

  it.live("a few rows cost no statement of their own", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const script = adding((sink) => Effect.as(sink.rows([["x".repeat(4000)], ["y".repeat(4000)]]), 2))
        const a = yield* Shared.start(url, { script })
        const { id } = yield* a.submit(statement)
        yield* a.registry.await(alice, id)
        const b = yield* Shared.start(url)
        const { rows } = yield* b.registry.page(alice, id, { offset: 1, limit: 9 })
        assert.deepStrictEqual(rows, [["y".repeat(4000)]])
        assert.deepStrictEqual(yield* ask(url, "select query from holdfast.query_rows"), [])
      })
    )
  )

  it.live("limits count what all instances keep, and rows of a query that failed take no room", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        const results = { limitBytes: 1_000_000, principalBytes: 1_500_000, totalBytes: 1_500_000 }
        const script = adding((sink) =>
          Effect.gen(function* () {
            for (let count = 0; count < 9; count++) yield* sink.rows([["x".repeat(100_000)]])
            return 9
          })
        )
        const [a, b] = [yield* Shared.start(url, { results, script }), yield* Shared.start(url, { results, script })]
        const outcome = (registry: typeof a) =>
          Effect.flatMap(registry.submit(statement), ({ id }) =>
            Effect.map(registry.registry.await(alice, id), ({ error, state }) => error?._tag ?? state)
          )
        assert.strictEqual(yield* outcome(a), "Succeeded")
        assert.strictEqual(yield* outcome(b), "ResultsFull")
        assert.strictEqual(yield* outcome(b), "ResultsFull")
        yield* ask(url, "update holdfast.queries set expires_at = clock_timestamp() where kept > 0")
        yield* a.registry.prune
        // How much is kept is asked once a second.
        yield* eventually(outcome(b), (came) => came === "Succeeded")
      })
    )
  )

  it.live("K2 rows of an instance that others took for gone are refused, and those of a failed query are gone", () =>
    alone(
      Effect.gen(function* () {
        const { url } = yield* Shared.database
        let isFenced = false
        const script = adding((sink) =>
          Effect.gen(function* () {
            yield* sink.rows([["x".repeat(300_000)]])
            yield* ask(url, "update holdfast.query_instances set ended_at = clock_timestamp()").pipe(Effect.orDie)
            isFenced = true
            for (let count = 0; count < 4; count++) yield* sink.rows([["y".repeat(300_000)]])
            return 5
          })
        )
        const a = yield* Shared.start(url, { journal: { beat: "100 millis" }, script })
        const { id } = yield* a.submit(statement)
        const { state } = yield* a.registry.await(alice, id)
        assert.strictEqual(state, "Failed")
        assert.isTrue(isFenced)
        const { reason } = yield* Effect.flip(a.registry.page(alice, id, { offset: 0, limit: 1 }))
        assert.strictEqual(reason._tag, "QueryNotSucceeded")
        const late = yield* ask(url, "select count(*)::int from holdfast.query_rows where chunk > 1")
        assert.deepStrictEqual(late, [[0]])
      })
    )
  )
})
