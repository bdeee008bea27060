/** The laws of the rows of queries. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { Row } from "../../query/QueryDriver.ts"
import * as QueryId from "../../query/QueryId.ts"
import { type QueryResult, QueryResults } from "../../query/QueryResults.ts"
import type { Law } from "./Laws.ts"

/** How much may be kept. */
export interface Limits {
  /** For one query. */
  readonly limitBytes?: number
  /** For all queries of a principal. */
  readonly principalBytes?: number
  /** For all queries. */
  readonly totalBytes?: number
}

/** What a law is tried with. */
export interface World {
  readonly open: (limits: Limits) => Effect.Effect<QueryResults["Service"], unknown, Scope.Scope>
}

const law = (
  name: string,
  trial: (world: World) => Effect.Effect<unknown, unknown, Scope.Scope>
): Law<World, never> => ({ name, needs: [], trial })

const within = <A, E>({ open }: World, test: Effect.Effect<A, E, QueryResults | Scope.Scope>, limits: Limits = {}) =>
  Effect.flatMap(open(limits), (results) => Effect.provideService(Effect.scoped(test), QueryResults, results))

const numbered = (from: number, to: number): ReadonlyArray<Row> =>
  Array.from({ length: to - from }, (_, index) => [from + index, "é".repeat((from + index) % 40), null])

const openOf = (principal: string) =>
  Effect.flatMap(QueryResults, (results) => results.open({ id: QueryId.make(), principal }))
const open = openOf("alice")
const reasonOf = <A, E extends { readonly reason: { readonly _tag: string } }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason._tag)

/** All rows, page by page. */
const readAll = ({ page }: QueryResult, limit: number) =>
  Effect.gen(function* () {
    const rows: Array<Row> = []
    for (let offset: number | undefined = 0; offset !== undefined;) {
      const found: { readonly rows: ReadonlyArray<Row>; readonly next: number | undefined } = yield* page(offset, limit)
      rows.push(...found.rows)
      offset = found.next
    }
    return rows
  })

export const laws = [
  law("rows are read again and again, in any order, whatever was read before", (world) =>
    within(
      world,
      Effect.gen(function* () {
        const result = yield* open
        yield* result.sink.columns([{ name: "n", type: "int4" }])
        for (let from = 0; from < 1000; from += 10) yield* result.sink.rows(numbered(from, from + 10))
        for (const offset of [990, 0, 500, 0, 997, 123]) {
          assert.deepStrictEqual(yield* result.page(offset, 7), {
            columns: [{ name: "n", type: "int4" }],
            rows: numbered(offset, Math.min(offset + 7, 1000)),
            next: offset + 7 < 1000 ? offset + 7 : undefined
          })
        }
        assert.deepStrictEqual(yield* readAll(result, 333), numbered(0, 1000))
      })
    )
  ),

  law("rows have no next page at the end and none beyond it", (world) =>
    within(
      world,
      Effect.gen(function* () {
        const result = yield* open
        assert.deepStrictEqual(yield* result.page(0, 10), { columns: [], rows: [], next: undefined })
        yield* result.sink.rows(numbered(0, 10))
        assert.strictEqual((yield* result.page(0, 9)).next, 9)
        assert.strictEqual((yield* result.page(0, 10)).next, undefined)
        assert.deepStrictEqual(yield* result.page(999_999_999_999_999, 10), {
          columns: [],
          rows: [],
          next: undefined
        })
      })
    )
  ),

  law("rows are read whole while others are added", (world) =>
    within(
      world,
      Effect.gen(function* () {
        const result = yield* open
        const adding = yield* Effect.forkChild(
          Effect.forEach(Array.from({ length: 200 }), (_, index) =>
            Effect.andThen(result.sink.rows(numbered(index * 5, index * 5 + 5)), Effect.yieldNow)
          )
        )
        for (let read = 0; read < 1000;) {
          const rows = yield* readAll(result, 50)
          assert.deepStrictEqual(rows, numbered(0, rows.length))
          assert.isAtLeast(rows.length, read)
          read = rows.length
          yield* Effect.yieldNow
        }
        yield* Fiber.join(adding)
      })
    )
  ),

  law("rows are limited for each query, and those that came before stay", (world) =>
    within(
      world,
      Effect.gen(function* () {
        const result = yield* open
        yield* result.sink.rows([["x".repeat(400)]])
        assert.strictEqual(yield* reasonOf(result.sink.rows([["x".repeat(700)]])), "ResultTooLarge")
        assert.deepStrictEqual((yield* result.page(0, 10)).rows, [["x".repeat(400)]])
      }),
      { limitBytes: 1000 }
    )
  ),

  law("rows are limited for all queries, and free their room when their scope closes", (world) =>
    within(
      world,
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const first = yield* Scope.provide(open, scope)
        yield* first.sink.rows([["x".repeat(400)]])
        const second = yield* open
        assert.strictEqual(yield* reasonOf(second.sink.rows([["x".repeat(1200)]])), "ResultsFull")
        assert.isAbove(yield* first.bytes, 400)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual(yield* first.bytes, 0)
        yield* second.sink.rows([["x".repeat(400)]])
      }),
      { limitBytes: 3000, principalBytes: 3000, totalBytes: 1500 }
    )
  ),

  law("rows are limited for each principal, who leaves half the room to the others and is told why", (world) =>
    within(
      world,
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const first = yield* Scope.provide(open, scope)
        yield* first.sink.rows([["x".repeat(400)]])
        const second = yield* open
        const error = yield* Effect.flip(second.sink.rows([["x".repeat(1200)]]))
        assert.deepInclude(error.reason, { _tag: "ResultsFull", ofPrincipal: true, limitBytes: 1500 })
        assert.match(error.message, /your queries/)
        yield* (yield* openOf("bob")).sink.rows([["x".repeat(300)]])
        yield* Scope.close(scope, Exit.void)
        yield* second.sink.rows([["x".repeat(400)]])
      }),
      { limitBytes: 3001, totalBytes: 3001 }
    )
  ),

  law("I3 two users who fill the room leave each of fourteen others a share, and lose nothing that is kept", (world) =>
    within(
      world,
      Effect.gen(function* () {
        const fill = Effect.fnUntraced(function* (principal: string) {
          const result = yield* openOf(principal)
          let rows = 0
          while (true) {
            const added = yield* Effect.exit(result.sink.rows([["x".repeat(400)]]))
            if (Exit.isFailure(added)) return { result, rows }
            rows++
          }
        })
        const greedy = [yield* fill("alice"), yield* fill("bob")]
        const others = Array.from({ length: 14 }, (_, index) => `user ${index}`)
        for (const principal of others) {
          const { sink } = yield* openOf(principal)
          yield* sink.rows([["x".repeat(400)]])
        }
        const refused = yield* openOf("user 0")
        const error = yield* Effect.flip(refused.sink.rows([["x".repeat(8000)]]))
        assert.deepInclude(error.reason, { _tag: "ResultsFull", limitBytes: 64_000, shareBytes: 1000 })
        assert.match(error.message, /beyond 1000 bytes/)
        for (const { result, rows } of greedy) assert.lengthOf(yield* readAll(result, 1000), rows)
      }),
      { limitBytes: 64_000, totalBytes: 64_000 }
    )
  ),

  law("rows are refused after the scope closed, and take no room", (world) =>
    within(
      world,
      Effect.gen(function* () {
        const { sink } = yield* Effect.scoped(open)
        assert.strictEqual(yield* reasonOf(sink.rows([["x".repeat(900)]])), "ResultsUnavailable")
        const result = yield* open
        yield* result.sink.rows([["x".repeat(400)]])
      }),
      { principalBytes: 1000, totalBytes: 1000 }
    )
  )
]
