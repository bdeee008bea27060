/** The engine over QuickJS and the store in memory: how executions end, whose they are, and who waits. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { FunctionError } from "../../src/function/FunctionError.ts"
import { FunctionRuntime } from "../../src/function/FunctionRuntime.ts"
import * as Functions from "../../src/function/Functions.ts"
import * as SandboxWorkers from "../../src/function/internal/SandboxWorkers.ts"
import * as HostCall from "../../src/function/HostCall.ts"
import * as MemoryFunctionStore from "../../src/function/MemoryFunctionStore.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as QuickJsRuntime from "../../src/quickjs/QuickJsRuntime.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"

const alice = "alice"
const loop = `export default () => { console.log("on"); for (;;); }`
const sum = `export default ({ x, y }, context) => x + y + (context?.z ?? 0)`

/** A runtime over workers of one's own. */
const workers = (options: Pick<SandboxWorkers.Options, "name" | "file" | "workerData">) =>
  Layer.effect(
    FunctionRuntime,
    Effect.map(
      SandboxWorkers.make({ ...options, maxWorkers: 1, idleTime: "1 minute", memoryBytes: 2 ** 24, host: {} }),
      ({ open }) => FunctionRuntime.of({ languages: ["javascript"], open: () => open })
    )
  )

const startsOnce = Layer.unwrap(
  Effect.sync(() =>
    workers({
      name: "once",
      file: new URL("../support/oneStartWorker.ts", import.meta.url),
      workerData: { starts: new Int32Array(new SharedArrayBuffer(4)) }
    })
  )
)

/** No thread is made of what is no file. */
const startsNever = workers({ name: "never", file: new URL("http://127.0.0.1/worker.ts"), workerData: {} })

/** An engine of one's own, closed by hand or with the current scope. */
const open = Effect.fnUntraced(function* (
  options: Functions.Options = {},
  runtime: Layer.Layer<FunctionRuntime> = QuickJsRuntime.layer({ maxWorkers: 2 })
) {
  const services = yield* Layer.build(Layer.merge(runtime, MemoryFunctionStore.layer))
  const scope = yield* Scope.fork(yield* Effect.scope)
  const functions = yield* Functions.make({ drain: 0, maxRunning: 2, ...options }).pipe(
    Scope.provide(scope),
    Effect.provide(services)
  )
  const create = (script: string, principal = alice) => functions.create({ principal, language: "javascript", script })
  const execute = (script: string, more: Partial<Functions.Submission> = {}) =>
    Effect.flatMap(create(script, more.principal), ({ id }) =>
      functions.execute({ principal: alice, function: id, ...more })
    )
  /** Executes a script that never returns, until it runs. */
  const begin = (more: Partial<Functions.Submission> = {}, script = loop) =>
    Effect.flatMap(execute(script, more), ({ id }) =>
      eventually(functions.status(more.principal ?? alice, id), ({ console }) => console.length > 0)
    )
  return { functions, create, execute, begin, close: Scope.close(scope, Exit.void) }
})

const alone = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  effect.pipe(Effect.scoped, Effect.andThen(LedgerRecorder.assertEmpty()), Effect.provide(Layer.fresh(Ledger.layer)))

const reasonOf = <A>(effect: Effect.Effect<A, FunctionError>) => Effect.map(Effect.flip(effect), ({ reason }) => reason)

const ended = ["execution ending", "sandbox released", "execution released", "function ending", "function released"]
const done = ["sandbox released", "execution ending", "function ending", "execution released", "function released"]
const endOf = (story: ReadonlyArray<string>) =>
  story.filter((step) => !step.endsWith("acquired") && !step.startsWith("worker"))

/** What happened to an execution and its function, in order. The use of a function is over a moment after its last execution. */
const assertStory = (recorder: LedgerRecorder.LedgerRecorder, expected: ReadonlyArray<string>) =>
  Effect.map(
    eventually(
      Effect.sync(() => endOf(recorder.story("function"))),
      (story) => story.includes("function released")
    ),
    (story) => {
      assert.sameMembers([...story], [...expected])
      const at = (step: string) => story.indexOf(step)
      assert.isBelow(at("sandbox released"), at("execution released"))
      if (expected === ended) assert.isBelow(at("execution ending"), at("sandbox released"))
    }
  )

describe("the exits of an execution: asked to stop, stopped, sandbox released, exactly once", () => {
  it.live("finished", () =>
    alone(
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { execute, functions } = yield* open()
        const { id } = yield* execute(sum, { params: `{"x":1,"y":2}` })
        const record = yield* functions.await(alice, id)
        assert.deepInclude(record, { state: "Succeeded", result: "3", error: null })
        assert.deepStrictEqual(
          record.transitions.map(({ state }) => state),
          ["Queued", "Starting", "Running", "Succeeded"]
        )
        yield* assertStory(recorder, done)
      })
    )
  )

  it.live("failed", () =>
    alone(
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { execute, functions } = yield* open()
        const { id } = yield* execute(`export default () => {\n  null.x\n}`)
        const record = yield* functions.await(alice, id)
        assert.strictEqual(record.state, "Failed")
        assert.deepInclude(record.error, { _tag: "ScriptFailed", name: "TypeError", line: 2 })
        yield* assertStory(recorder, done)
      })
    )
  )

  it.live("failed launch: what it had acquired is released", () =>
    alone(
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { execute, functions } = yield* open({ maxRunning: 1 }, startsOnce)
        // The one worker that starts reads the script. Each execution needs another one.
        const { function: id, id: first } = yield* execute(sum)
        const { id: second } = yield* functions.execute({ principal: alice, function: id })
        for (const each of [first, second]) {
          const { console, error, ms, state, transitions } = yield* functions.await(alice, each)
          assert.deepStrictEqual([state, ms, console], ["Failed", null, []])
          assert.deepStrictEqual(
            transitions.map((step) => step.state),
            ["Queued", "Starting", "Failed"]
          )
          assert.strictEqual(error?._tag, "FunctionsUnavailable")
          assert.strictEqual(error?.message, "No worker of once could be started: there is no room for a thread")
        }
        const story = yield* eventually(
          Effect.sync(() => endOf(recorder.story("function"))),
          (steps) => steps.includes("function released")
        )
        assert.strictEqual(story.filter((step) => step === "execution released").length, 2)
        assert.isFalse(story.some((step) => step.startsWith("sandbox")))
      })
    )
  )

  it.live("a thread that the system refuses at once is a failed launch, too", () =>
    alone(
      Effect.gen(function* () {
        const { execute } = yield* open({}, startsNever)
        const reason = yield* reasonOf(execute(sum))
        assert.strictEqual(reason._tag, "FunctionsUnavailable")
      })
    )
  )

  it.live("no worker is ever free: reading the script waits, and is given up with its place", () =>
    alone(
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { execute, functions } = yield* open({}, QuickJsRuntime.layer({ maxWorkers: 0 }))
        const { reason } = yield* Effect.flip(Effect.timeout(execute(sum), "1 second")).pipe(
          Effect.map((error) => (error._tag === "FunctionError" ? error : { reason: { _tag: "late" } }))
        )
        assert.strictEqual(reason._tag, "late")
        assert.deepStrictEqual(recorder.story("function"), [])
        assert.deepStrictEqual((yield* functions.executions(alice)).executions, [])
      })
    )
  )

  it.live("cancelled, by several at once", () =>
    alone(
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { begin, functions } = yield* open()
        const { id } = yield* begin()
        const cancels = yield* Effect.all([functions.cancel(alice, id), functions.cancel(alice, id)], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(
          cancels.map(({ error, state }) => [state, error?._tag]),
          [
            ["Canceled", "ExecutionCanceled"],
            ["Canceled", "ExecutionCanceled"]
          ]
        )
        yield* assertStory(recorder, ended)
      })
    )
  )

  it.live("cancelled, as the last work of its session: the reason is the cancel, not the session's end", () =>
    alone(
      Effect.gen(function* () {
        const { begin, functions } = yield* open()
        const scope = yield* Effect.scope
        const owner = yield* Lifetime.make(scope, { kind: "session", id: "s", endWithLastChild: true })
        const { id } = yield* begin({ owner })
        assert.strictEqual((yield* functions.cancel(alice, id)).error?._tag, "ExecutionCanceled")
        yield* owner.ended
      })
    )
  )

  it.live("past its deadline", () =>
    alone(
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { begin, functions } = yield* open()
        const { id } = yield* begin({ deadline: "1 second" })
        const record = yield* functions.await(alice, id)
        assert.deepInclude(record.error, { _tag: "ExecutionDeadlineExceeded", afterMillis: 1000 })
        assert.strictEqual(record.state, "Failed")
        yield* assertStory(recorder, ended)
      })
    )
  )

  it.live("the session it belongs to ended", () =>
    alone(
      Effect.gen(function* () {
        const recorder = yield* LedgerRecorder.make
        const { begin, functions } = yield* open()
        const owner = yield* Lifetime.scoped({ kind: "session", id: "s" })
        const { id } = yield* begin({ owner })
        yield* owner.end()
        // Known by the time that the logout returns.
        const record = yield* functions.status(alice, id)
        assert.deepInclude(record, { state: "Canceled" })
        assert.strictEqual(record.error?._tag, "SessionEnded")
        yield* assertStory(recorder, ended)
      })
    )
  )

  it.live("its function was ended", () =>
    alone(
      Effect.gen(function* () {
        const { begin, functions } = yield* open()
        const record = yield* begin()
        yield* functions.end(alice, record.function)
        const over = yield* functions.status(alice, record.id)
        assert.deepStrictEqual([over.state, over.error?._tag], ["Canceled", "FunctionEnded"])
        const gone = yield* reasonOf(functions.execute({ principal: alice, function: record.function }))
        assert.strictEqual(gone._tag, "FunctionNotFound")
      })
    )
  )

  it.live("the engine closed, with executions that run and that wait", () =>
    alone(
      Effect.gen(function* () {
        const { begin, close, create, functions } = yield* open({ maxRunning: 2, reservedRunning: 0 })
        const { id: waits } = yield* create(sum)
        yield* Effect.all([begin(), begin()], { concurrency: "unbounded" })
        const { id } = yield* functions.execute({ principal: alice, function: waits })
        const waiting = yield* Effect.forkChild(Effect.exit(functions.await(alice, id)), { startImmediately: true })
        const begun = performance.now()
        yield* close
        assert.isBelow(performance.now() - begun, 2000)
        assert.isDefined(waiting.pollUnsafe())
        assert.strictEqual(
          (yield* reasonOf(functions.create({ principal: alice, language: "javascript", script: sum })))._tag,
          "FunctionsUnavailable"
        )
      })
    )
  )
})

describe("F1 stops within a second", () => {
  it.live("a loop that is ended by a cancel, a logout or the end of its function, again and again", () =>
    alone(
      Effect.gen(function* () {
        const { begin, functions } = yield* open()
        const all: Array<number> = []
        const timed = <A, E>(end: Effect.Effect<A, E>) =>
          Effect.map(Effect.timed(end), ([took]) => void all.push(Duration.toMillis(took)))
        const cancel = Effect.flatMap(begin(), ({ id }) => timed(functions.cancel(alice, id)))
        const logout = Effect.gen(function* () {
          const owner = yield* Lifetime.make(yield* Effect.scope, { kind: "session", id: "s" })
          yield* begin({ owner })
          yield* timed(owner.end())
        })
        const end = Effect.flatMap(begin(), (record) => timed(functions.end(alice, record.function)))
        for (let tries = 0; tries < 10 * scale; tries++) yield* Effect.all([cancel, logout, end], { discard: true })
        const sorted = all.toSorted((a, b) => a - b)
        const p99 = sorted[Math.floor(sorted.length * 0.99)] ?? 0
        console.info(`${sorted.length} endless loops stopped, p99 ${p99.toFixed(1)} ms`)
        assert.isBelow(p99, inTimeOf(1000))
      })
    )
  )
})

describe("what a script may call", () => {
  const Host = Effect.gen(function* () {
    let leases = 0
    const reached = yield* Deferred.make<void>()
    const lease = HostCall.make({
      args: Schema.Tuple([]),
      success: Schema.String,
      run: () =>
        Effect.scoped(
          Effect.gen(function* () {
            yield* Ledger.hold({ kind: "lease", id: "1" }, Effect.void, () => Effect.void)
            if (++leases === 2) yield* Deferred.succeed(reached, undefined)
            return yield* Effect.never
          })
        )
    })
    const add = HostCall.make({
      args: Schema.Tuple([Schema.Finite, Schema.Finite]),
      success: Schema.Finite,
      run: ([x, y]) => (x < 0 ? Effect.fail(new Error("x is less than nothing")) : Effect.succeed(x + y))
    })
    return { reached, host: { lease, add } }
  })

  it.live("is named by the program, typed, and fails where it is awaited", () =>
    alone(
      Effect.gen(function* () {
        const { host } = yield* Host
        const { execute, functions } = yield* open({}, QuickJsRuntime.layer({ maxWorkers: 1, host }))
        const { id } = yield* execute(`export default async () => {
          const all = await Promise.all([host.add(1, 2), host.add(3, 4)])
          for (const call of [() => host.add(-1, 1), () => host.add("1", 2)]) all.push(await call().catch((e) => e.message.slice(0, 24)))
          all.push(typeof host.sub, Object.isFrozen(host))
          return all
        }`)
        const { result } = yield* functions.await(alice, id)
        const [three, seven, less, invalid, sub, frozen] = JSON.parse(result ?? "[]") as ReadonlyArray<unknown>
        assert.deepStrictEqual([three, seven, less, sub, frozen], [3, 7, "x is less than nothing", "undefined", true])
        assert.include(String(invalid), "Expected")
      })
    )
  )

  it.live("is interrupted with it: the lease is back after the script stopped, before the sandbox is released", () =>
    alone(
      Effect.gen(function* () {
        const { host, reached } = yield* Host
        const recorder = yield* LedgerRecorder.make
        const { execute, functions } = yield* open({}, QuickJsRuntime.layer({ maxWorkers: 1, host }))
        const { id } = yield* execute(`export default async () => { host.lease(); await host.lease() }`)
        yield* Deferred.await(reached)
        const { error, state } = yield* functions.cancel(alice, id)
        assert.deepStrictEqual([state, error?._tag], ["Canceled", "ExecutionCanceled"])
        const story = endOf(recorder.story("execution"))
        assert.deepStrictEqual(story, [
          "execution ending",
          "lease released",
          "lease released",
          "sandbox released",
          "execution released"
        ])
      })
    )
  )
})

describe("F5 a principal sees and executes only its own functions", () => {
  it.live("what is somebody else's is answered as if there were none", () =>
    alone(
      Effect.gen(function* () {
        const { create, functions } = yield* open()
        const { id } = yield* create(sum)
        const execution = yield* functions.execute({ principal: alice, function: id, params: `{"x":1,"y":1}` })
        yield* functions.await(alice, execution.id)
        const tags = yield* Effect.forEach(
          [
            functions.find("bob", id),
            functions.execute({ principal: "bob", function: id }),
            functions.end("bob", id),
            functions.status("bob", execution.id),
            functions.cancel("bob", execution.id),
            functions.await("bob", execution.id)
          ] as ReadonlyArray<Effect.Effect<unknown, FunctionError>>,
          (asked) => Effect.map(reasonOf(asked), ({ _tag }) => _tag)
        )
        assert.deepStrictEqual(tags, [
          "FunctionNotFound",
          "FunctionNotFound",
          "FunctionNotFound",
          "ExecutionNotFound",
          "ExecutionNotFound",
          "ExecutionNotFound"
        ])
        assert.deepStrictEqual((yield* functions.list("bob")).functions, [])
        assert.deepStrictEqual((yield* functions.executions("bob")).executions, [])
        assert.strictEqual((yield* functions.find(alice, id)).script, sum)
      })
    )
  )

  it.live("whatever one runs, another finds a place at once; who asks for too much is rejected", () =>
    alone(
      Effect.gen(function* () {
        const { begin, create, execute, functions } = yield* open({ maxRunning: 2, maxWaitingPerPrincipal: 2 })
        const { id } = yield* create(sum)
        yield* begin()
        const submit = functions.execute({ principal: alice, function: id })
        yield* submit
        yield* submit
        assert.deepInclude(yield* reasonOf(submit), { _tag: "FunctionRejected", limit: "waitingOfPrincipal" })
        const theirs = yield* execute(sum, { principal: "bob", params: `{"x":1,"y":2}` })
        assert.strictEqual((yield* functions.await("bob", theirs.id)).result, "3")
      })
    )
  )
})

describe("F4 the bounds of functions", () => {
  it.live("a script, a context and parameters have a length, and a principal so many functions", () =>
    alone(
      Effect.gen(function* () {
        const { create, functions } = yield* open({
          maxScriptBytes: 100,
          maxContextBytes: 10,
          maxParamsBytes: 10,
          maxFunctionsPerPrincipal: 2
        })
        const given = { principal: alice, language: "javascript", script: sum }
        assert.deepInclude(yield* reasonOf(create(`${sum} // ${"x".repeat(100)}`)), {
          _tag: "FunctionTooLarge",
          what: "script"
        })
        assert.deepInclude(yield* reasonOf(functions.create({ ...given, context: `"${"x".repeat(10)}"` })), {
          what: "context"
        })
        assert.deepInclude(yield* reasonOf(functions.create({ ...given, language: "cobol" })), {
          _tag: "LanguageUnknown"
        })
        assert.deepInclude(yield* reasonOf(create("export default (")), { _tag: "ScriptInvalid", line: 1 })
        const { id } = yield* create(sum)
        assert.deepInclude(
          yield* reasonOf(functions.execute({ principal: alice, function: id, params: `"${"x".repeat(10)}"` })),
          { what: "params" }
        )
        yield* create(sum)
        assert.deepInclude(yield* reasonOf(create(sum)), {
          _tag: "FunctionRejected",
          limit: "functionsOfPrincipal",
          count: 2
        })
      })
    )
  )

  it.live("records of executions that are over are so many, the oldest goes first", () =>
    alone(
      Effect.gen(function* () {
        const { create, functions } = yield* open({ maxKeptPerPrincipal: 3 })
        const { id } = yield* create(sum)
        const ids = yield* Effect.forEach(Array.from({ length: 5 }), () =>
          Effect.flatMap(functions.execute({ principal: alice, function: id, params: `{"x":1,"y":1}` }), (record) =>
            Effect.as(functions.await(alice, record.id), record.id)
          )
        )
        const { executions } = yield* functions.executions(alice)
        assert.deepStrictEqual(
          executions.map((record) => record.id),
          ids.slice(2).toReversed()
        )
      })
    )
  )
})
