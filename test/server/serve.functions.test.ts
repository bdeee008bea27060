/** Functions over HTTP, on two instances with the database between them. */
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { type Answer, type Browser, cookieName, make, problemOf, submit } from "../support/browser.ts"
import { scale } from "../../src/testing/InterruptSweep.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import * as Service from "../support/service.ts"
import * as Threads from "../support/threads.ts"
import * as Turns from "../support/turns.ts"

const on = { HOLDFAST_FUNCTIONS: "on", HOLDFAST_ORIGIN: "http://localhost:3000" }

class Pair extends Context.Service<
  Pair,
  { readonly a: Service.Service; readonly b: string; readonly demo: Browser; readonly there: Browser }
>()("test/Functions/Pair") {}

/** The same session on another instance. */
const copyOf = (browser: Browser, url: string) => {
  const copy = make(url)
  for (const [name, value] of browser.cookies) copy.cookies.set(name, value)
  return copy
}

const PairLive = Layer.effect(
  Pair,
  Effect.gen(function* () {
    const a = yield* Service.startService({ env: on })
    const beside = yield* Service.launch({ args: ["serve"], env: a.env })
    const b = yield* Service.listening(beside)
    yield* Service.ready(b)
    const demo = yield* a.login()
    return Pair.of({ a, b, demo, there: copyOf(demo, b) })
  })
)

const Execution = Schema.Struct({
  id: Schema.String,
  function: Schema.String,
  state: Schema.String,
  result: Schema.optionalKey(Schema.Json),
  error: Schema.optionalKey(
    Schema.Struct({
      code: Schema.String,
      message: Schema.String,
      name: Schema.optionalKey(Schema.String),
      line: Schema.optionalKey(Schema.Int),
      column: Schema.optionalKey(Schema.Int),
      stack: Schema.optionalKey(Schema.String)
    })
  ),
  console: Schema.Array(Schema.Struct({ level: Schema.String, text: Schema.String })),
  consoleTruncated: Schema.Boolean,
  ms: Schema.NullOr(Schema.Finite)
})
const executionOf = ({ json }: Answer) => Schema.decodeUnknownSync(Execution)(json)
const idOf = ({ json }: Answer) => Schema.decodeUnknownSync(Schema.Struct({ id: Schema.String }))(json).id

const create = (browser: Browser, script: string, more: object = {}) =>
  Effect.map(browser.send("POST", "/functions", { json: { language: "javascript", script, ...more } }), (answer) => {
    assert.strictEqual(answer.status, 201, answer.text)
    assert.strictEqual(answer.headers.get("location"), `/functions/${idOf(answer)}`)
    return idOf(answer)
  })
const execute = (browser: Browser, id: string, json: object = {}) =>
  browser.send("POST", `/functions/${id}/executions`, { json })

const sum = "export default ({ x, y }, context) => { console.log('adding'); return x + y + (context?.z ?? 0) }"
const loop = "export default () => { console.log('on'); for (;;); }"

/** Executes an endless loop until it runs. */
const begin = (browser: Browser, more: object = {}) =>
  Effect.gen(function* () {
    const answer = yield* execute(browser, yield* create(browser, loop), { wait: 0, ...more })
    assert.strictEqual(answer.status, 202, answer.text)
    const id = idOf(answer)
    assert.strictEqual(answer.headers.get("location"), `/executions/${id}`)
    yield* eventually(Effect.map(browser.send("GET", `/executions/${id}`), executionOf), (it) => it.console.length > 0)
    return id
  })

const percentile = (all: ReadonlyArray<number>, share: number) =>
  all.toSorted((x, y) => x - y)[Math.min(Math.floor(all.length * share), all.length - 1)] ?? 0

const timed = <A, E, R>(into: Array<number>, effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([took, value]) => {
    into.push(Duration.toMillis(took))
    return value
  })

layer(PairLive, { excludeTestServices: true, timeout: "120 seconds" })("functions over HTTP", (it) => {
  it.effect("are created, found, executed and ended", () =>
    Effect.gen(function* () {
      const { demo } = yield* Pair
      const id = yield* create(demo, sum, { context: { z: 10 }, title: "a sum" })
      const found = yield* demo.send("GET", `/functions/${id}`)
      assert.deepInclude(found.json as object, {
        id,
        language: "javascript",
        title: "a sum",
        script: sum,
        context: { z: 10 }
      })
      const answer = yield* execute(demo, id, { params: { x: 1, y: 2.5 } })
      assert.strictEqual(answer.status, 200, answer.text)
      const { ms, ...execution } = executionOf(answer)
      assert.isAbove(ms ?? 0, 0)
      assert.deepInclude(execution, { function: id, state: "Succeeded", result: 13.5, consoleTruncated: false })
      assert.deepStrictEqual(execution.console, [{ level: "log", text: "adding" }])
      assert.deepStrictEqual(executionOf(yield* demo.send("GET", `/executions/${execution.id}`)).result, 13.5)
      const list = yield* demo.send("GET", "/functions?limit=1")
      assert.strictEqual((list.json as ReadonlyArray<object>).length, 1)
      assert.strictEqual((yield* demo.send("DELETE", `/functions/${id}`)).status, 204)
      assert.strictEqual(problemOf(yield* execute(demo, id)).code, "FunctionNotFound")
      assert.strictEqual(problemOf(yield* demo.send("GET", `/functions/${id}`)).code, "FunctionNotFound")
    })
  )

  it.effect("TypeScript is one of the languages, and what is wrong is told with its place", () =>
    Effect.gen(function* () {
      const { demo } = yield* Pair
      const typed = "interface P { x: number }\nexport default (p: P): number => p.x * 2"
      const id = yield* create(demo, typed, { language: "typescript" })
      assert.strictEqual(executionOf(yield* execute(demo, id, { params: { x: 21 } })).result, 42)
      const send = (json: object) => demo.send("POST", "/functions", { json })
      const invalid = yield* send({ language: "javascript", script: "const a = 1\n  b c" })
      assert.strictEqual(problemOf(invalid).code, "ScriptInvalid")
      assert.deepInclude(invalid.json as object, { status: 422, line: 2, column: 5 })
      assert.strictEqual(problemOf(yield* send({ language: "cobol", script: "x" })).code, "LanguageUnknown")
      assert.strictEqual(
        problemOf(yield* send({ language: "javascript", script: `//${"x".repeat(262_143)}` })).code,
        "FunctionTooLarge"
      )
      assert.strictEqual(
        problemOf(yield* send({ language: "javascript", script: "1", more: 1 })).code,
        "RequestInvalid"
      )
      assert.strictEqual(problemOf(yield* send({ language: "javascript", script: "// \0" })).code, "ScriptInvalid")
      const failing = yield* create(demo, "export default () => {\n  null.x\n}")
      const { error, state } = executionOf(yield* execute(demo, failing))
      assert.strictEqual(state, "Failed")
      assert.deepInclude(error, { code: "ScriptFailed", name: "TypeError", line: 2 })
      const nothing = yield* execute(demo, yield* create(demo, "export default () => undefined"))
      assert.strictEqual(executionOf(nothing).error?.code, "ResultNotJson")
    })
  )

  it.effect("the calls of the first system do the same", () =>
    Effect.gen(function* () {
      const { demo, there } = yield* Pair
      const made = yield* demo.send("POST", "/api/v1/initialize", {
        json: { context: { z: 1 }, script_content: sum },
        headers: { "Language-Title": "nodejs-calculator" }
      })
      assert.strictEqual(made.status, 200, made.text)
      const { request_id: id, ...rest } = made.json as { readonly request_id: string }
      assert.deepInclude(rest, { language: "javascript", title: "calculator" })
      const done = yield* there.send("POST", `/api/v1/execute/${id}`, { json: { params: { x: 1, y: 1 } } })
      assert.strictEqual(executionOf(done).result, 3)
      assert.strictEqual((yield* there.send("POST", `/api/v1/execute/${id}`)).status, 200)
      const wrong = yield* demo.send("POST", "/api/v1/initialize", { json: { script_content: sum } })
      assert.strictEqual(problemOf(wrong).code, "RequestInvalid")
    })
  )

  it.effect("F5 a principal sees and executes only its own functions", () =>
    Effect.gen(function* () {
      const { a, demo } = yield* Pair
      yield* Service.addUser(a, "mallory")
      const mallory = yield* a.login("mallory")
      const id = yield* create(demo, sum)
      const { id: execution } = executionOf(yield* execute(demo, id, { params: { x: 1, y: 1 } }))
      for (const [method, path] of [
        ["GET", `/functions/${id}`],
        ["DELETE", `/functions/${id}`],
        ["POST", `/functions/${id}/executions`],
        ["POST", `/api/v1/execute/${id}`],
        ["GET", `/executions/${execution}`],
        ["DELETE", `/executions/${execution}`],
        ["GET", "/executions/x"],
        ["GET", "/functions/x"]
      ] as const) {
        assert.strictEqual((yield* mallory.send(method, path)).status, 404, path)
      }
      assert.deepStrictEqual((yield* mallory.send("GET", "/functions")).json, [])
      assert.strictEqual((yield* make(a.url).send("GET", `/functions/${id}`)).status, 401)
    })
  )

  it.effect("F3 what one instance created, the other finds and executes at once: none fails, none hangs", () =>
    Effect.gen(function* () {
      const { demo, there } = yield* Pair
      const count = 100 * scale
      const [creations, lookups, executions] = [[], [], []] as [Array<number>, Array<number>, Array<number>]
      const one = (n: number) =>
        Effect.gen(function* () {
          const id = yield* timed(creations, create(demo, sum))
          const found = yield* timed(lookups, there.send("GET", `/functions/${id}`))
          assert.strictEqual(found.status, 200, found.text)
          const done = yield* timed(executions, execute(there, id, { params: { x: n, y: 1 } }))
          assert.strictEqual(executionOf(done).result, n + 1, done.text)
        }).pipe(Effect.timeout("30 seconds"))
      yield* Effect.forEach(Array.from({ length: count }), (_, n) => one(n), { concurrency: 32 })
      const told = Object.entries({ creations, lookups, executions })
        .map(
          ([name, all]) =>
            `${name} p50 ${percentile(all, 0.5).toFixed(0)} ms, p99 ${percentile(all, 0.99).toFixed(0)} ms`
        )
        .join("; ")
      console.info(`${count} functions, 32 in flight: ${told}`)
    })
  )

  it.effect("F1 cancel, deadline, the end of the function and logout stop an endless loop within a second", () =>
    Effect.gen(function* () {
      const { a, b, demo } = yield* Pair
      const within = <A>(effect: Effect.Effect<A>) =>
        Effect.map(Effect.timed(effect), ([took, value]) => {
          assert.isBelow(Duration.toMillis(took), inTimeOf(1000))
          return value
        })
      const cancelled = yield* begin(demo)
      const cancel = executionOf(yield* within(demo.send("DELETE", `/executions/${cancelled}`)))
      assert.deepInclude(cancel, { state: "Canceled" })
      assert.strictEqual(cancel.error?.code, "ExecutionCanceled")
      const late = executionOf(yield* execute(demo, yield* create(demo, loop), { timeoutMs: 300 }))
      assert.strictEqual(late.error?.code, "ExecutionDeadlineExceeded")
      const { function: id } = executionOf(yield* demo.send("GET", `/executions/${yield* begin(demo)}`))
      // On the other instance it is over within two seconds.
      const elsewhere = copyOf(demo, b)
      const far = executionOf(yield* execute(elsewhere, id, { wait: 0 }))
      yield* within(demo.send("DELETE", `/functions/${id}`))
      const over = yield* eventually(
        Effect.map(elsewhere.send("GET", `/executions/${far.id}`), executionOf),
        ({ state }) => state === "Canceled"
      )
      assert.strictEqual(over.error?.code, "FunctionEnded")
      const another = yield* a.login()
      const running = yield* begin(another)
      yield* within(another.send("POST", "/logout"))
      const ended = executionOf(yield* demo.send("GET", `/executions/${running}`))
      assert.deepInclude(ended, { state: "Canceled" })
      assert.strictEqual(ended.error?.code, "SessionEnded")
    })
  )

  it.effect("metrics and the operators' account tell of executions, and nothing is left of them", () =>
    Effect.gen(function* () {
      const { a, demo } = yield* Pair
      const running = yield* begin(demo)
      const held = yield* demo.send("GET", "/holdings")
      for (const kind of ["function", "execution", "sandbox", "worker"]) assert.include(held.text, `"kind":"${kind}"`)
      yield* demo.send("DELETE", `/executions/${running}`)
      const done = yield* execute(demo, yield* create(demo, sum), { params: { x: 1, y: 2 } })
      assert.strictEqual(executionOf(done).state, "Succeeded")
      const { text } = yield* make(a.url).send("GET", "/metrics")
      assert.match(text, /holdfast_executions_ended_total\{[^}]*state="Succeeded"[^}]*\} \d+/)
      for (const kind of ["function", "execution", "sandbox"]) {
        assert.match(text, new RegExp(`holdfast_held\\{[^}]*kind="${kind}"[^}]*\\} 0`))
      }
    })
  )
})

describe("the service and its functions", { concurrent: true }, () => {
  it.live("I1, F1 a hundred scripts that loop for ever do not hold up its loop, and end with it at SIGTERM", () =>
    Effect.gen(function* () {
      const turns = yield* Turns.make
      const service = yield* Service.startService({ env: { HOLDFAST_FUNCTIONS: "on", ...turns.env } })
      const demo = yield* service.login()
      const id = yield* create(demo, loop)
      const ids = yield* Effect.forEach(
        Array.from({ length: 100 }),
        () => Effect.map(execute(demo, id, { wait: 0, timeoutMs: 30_000 }), idOf),
        { concurrency: 10 }
      )
      const running = Effect.forEach(ids.slice(0, 3), (each) =>
        Effect.map(demo.send("GET", `/executions/${each}`), executionOf)
      )
      yield* eventually(running, (all) => all.some(({ console }) => console.length > 0))
      yield* turns.look(service)
      for (let asked = 0; asked < 50; asked++) assert.strictEqual((yield* demo.send("GET", "/session")).status, 200)
      const { worst } = yield* turns.look(service)
      assert.isBelow(worst, 20)
      const [took, ended] = yield* Effect.timed(Effect.andThen(service.signal("SIGTERM"), service.exited))
      assert.deepStrictEqual(ended, { code: 0, signal: null }, service.stderr())
      assert.isBelow(Duration.toMillis(took), inTimeOf(4000))
      assert.strictEqual(service.stderr(), "")
    })
  )

  it.live("F1 SIGTERM stops endless loops within a second, also while a query does not end", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService({ env: { HOLDFAST_FUNCTIONS: "on" } })
      const demo = yield* service.login()
      yield* Effect.forEach([1, 2], () => begin(demo))
      yield* submit(demo, "select pg_sleep(60)")
      yield* Service.runs(service.queries.name, "pg_sleep")
      const threads = yield* Effect.promise(() => Threads.busiest(service.pid, 2))
      const gone = Effect.runPromise(service.exited)
      yield* service.signal("SIGTERM")
      const uses = yield* Effect.promise(() => Threads.lastUses(service.pid, threads, gone))
      // They ran when the signal came.
      for (const at of uses) assert.isAbove(at, 0)
      assert.isBelow(Math.max(...uses), inTimeOf(1000))
      assert.deepStrictEqual(yield* service.exited, { code: 0, signal: null }, service.stderr())
    })
  )

  it.live("where functions are off, the calls say what to do", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      const demo = yield* service.login()
      assert.isTrue(demo.cookies.has(cookieName(service.url)))
      const refused = yield* demo.send("POST", "/functions", { json: { language: "javascript", script: "1" } })
      const { code, detail = "" } = problemOf(refused)
      assert.strictEqual(code, "FunctionsNotConfigured")
      assert.include(detail, "HOLDFAST_FUNCTIONS=on")
      assert.strictEqual(
        (yield* Service.run({ args: ["serve"], env: { ...service.env, HOLDFAST_FUNCTION_MEMORY: "1 MB" } })).code,
        1
      )
    })
  )
})
