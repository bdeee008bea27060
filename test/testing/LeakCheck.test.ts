import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { readFileSync } from "node:fs"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as LeakCheck from "../../src/testing/LeakCheck.ts"
import { freshDatabase } from "../support/postgres.ts"
import * as Suite from "../support/suite.ts"

const file = "test/support/suites/leaking.ts"
/** Where a text stands in the file. */
const lineOf = (text: string) =>
  readFileSync(file, "utf8")
    .split("\n")
    .findIndex((line) => line.includes(text)) + 1

describe("LeakCheck.suite", () => {
  const run = (leaks: "yes" | "no") =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const connection = yield* PgConnection.make({ url })
      yield* connection.query("create table fruit (name text)")
      return yield* Suite.run(file, { HOLDFAST_SUITE_URL: Redacted.value(url), HOLDFAST_SUITE_LEAKS: leaks })
    }).pipe(Effect.scoped)

  it.live("fails a file that leaks, and names each leak with its place and its test", () =>
    Effect.gen(function* () {
      const { failures, output, passed } = yield* run("yes")
      assert.strictEqual(passed, 8, "each test passes by itself")
      assert.strictEqual(failures.size, 0)
      const found = /It is over, and (\d+|one) things? (?:is|are) still there.*\n((?: {2}.*\n?)+)/.exec(output)
      const lines = (found?.[2] ?? "").split("\n").map((line) => line.trim())
      const told = (pattern: RegExp) => lines.some((line) => pattern.test(line))
      const at = (text: string) => `${file}:${lineOf(text)}:\\d+\\)?, in the test "`
      assert.isTrue(
        told(new RegExp(`^shop corner, acquired at .*leaking.ts:\\d+:\\d+\\)?, in the test "leaks a connection"`)),
        output
      )
      assert.isTrue(
        told(
          /^backend \d+ of database holdfast_test_\w+ \(application forgetful, idle, last statement: select 'forgotten'\)/
        ),
        output
      )
      assert.isTrue(told(/^socket to .*, in the test "leaks a connection"/), output)
      assert.isTrue(
        told(new RegExp(`^fiber #\\d+, acquired at .*leaking.ts:\\d+:\\d+\\)?, in the test "leaks a fiber"`)),
        output
      )
      assert.isTrue(
        told(new RegExp(`^timer that repeats every 54321 ms, acquired at .*${at("setInterval")}leaks a timer"`)),
        output
      )
      assert.isTrue(
        told(/^1 row left in table public.fruit of database holdfast_test_\w+.*, in the test "leaks a row"/),
        output
      )
      assert.isTrue(told(/^timer of 3600000 ms, .*, in the test "leaks a sleeper"/), output)
      assert.isTrue(
        told(new RegExp(`^listener for SIGUSR2 on the process, acquired at .*${at("SIGUSR2")}leaks a listener"`)),
        output
      )
      assert.isTrue(
        told(new RegExp(`^server that listens: .*, acquired at .*${at("createServer().listen")}leaks a server"`)),
        output
      )
      assert.strictEqual(lines.filter((line) => line.includes("borrows a connection")).length, 0, output)
    })
  )

  it.live("lets a file pass that holds something itself, and releases it at its end", () =>
    Effect.gen(function* () {
      const { output, passed } = yield* run("no")
      assert.strictEqual(passed, 1)
      assert.notInclude(output, "still there")
    })
  )
})

describe("LeakCheck.around", () => {
  const found = <A, E>(test: Effect.Effect<A, E>) => Effect.flip(LeakCheck.around()(test))

  it.live("lets a test pass that closes what it opens, a moment later at most", () =>
    LeakCheck.around()(
      Effect.gen(function* () {
        yield* Effect.scoped(Ledger.hold({ kind: "thing", id: "a" }, Effect.void, () => Effect.void))
        yield* Effect.forkDetach(Effect.sleep("30 millis"))
        setTimeout(() => undefined, 30)
        yield* Effect.forkChild(Effect.never)
      })
    )
  )

  it.live("prints the tree of what is held, with the places", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const outer = Effect.fn("outer")(function* () {
        yield* Ledger.hold({ kind: "house", id: "red" }, Effect.void, () => Effect.void)
      })
      const error = yield* found(Scope.provide(outer(), scope))
      yield* Scope.close(scope, Exit.void)
      assert.match(error.message, /one thing is still there.*:\n {2}house red, acquired at .*LeakCheck\.test\.ts:\d+/)
    })
  )

  it.live("counts from its beginning, and tells a fiber and a timer", () =>
    Effect.gen(function* () {
      const before = yield* Effect.forkDetach(Effect.never)
      const old = setInterval(() => undefined, 1000)
      let timer: NodeJS.Timeout | undefined
      let fiber: Fiber.Fiber<never> | undefined
      const error = yield* found(
        Effect.gen(function* () {
          fiber = yield* Effect.forkDetach(Effect.never)
          timer = setInterval(() => undefined, 4321)
        })
      )
      clearInterval(timer)
      clearInterval(old)
      yield* Fiber.interrupt(before)
      if (fiber !== undefined) yield* Fiber.interrupt(fiber)
      const leaks = error instanceof LeakCheck.LeaksFound ? error.leaks : []
      assert.deepStrictEqual(
        leaks.map(({ kind, what }) => [kind, what.replace(/#\d+$/, "#…")]),
        [
          ["fiber", "fiber #…"],
          ["handle", "timer that repeats every 4321 ms"]
        ]
      )
      assert.match(leaks[1]?.place ?? "", /LeakCheck\.test\.ts:\d+/)
    })
  )

  it.live("tells what is open before the fibers that work for it, and those of one place in one line", () =>
    Effect.gen(function* () {
      const fibers: Array<Fiber.Fiber<never>> = []
      let timer: NodeJS.Timeout | undefined
      const begin = Effect.fn("begin")(function* () {
        fibers.push(yield* Effect.forkDetach(Effect.never))
      })
      const error = yield* found(
        Effect.gen(function* () {
          for (let count = 0; count < 3; count++) yield* begin()
          timer = setTimeout(() => undefined, 60_000.25)
        })
      )
      clearTimeout(timer)
      yield* Fiber.interruptAll(fibers)
      const [title, first, second, ...rest] = error instanceof LeakCheck.LeaksFound ? error.message.split("\n") : []
      assert.match(title ?? "", /, and 4 things are still there/)
      assert.match(first ?? "", /^ {2}timer of 60000 ms, acquired at .*LeakCheck\.test\.ts:\d+/)
      assert.match(second ?? "", /^ {2}3 fibers, acquired at .*LeakCheck\.test\.ts:\d+/)
      assert.deepStrictEqual(rest, [])
    })
  )

  it.live("a listener that was taken away for a while is none", () =>
    Effect.gen(function* () {
      const listener = () => undefined
      process.on("SIGUSR2", listener)
      yield* LeakCheck.around()(
        Effect.sync(() => {
          process.off("SIGUSR2", listener)
          process.on("SIGUSR2", listener)
        })
      )
      process.off("SIGUSR2", listener)
    })
  )

  it.live("places a fiber by the function that it runs, where nothing says in which it was begun", () =>
    Effect.gen(function* () {
      let fiber: Fiber.Fiber<never> | undefined
      const poll = Effect.fn("poll")(() => Effect.never)
      const begin = Effect.map(Effect.forkDetach(poll(), { startImmediately: true }), (begun) => {
        fiber = begun
      })
      const error = yield* found(begin)
      if (fiber !== undefined) yield* Fiber.interrupt(fiber)
      assert.match(error.message, /fiber #\d+, acquired at .*LeakCheck\.test\.ts:\d+/)
    })
  )

  it.live("keeps the failure of the test, and leaves everything as it was", () =>
    Effect.gen(function* () {
      const listeners = process.listenerCount("newListener")
      assert.strictEqual(yield* found(Effect.fail("broken")), "broken")
      yield* LeakCheck.around()(Effect.void)
      assert.strictEqual(process.listenerCount("newListener"), listeners)
    })
  )
})
