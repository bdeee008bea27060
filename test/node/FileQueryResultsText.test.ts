import { assert, describe, it } from "@effect/vitest"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import * as FileQueryResults from "../../src/node/FileQueryResults.ts"
import type { Row } from "../../src/query/QueryDriver.ts"
import { QueryError, StatementFailed } from "../../src/query/QueryError.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import type { PageText, QueryResult } from "../../src/query/QueryResults.ts"
import { readText } from "../../src/query/internal/QueryPages.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "holdfast-test-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

/** An empty result of a store of its own, and the files of the store. */
const withResult = <A, E>(
  options: FileQueryResults.Options,
  test: (result: QueryResult, files: () => ReadonlyArray<string>) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.gen(function* () {
    const parent = yield* directory
    const results = yield* FileQueryResults.make({ directory: parent, ...options })
    const result = yield* results.open({ id: QueryId.make(), principal: "alice" })
    return yield* test(result, () =>
      readdirSync(parent, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".jsonl"))
        .map((name) => join(parent, name))
    )
  }).pipe(Effect.scoped)

/** The text of a row, cut into pieces of so many bytes, with empty ones between them. */
function* pieces(row: Row, size: number): Generator<Uint8Array, void> {
  const bytes = Buffer.from(JSON.stringify(row))
  for (let at = 0; at < bytes.length; at += size) {
    yield bytes.subarray(at, at + size)
    yield bytes.subarray(0, 0)
  }
}

const addText = ({ sink }: QueryResult, row: Row, size = 1000) =>
  sink.text?.(pieces(row, size)) ?? Effect.die(new Error("No texts are taken"))

/** All bytes of a page. */
const read = ({ next, pull }: PageText) =>
  Effect.gen(function* () {
    const parts: Array<Uint8Array> = []
    for (let part = yield* pull; part !== undefined; part = yield* pull) parts.push(part)
    const text = Buffer.concat(parts).toString("utf8")
    return { rows: JSON.parse(`[${text}]`) as ReadonlyArray<Row>, next: next(), longest: parts }
  })

const page = (result: QueryResult, offset: number, limit: number) =>
  Effect.flatMap(readText(result, { offset, limit }), read)

const numbered = Array.from({ length: 300 }, (_, at): Row => [at, "é".repeat((at * 37) % 900), null])

describe("a result that is given and read as text", () => {
  for (const options of [{}, { memoryBytes: 0 }, { memoryBytes: 50_000 }, { memoryTotalBytes: 1000 }]) {
    it.live(`has the same rows, whatever is asked for, with ${JSON.stringify(options)}`, () =>
      withResult(options, (result) =>
        Effect.gen(function* () {
          for (const [at, row] of numbered.entries()) {
            if (at % 3 === 0) yield* result.sink.rows([row])
            else yield* addText(result, row, 1 + (at % 700))
          }
          for (const [offset, limit] of [
            [0, 1000],
            [0, 300],
            [0, 299],
            [299, 1],
            [150, 7],
            [300, 10],
            [400, 10],
            [7, 0]
          ] as const) {
            const decoded = yield* result.page(offset, limit)
            const asText = yield* page(result, offset, limit)
            assert.deepStrictEqual(asText.rows, decoded.rows)
            assert.deepStrictEqual(asText.rows, numbered.slice(offset, offset + limit))
            assert.strictEqual(asText.next, decoded.next)
          }
        })
      )
    )
  }

  for (const memoryBytes of [0, 30_000, 1_000_000]) {
    it.live(`has whole rows, wherever a text broke off, with ${memoryBytes} bytes in memory`, () =>
      withResult({ memoryBytes, limitBytes: 400_000 }, (result) =>
        Effect.gen(function* () {
          const kept: Array<Row> = []
          const long: Row = ["x".repeat(20_000)]
          for (const [at, row] of numbered.slice(0, 40).entries()) {
            // More than there is room for, if what broke off kept its room.
            const broken = Effect.suspend(() => {
              const half = pieces([at, "y".repeat(100_000)], 1000)
              return (
                result.sink.text?.({
                  next: () => {
                    const piece = half.next()
                    if (piece.value?.[0] === 0x79) count++
                    if (count > at * 2) throw new QueryError({ reason: new StatementFailed({ problem: "broken" }) })
                    return piece
                  }
                }) ?? Effect.void
              )
            })
            let count = 0
            yield* Effect.exit(broken)
            kept.push(row)
            yield* at % 2 === 0 ? result.sink.rows([row]) : addText(result, row)
          }
          const adding = yield* Effect.forkChild(addText(result, long, 10), { startImmediately: true })
          yield* Fiber.interrupt(adding)
          const found = yield* page(result, 0, 1000)
          // The last one may have come to its end.
          assert.deepStrictEqual(found.rows.slice(0, kept.length), kept)
          assert.isAtMost(found.rows.length, kept.length + 1)
          assert.deepStrictEqual((yield* result.page(0, 1000)).rows, found.rows)
          const bytes = found.rows.reduce((sum, row) => sum + Buffer.byteLength(JSON.stringify(row)) + 1, 0)
          assert.strictEqual(yield* result.bytes, bytes)
        })
      )
    )
  }

  it.live("has pages of about 4 MiB, or of one row that is longer, in pieces of 64 KiB", () =>
    withResult({}, (result) =>
      Effect.gen(function* () {
        const rows: ReadonlyArray<Row> = [5, 3, 3, 1, 9, 1].map((size) => [size, "z".repeat(size * 1024 * 1024)])
        for (const row of rows) yield* addText(result, row, 64 * 1024)
        const sizes: Array<ReadonlyArray<unknown>> = []
        for (let offset: number | undefined = 0; offset !== undefined;) {
          const found: Effect.Success<ReturnType<typeof page>> = yield* page(result, offset, 1000)
          for (const piece of found.longest) assert.isAtMost(piece.length, 64 * 1024)
          sizes.push(found.rows.map(([size]) => size))
          offset = found.next
        }
        assert.deepStrictEqual(sizes, [[5], [3, 3], [1, 9], [1]])
        assert.deepStrictEqual((yield* result.page(1, 10)).rows.length, 2)
      })
    )
  )

  it.live("that is damaged or cut off fails its reader", () =>
    withResult({ memoryBytes: 0 }, (result, files) =>
      Effect.gen(function* () {
        for (const row of numbered) yield* addText(result, row)
        const [file = ""] = files()
        const whole = readFileSync(file)
        const problemOf = (bytes: Buffer) =>
          Effect.gen(function* () {
            writeFileSync(file, bytes)
            return (yield* Effect.flip(page(result, 0, 1000))).message
          })
        const damaged = "The rows that were kept are damaged. Submit the query again."
        assert.strictEqual(yield* problemOf(Buffer.from(whole).fill("1")), damaged)
        assert.strictEqual(yield* problemOf(Buffer.from(whole.toString().replaceAll("\n[", " ["))), damaged)
        assert.match(yield* problemOf(whole.subarray(0, 100_000)), /^Rows cannot be read at the moment \(cut off\)/)
        writeFileSync(file, whole)
        assert.deepStrictEqual((yield* page(result, 0, 1000)).rows, numbered)
      })
    )
  )
})
