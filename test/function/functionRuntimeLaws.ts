/**
 * `FunctionRuntimeLaws`: what a runtime keeps to, whatever its language (laws F1, F2 and F4). F3 and F5 are the engine's and the store's.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { randomBytes } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { ConsoleLine } from "../../src/function/ExecutionRecord.ts"
import type { FunctionError } from "../../src/function/FunctionError.ts"
import { type Call, FunctionRuntime } from "../../src/function/FunctionRuntime.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import type { Row } from "./javascriptAttempts.ts"

/** A runtime with the scripts of its language. */
export interface Subject {
  readonly language: string
  readonly layer: (options: {
    readonly maxWorkers: number
    readonly memoryBytes: number
  }) => Layer.Layer<FunctionRuntime>
  /** Adds `x` and `y` of its parameters, and writes `adding`. */
  readonly add: string
  /** Returns its context. */
  readonly context: string
  readonly escapes: (place: { readonly file: string; readonly url: string }) => ReadonlyArray<Row>
  readonly endless: ReadonlyArray<Row>
  readonly bombs: ReadonlyArray<Row>
  /** How much of the memory a script surely has for itself; the rest is the language's. */
  readonly share: number
  /** Takes so many mebibytes, one by one, and returns how many it has. */
  readonly takes: (mebibytes: number) => string
  readonly pollution: string
  readonly seen: string
  readonly seenClean: unknown
  /** Whether a worker serves several executions. */
  readonly reusesWorkers: boolean
  /** Cannot be read, in its second line. */
  readonly invalid: { readonly script: string; readonly column: number | undefined }
  /** Fails in its second line. */
  readonly fails: { readonly script: string; readonly name: string; readonly column: number | undefined }
}

// Half of what it takes to start a thread is to strip and compile its modules; that is done once for all of them.
process.env.NODE_COMPILE_CACHE ??= join(import.meta.dirname, "../../node_modules/.cache/holdfast-test-programs")

const memoryBytes = 32 * 1024 * 1024
const mebibyte = 1024 * 1024

/** A busy machine takes longer: what a law says is told of the time that a thread had, so the bound is wide and the figure printed. */
const within = () => inTimeOf(1000)

interface Ran {
  readonly exit: Exit.Exit<string, FunctionError>
  readonly lines: ReadonlyArray<ConsoleLine>
  readonly isTruncated: boolean
  readonly sandbox: string
}

const tagOf = (exit: Exit.Exit<unknown, FunctionError>) => {
  const error = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : undefined
  return error?._tag === "Some" ? error.value.reason._tag : exit._tag
}

/** The laws of one runtime. */
export const laws = (subject: Subject) => {
  const { language } = subject
  const callOf = (script: string, more: Partial<Call> = {}): Call => ({
    language,
    script,
    params: "null",
    context: "null",
    resultBytes: mebibyte,
    consoleBytes: 64 * 1024,
    onConsole: () => undefined,
    onDone: () => undefined,
    ...more
  })
  const run = (script: string, more: Partial<Call> = {}) =>
    Effect.gen(function* () {
      const { open } = yield* FunctionRuntime
      const sandbox = yield* open(language)
      const lines: Array<ConsoleLine> = []
      let isTruncated = false
      const onConsole = (line: ConsoleLine | undefined) => {
        if (line === undefined) isTruncated = true
        else lines.push(line)
      }
      const exit = yield* Effect.exit(sandbox.run(callOf(script, { onConsole, ...more })))
      return { exit, lines, isTruncated, sandbox: sandbox.id } satisfies Ran
    }).pipe(Effect.scoped)
  const result = (script: string, more?: Partial<Call>) =>
    Effect.map(run(script, more), ({ exit }) => {
      if (Exit.isFailure(exit)) throw new Error(`It failed: ${Cause.pretty(exit.cause)}`)
      return JSON.parse(exit.value) as unknown
    })
  /** The next execution finds everything as it should be. */
  const works = Effect.map(result(subject.add, { params: `{"x":1,"y":2}` }), (sum) => assert.strictEqual(sum, 3))
  const inUse = Effect.map(
    Effect.flatMap(Ledger.Ledger, ({ holdings }) => holdings),
    (all) => all.filter(({ kind }) => kind === "sandbox").length
  )
  const workers = Effect.map(
    Effect.flatMap(Ledger.Ledger, ({ holdings }) => holdings),
    (all) => all.filter(({ kind }) => kind === "worker").length
  )

  /** Runs a script that does not end, until it has written `on`. */
  const begin = Effect.fnUntraced(function* (script: string) {
    let isOn = false
    const onConsole = (line: ConsoleLine | undefined) => {
      if (line?.text === "on") isOn = true
    }
    const fiber = yield* Effect.forkDetach(run(script, { onConsole }))
    yield* eventually(
      Effect.sync(() => isOn),
      Boolean,
      "20 seconds"
    )
    return fiber
  })

  describe(`FunctionRuntimeLaws: ${language}`, () => {
    layer(subject.layer({ maxWorkers: 2, memoryBytes }).pipe(Layer.provideMerge(Layer.fresh(Ledger.layer))), {
      excludeTestServices: true
    })((it) => {
      it.effect("an execution returns JSON, and what it wrote", () =>
        Effect.gen(function* () {
          const { exit, lines } = yield* run(subject.add, { params: `{"x":1.5,"y":2}` })
          assert.deepStrictEqual(exit, Exit.succeed("3.5"))
          assert.deepStrictEqual(lines, [{ level: "log", text: "adding" }])
          assert.deepStrictEqual(yield* result(subject.context, { context: `{"a":["ü",null,true]}` }), {
            a: ["ü", null, true]
          })
        })
      )

      it.effect("a script that cannot be read, and one that fails, say where", () =>
        Effect.gen(function* () {
          const { open } = yield* FunctionRuntime
          const { fails, invalid } = subject
          const check = (script: string) =>
            Effect.exit(Effect.scoped(Effect.flatMap(open(language), (sandbox) => sandbox.check({ language, script }))))
          assert.isTrue(Exit.isSuccess(yield* check(subject.add)))
          const refused = yield* Effect.flip(Effect.flatten(Effect.succeed(yield* check(invalid.script))))
          assert.deepInclude(refused.reason, { _tag: "ScriptInvalid", line: 2 })
          if (invalid.column !== undefined) assert.deepInclude(refused.reason, { column: invalid.column })
          const { exit } = yield* run(fails.script)
          const failed = yield* Effect.flip(Effect.flatten(Effect.succeed(exit)))
          assert.deepInclude(failed.reason, { _tag: "ScriptFailed", name: fails.name, line: 2 })
          if (fails.column !== undefined) assert.deepInclude(failed.reason, { column: fails.column })
        })
      )

      it.effect("F1 an execution stops within a second of its interruption, whatever its script does", () =>
        Effect.gen(function* () {
          const late: Array<string> = []
          const times: Array<number> = []
          const stop = ([what, script]: Row) =>
            Effect.gen(function* () {
              const fiber = yield* begin(script)
              const begun = performance.now()
              yield* Fiber.interrupt(fiber)
              const took = performance.now() - begun
              times.push(took)
              if (took >= within()) late.push(`${what}: ${took.toFixed(0)} ms`)
              yield* works
            })
          yield* Effect.forEach(subject.endless, stop, { concurrency: 2, discard: true })
          assert.deepStrictEqual(late, [])
          assert.strictEqual(yield* inUse, 0)
          console.info(
            `${language}: ${times.length} endless scripts stopped within ${Math.max(...times).toFixed(1)} ms`
          )
        })
      )

      it.effect("F1 a thread that is ended by force runs no other script, also when its own stopped just before", () =>
        Effect.gen(function* () {
          const [[, script] = assert.fail()] = subject.endless
          const running = [yield* begin(script), yield* begin(script)]
          // All workers are taken: these wait.
          const next = yield* Effect.forkChild(Effect.all([works, works], { concurrency: 2 }), {
            startImmediately: true
          })
          const stopped = yield* Effect.forkChild(Fiber.interruptAll(running), { startImmediately: true })
          // The program is busy until the scripts' time to stop is over. A turn of the loop looks at timers first, and at messages then.
          yield* Effect.yieldNow
          const until = performance.now() + 300
          while (performance.now() < until);
          yield* Fiber.join(stopped)
          yield* Fiber.join(next)
        })
      )

      it.effect("F2 a script reaches nothing outside its sandbox", () =>
        Effect.gen(function* () {
          const secret = randomBytes(16).toString("hex")
          const directory = mkdtempSync(join(tmpdir(), "holdfast-escape-"))
          const file = join(directory, "secret.mjs")
          writeFileSync(file, `export default ${JSON.stringify(secret)}`)
          let requests = 0
          const server = createServer((_, response) => {
            requests++
            response.end(secret)
          })
          process.env.HOLDFAST_TEST_SECRET = secret
          yield* Effect.addFinalizer(() =>
            Effect.sync(() => {
              delete process.env.HOLDFAST_TEST_SECRET
              rmSync(directory, { recursive: true })
              server.close()
            })
          )
          yield* Effect.promise(() => new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve)))
          const { port } = server.address() as AddressInfo
          const rows = subject.escapes({ file, url: `http://127.0.0.1:${port}/` })
          const globals = new Set(Object.getOwnPropertyNames(globalThis))
          const escaped: Array<string> = []
          const params = `{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}`
          const attempt = ([tries, script]: Row) =>
            Effect.map(Effect.timeout(run(script, { params }), "10 seconds"), ({ exit, lines }) => {
              const text = JSON.stringify([lines, exit])
              const isOut = Exit.isSuccess(exit) && exit.value.includes("escaped")
              if (isOut || text.includes(secret)) escaped.push(`${tries}: ${text}`)
            })
          yield* Effect.forEach(rows, attempt, { concurrency: 2, discard: true })
          assert.deepStrictEqual(escaped, [])
          assert.isAtLeast(rows.length, 40)
          assert.strictEqual(requests, 0)
          assert.deepStrictEqual(
            Object.getOwnPropertyNames(globalThis).filter((name) => !globals.has(name)),
            []
          )
          assert.isUndefined(({} as { readonly polluted?: unknown }).polluted)
          yield* works
        }).pipe(Effect.scoped)
      )

      it.effect("F2 no execution sees what another left, in the same worker", () =>
        Effect.gen(function* () {
          const clean = yield* run(subject.seen)
          assert.deepStrictEqual(yield* result(subject.seen), subject.seenClean)
          const polluted = new Set<string>()
          let met = 0
          for (let round = 0; round < 6; round++) {
            const left = yield* run(subject.pollution)
            const after = yield* run(subject.seen)
            polluted.add(left.sandbox)
            if (polluted.has(after.sandbox)) met++
            assert.deepStrictEqual(after.exit, clean.exit)
            assert.deepStrictEqual(after.lines, clean.lines)
          }
          assert.strictEqual(met > 0, subject.reusesWorkers)
        })
      )

      it.effect("F4 what exceeds memory, stack, output or result fails, and the process goes on", () =>
        Effect.gen(function* () {
          const survived: Array<string> = []
          const explode = ([what, script]: Row) =>
            Effect.gen(function* () {
              // Some take more time than memory: their deadline ends them.
              const ran = yield* Effect.timeoutOption(run(script), "1 second")
              if (ran._tag === "None") return
              const { exit, lines } = ran.value
              const written = lines.reduce((sum, { text }) => sum + text.length + 16, 0)
              if (Exit.isSuccess(exit) || written > 64 * 1024)
                survived.push(`${what}: ${tagOf(exit)}, ${written} written`)
              yield* works
            })
          yield* Effect.forEach(subject.bombs, explode, { concurrency: 2, discard: true })
          assert.deepStrictEqual(survived, [])
          assert.strictEqual(yield* inUse, 0)
        })
      )

      it.effect("F4 a script has its memory, and no more", () =>
        Effect.gen(function* () {
          const had = subject.share * (memoryBytes / mebibyte)
          assert.deepStrictEqual((yield* run(subject.takes(had))).exit, Exit.succeed(JSON.stringify(had)))
          const { exit } = yield* run(subject.takes((2 * memoryBytes) / mebibyte))
          assert.isTrue(Exit.isFailure(exit))
          yield* works
        })
      )

      it.effect("F4 the memory that bombs took is given back, and no worker is too many", () =>
        Effect.gen(function* () {
          yield* works
          const before = process.memoryUsage.rss()
          yield* Effect.forEach(
            subject.bombs.slice(0, 4),
            ([, script]) => Effect.timeoutOption(run(script), "1 second"),
            { concurrency: 2 }
          )
          yield* works
          yield* eventually(workers, (count) => count <= 2)
          const grown =
            (yield* eventually(
              Effect.sync(() => process.memoryUsage.rss() - before),
              (bytes) => bytes < 64 * mebibyte,
              "20 seconds"
            )) / mebibyte
          console.info(`${language}: resident memory after bombs ${grown >= 0 ? "+" : ""}${grown.toFixed(1)} MiB`)
        })
      )
    })

    it.live("F1 closing the runtime in the middle of endless loops leaves no worker, and no handle", () =>
      Effect.gen(function* () {
        const handles = () => process.getActiveResourcesInfo().filter((kind) => /worker|message/i.test(kind)).length
        const before = handles()
        const ledger = yield* Ledger.Ledger
        const [, script = ""] = subject.endless.at(-1) ?? []
        yield* Effect.gen(function* () {
          const fibers = [yield* begin(script), yield* begin(script)]
          yield* Fiber.interruptAll(fibers)
        }).pipe(Effect.provide(subject.layer({ maxWorkers: 2, memoryBytes })))
        assert.deepStrictEqual(yield* ledger.holdings, [])
        assert.strictEqual(handles(), before)
      }).pipe(Effect.provide(Layer.fresh(Ledger.layer)))
    )
  })
}
