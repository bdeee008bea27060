import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { once } from "node:events"
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scheduler from "effect/Scheduler"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as FileQueryResults from "../../src/node/FileQueryResults.ts"
import * as Index from "../../src/node/internal/FileQueryResultsIndex.ts"
import type { Row } from "../../src/query/QueryDriver.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import * as QueryRegistry from "../../src/query/QueryRegistry.ts"
import { QueryResults } from "../../src/query/QueryResults.ts"
import { steps } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { eventually } from "../support/conditions.ts"
import { withQueries } from "../support/queries.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "holdfast-test-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

/** Runs a test with a directory, a store and a ledger of its own. All are empty in the end. */
const within = <A, E>(
  test: (store: {
    readonly directory: string
    readonly open: ReturnType<Effect.Success<ReturnType<typeof FileQueryResults.make>>["open"]>
    readonly files: () => ReadonlyArray<string>
  }) => Effect.Effect<A, E, Scope.Scope>,
  options?: FileQueryResults.Options
) =>
  Effect.gen(function* () {
    const parent = yield* directory
    yield* Effect.gen(function* () {
      const results = yield* FileQueryResults.make({ directory: parent, memoryBytes: 10_000, ...options })
      const [name = ""] = readdirSync(parent)
      const path = join(parent, name)
      yield* test({
        directory: path,
        open: Effect.suspend(() => results.open({ id: QueryId.make(), principal: "alice" })),
        files: () => readdirSync(path).map((file) => join(path, file))
      }).pipe(Effect.scoped)
      assert.deepStrictEqual(readdirSync(path), [])
    }).pipe(Effect.scoped)
    assert.deepStrictEqual(readdirSync(parent), [])
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))

/** The descriptors of this process that are open on something below a directory. */
const descriptors = (below: string): ReadonlyArray<string> =>
  readdirSync("/proc/self/fd").flatMap((descriptor) => {
    try {
      const path = readlinkSync(join("/proc/self/fd", descriptor))
      return path.startsWith(below) ? [path] : []
    } catch {
      return []
    }
  })

const only = (files: ReadonlyArray<string>): string => {
  assert.lengthOf(files, 1)
  return files[0] as string
}

const row: Row = ["x".repeat(1000)]
/** As much as is kept in memory in these tests. */
const rows = Array.from({ length: 10 }, () => row)
/** As much as is written at once. */
const many = Array.from({ length: 260 }, () => row)

/** Runs a command with a file system of one megabyte at `$0`; where that is not allowed, with no file larger than that. */
const onSmallDisk = `mount='mount -t tmpfs -o size=1m none "$0"'
  if unshare -Urm sh -c "$mount" "$0" 2>/dev/null; then exec unshare -Urm sh -c "$mount"' && exec "$@"' "$0" "$@"
  else ulimit -f 1024 && exec "$@"; fi`

const program = (...args: ReadonlyArray<string>) => {
  const script = join(import.meta.dirname, "../support/resultsProgram.ts")
  return Effect.acquireRelease(
    Effect.sync(() => {
      const [command = "", ...rest] = [...args.slice(0, -2), process.execPath, script, ...args.slice(-2)]
      return spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] })
    }),
    (child) =>
      Effect.promise(async () => {
        if (child.exitCode !== null || child.signalCode !== null) return
        child.kill("SIGKILL")
        await once(child, "exit")
      })
  )
}

describe("the files of results", () => {
  it.live("are ours alone to read, and gone with the result; the directory is gone with the store", () =>
    within(({ directory, files, open }) =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const { sink } = yield* Scope.provide(open, scope)
        yield* sink.rows(rows)
        assert.strictEqual(statSync(directory).mode & 0o777, 0o700)
        assert.strictEqual(statSync(only(files())).mode & 0o777, 0o600)
        yield* Scope.close(scope, Exit.void)
        assert.deepStrictEqual(files(), [])
      })
    )
  )

  it.live("are not there while rows are few", () =>
    within(({ files, open }) =>
      Effect.gen(function* () {
        const { sink } = yield* open
        yield* sink.rows(rows.slice(0, 9))
        assert.deepStrictEqual(files(), [])
        yield* sink.rows(rows.slice(0, 2))
        only(files())
      })
    )
  )

  it.live("are written at once when all queries together take up the memory, until some of them are gone", () =>
    within(
      ({ files, open }) =>
        Effect.gen(function* () {
          const others = yield* Scope.make()
          for (let queries = 0; queries < 20; queries++) {
            const { sink } = yield* Scope.provide(open, others)
            yield* sink.rows(rows)
          }
          assert.isAtLeast(files().length, 15)
          yield* Scope.close(others, Exit.void)
          const { sink } = yield* open
          yield* sink.rows(rows)
          assert.deepStrictEqual(files(), [])
        }),
      { memoryBytes: 100_000, memoryTotalBytes: 50_000 }
    )
  )

  it.live("are written in pieces of hundreds of kilobytes, however few rows come at a time", () =>
    within(
      ({ files, open }) =>
        Effect.gen(function* () {
          const { page, sink } = yield* open
          yield* sink.rows([row])
          const before = statSync(only(files())).size
          for (let times = 0; times < 100; times++) yield* sink.rows([row])
          assert.strictEqual(statSync(only(files())).size, before)
          for (let times = 0; times < 200; times++) yield* sink.rows([row])
          assert.isAbove(statSync(only(files())).size, 200_000)
          assert.lengthOf((yield* page(0, 1000)).rows, 301)
        }),
      { memoryBytes: 500 }
    )
  )

  it.live("hold no descriptor while nobody reads or writes", () =>
    within(({ directory, files, open }) =>
      Effect.gen(function* () {
        const results = yield* Effect.forEach(rows, () => open)
        for (const { page, sink } of results) {
          yield* sink.rows(rows)
          assert.lengthOf((yield* page(3, 4)).rows, 4)
        }
        assert.lengthOf(files(), rows.length)
        assert.deepStrictEqual(descriptors(directory), [])
      })
    )
  )

  it.live("and their descriptors are gone wherever a writer or a reader was interrupted", () =>
    within(({ directory, files, open }) =>
      Effect.forEach(
        steps.flatMap((step) => [0, 1, 3, 8, 40].map((delay) => ({ step, delay }))),
        ({ delay, step }) =>
          Effect.gen(function* () {
            const work = Effect.gen(function* () {
              const { page, sink } = yield* open
              for (let offset = 0; ; offset += 5) {
                yield* sink.rows(many)
                yield* page(offset, 5)
              }
            })
            const working = yield* Effect.forkChild(
              Effect.provideService(Effect.scoped(work), Scheduler.MaxOpsBeforeYield, step),
              { startImmediately: true }
            )
            for (let turns = 0; turns < delay; turns++) yield* Effect.promise(() => new Promise(setImmediate))
            yield* Fiber.interrupt(working)
            assert.deepStrictEqual(files(), [], `step ${step}, delay ${delay}`)
            // A read that nobody waits for any more closes what it has opened by itself.
            if (descriptors(directory).length > 0) {
              yield* eventually(
                Effect.sync(() => descriptors(directory)),
                (open) => open.length === 0
              )
            }
          }),
        { discard: true }
      )
    )
  )

  it.live("have whole rows and take more, wherever a writer was interrupted", () =>
    within(({ open }) =>
      Effect.forEach(
        steps.flatMap((step) => [0, 1, 3, 8].map((delay) => ({ step, delay }))),
        ({ delay, step }) =>
          Effect.gen(function* () {
            const { page, sink } = yield* open
            const numbered = many.map((row, index): Row => [index, ...row])
            const adding = yield* Effect.forkChild(
              Effect.provideService(sink.rows([...numbered, ...numbered]), Scheduler.MaxOpsBeforeYield, step),
              { startImmediately: true }
            )
            for (let turns = 0; turns < delay; turns++) yield* Effect.promise(() => new Promise(setImmediate))
            yield* Fiber.interrupt(adding)
            yield* sink.rows(numbered)
            const found = (yield* page(0, 1000)).rows
            const added = found.length - numbered.length
            assert.deepStrictEqual(
              found.map(([index]) => index),
              [...numbered, ...numbered]
                .slice(0, added)
                .concat(numbered)
                .map(([index]) => index),
              `step ${step}, delay ${delay}`
            )
          }).pipe(Effect.scoped),
        { discard: true }
      )
    )
  )

  it.live("that are damaged, cut off or gone fail the reader with a reason, and nobody else", () =>
    within(({ files, open }) =>
      Effect.gen(function* () {
        const reasonOf = (damage: (file: string) => void) =>
          Effect.gen(function* () {
            const { page, sink } = yield* open
            yield* sink.rows(rows)
            damage(only(files()))
            const error = yield* Effect.flip(page(0, 10))
            return error.message
          }).pipe(Effect.scoped)
        const damaged = "The rows that were kept are damaged. Submit the query again."
        const unreadable = (code: string) => `Rows cannot be read at the moment (${code}). Try again later.`
        const overwrite = (change: (text: string) => string) => (file: string) =>
          writeFileSync(file, change(readFileSync(file, "utf8")))
        assert.strictEqual(yield* reasonOf(overwrite((text) => text.replace('"]', '"}'))), damaged)
        assert.strictEqual(yield* reasonOf(overwrite((text) => text.replaceAll("\n", " "))), damaged)
        assert.strictEqual(yield* reasonOf(overwrite((text) => text.replace(/./g, "1"))), damaged)
        assert.strictEqual(yield* reasonOf(overwrite((text) => text.slice(0, 5000))), unreadable("cut off"))
        assert.strictEqual(yield* reasonOf((file) => rmSync(file)), unreadable("ENOENT"))
        const { page, sink } = yield* open
        yield* sink.rows(rows)
        assert.deepStrictEqual((yield* page(0, 10)).rows, rows)
      })
    )
  )

  it.live("a page of large rows ends early and says where it goes on", () =>
    within(({ open }) =>
      Effect.gen(function* () {
        const large: Row = ["y".repeat(3 * 1024 * 1024)]
        const { page, sink } = yield* open
        for (let times = 0; times < 5; times++) yield* sink.rows([large, row])
        const { next, rows } = yield* page(0, 10)
        assert.deepStrictEqual([rows.length, next], [3, 3])
        assert.deepStrictEqual((yield* page(3, 10)).rows[0], row)
      })
    )
  )

  it.live("a disk without room fails the query with ResultsFull, leaves no file, and others go on", () =>
    Effect.gen(function* () {
      const parent = yield* directory
      const child = yield* program("sh", "-c", onSmallDisk, parent, "fill", parent)
      const output = yield* Effect.promise(() => text(child.stdout))
      const { error, left, message } = yield* Schema.decodeUnknownEffect(Filled)(output.trim().split("\n").at(-1))
      assert.deepInclude(error, { _tag: "ResultsFull", diskFull: true })
      assert.strictEqual(
        message,
        "The disk that rows are kept on is full. Select less, or try again when there is room."
      )
      assert.deepStrictEqual(left, [])
    }).pipe(Effect.scoped)
  )
})

const Filled = Schema.fromJsonString(
  Schema.Struct({ error: Schema.Unknown, message: Schema.String, left: Schema.Array(Schema.String) })
)

describe("queries whose rows are in files", () => {
  const sql = (count: number) => ({
    statement: { sql: `select n, repeat('x', 1000) from generate_series(1, ${count}) as n`, params: [] },
    principal: "alice"
  })
  /** With a registry over the real server. */
  const withRegistry = <A, E>(
    options: FileQueryResults.Options,
    test: (
      registry: QueryRegistry.QueryRegistry["Service"],
      files: () => ReadonlyArray<string>
    ) => Effect.Effect<A, E, Scope.Scope>
  ) =>
    withQueries(() =>
      Effect.gen(function* () {
        const parent = yield* directory
        const results = yield* FileQueryResults.make({ directory: parent, memoryBytes: 10_000, ...options })
        const registry = yield* QueryRegistry.make().pipe(Effect.provideService(QueryResults, results))
        yield* test(registry, () =>
          readdirSync(parent, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".jsonl"))
        )
      }).pipe(Effect.scoped, Effect.andThen(LedgerRecorder.assertEmpty({ except: ["backend"] })))
    )

  it.live("fail when there is no room, leave no file, and the next has the room", () =>
    withRegistry({ principalBytes: 5_000_000 }, (registry, files) =>
      Effect.gen(function* () {
        const failed = yield* registry.submit(sql(10_000))
        const { error, state } = yield* registry.await("alice", failed.id)
        assert.deepStrictEqual([state, error?._tag, files()], ["Failed", "ResultsFull", []])
        const { id } = yield* registry.submit(sql(4000))
        assert.strictEqual((yield* registry.await("alice", id)).state, "Succeeded")
        const page = yield* registry.page("alice", id, { offset: 3999, limit: 10 })
        assert.deepStrictEqual(page.rows[0]?.[0], 4000)
        assert.match(only(files()), new RegExp(`/${id}.jsonl$`))
      })
    )
  )

  it.live("have no file any more when they are cancelled in the middle of writing it", () =>
    withRegistry({}, (registry, files) =>
      Effect.gen(function* () {
        const { id } = yield* registry.submit(sql(1_000_000))
        yield* eventually(Effect.sync(files), (files) => files.length === 1)
        const { state } = yield* registry.cancel("alice", id)
        assert.deepStrictEqual([state, files()], ["Canceled", []])
      })
    )
  )
})

describe("the directory of a store", () => {
  it.live("of a program that was killed is removed by the next; that of a living one and of another machine stay", () =>
    Effect.gen(function* () {
      const parent = yield* directory
      const ready = (child: Effect.Success<ReturnType<typeof program>>) =>
        Effect.promise(async () => String((await once(child.stdout, "data"))[0]).trim())
      const killed = yield* program("leave", parent)
      assert.strictEqual(yield* ready(killed), "ready")
      const [left = ""] = readdirSync(parent)
      assert.lengthOf(readdirSync(join(parent, left)), 1)
      killed.kill("SIGKILL")
      yield* Effect.promise(() => once(killed, "exit"))

      const elsewhere = left.replace(/^holdfast-results-\w{12}/, "holdfast-results-000000000000")
      const numberUsedAgain = left.replace(/-\d+-(\w{12})-/, `-${process.pid}-$1-`)
      for (const name of [elsewhere, numberUsedAgain, "holdfast-results-of-somebody"]) mkdirSync(join(parent, name))
      const living = yield* program("leave", parent)
      assert.strictEqual(yield* ready(living), "ready")
      const held = readdirSync(parent).find((name) => name.includes(`-${living.pid}-`)) ?? ""

      const kept = [elsewhere, "holdfast-results-of-somebody", held]
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* FileQueryResults.make({ directory: parent })
          yield* eventually(
            Effect.sync(() => readdirSync(parent)),
            (names) => !names.includes(left) && !names.includes(numberUsedAgain)
          )
          const ours = readdirSync(parent).filter((name) => !kept.includes(name))
          assert.match(only(ours), new RegExp(`-${process.pid}-`))
        })
      )
      assert.sameMembers(readdirSync(parent), kept)
    }).pipe(Effect.scoped)
  )

  it.live("that cannot be made fails the start with what to do", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Effect.scoped(FileQueryResults.make({ directory: "/nowhere/at/all" })))
      assert.match(error.message, /below \/nowhere\/at\/all: .*ENOENT.* Give a directory that exists/)
    })
  )
})

describe("the index of a result", () => {
  it("finds a place at or before every row, and has no more places than it may", () => {
    const index = Index.make({ span: 10, capacity: 8 })
    const begins = Array.from({ length: 5000 }, (_, row) => row * 3 + (row % 5))
    begins.forEach((byte, row) => index.add(row, byte))
    assert.isAtMost(index.size(), 8)
    for (let row = 0; row < begins.length; row++) {
      const before = index.before(row)
      const after = index.after(row)
      assert.isAtMost(before.row, row)
      assert.strictEqual(before.byte, begins[before.row])
      if (after !== undefined) {
        assert.isAtLeast(after.row, row)
        assert.strictEqual(after.byte, begins[after.row])
      }
      // Two places are never farther apart than a fourth of all.
      assert.isAtMost((after?.row ?? begins.length) - before.row, begins.length / 2)
    }
  })
})
