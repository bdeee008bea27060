/**
 * Functions: what an execution costs, how soon one stops, and what the program notices of scripts that loop for ever.
 *
 * - *Library*: executions of a small script through the engine, with functions in memory; and the memory of a warm worker.
 * - *Stops*: endless loops that are ended by a cancel, by the end of their session, or by the end of their function, from the call
 *   until it returns; and by their deadline, from the deadline until the outcome is known.
 * - *Signals*: SIGTERM to the service while scripts loop for ever, see `functionServices.ts`.
 * - *Event loop*: its delay while 100 scripts loop for ever, four at a time as the service has it, and all at once.
 * - *Service loop*: that of the service.
 * - *Service*: two instances on one real PostgreSQL. A function is created on one, looked up and executed on the other, with 32 in flight. Beside
 *   it, the one statement of a lookup. Nothing may fail, and nothing may hang.
 *
 * Client, services and database share the processors of one machine. `HOLDFAST_BENCH_FUNCTIONS` (default: 10,000) says how many.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import type * as FunctionRuntime from "../../src/function/FunctionRuntime.ts"
import * as Functions from "../../src/function/Functions.ts"
import * as FunctionStore from "../../src/function/FunctionStore.ts"
import * as MemoryFunctionStore from "../../src/function/MemoryFunctionStore.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as MicroPythonRuntime from "../../src/micropython/MicroPythonRuntime.ts"
import * as PgFunctionStore from "../../src/postgres/PgFunctionStore.ts"
import * as QuickJsRuntime from "../../src/quickjs/QuickJsRuntime.ts"
import { databases, serve, serviceLoop, signals } from "./functionServices.ts"
import { login, residentMb, type User } from "./isolationWorld.ts"
import { quantile } from "./measure.ts"

const count = Number(process.env.HOLDFAST_BENCH_FUNCTIONS ?? 10_000)
const inFlight = 32

const principal = "alice"
const sum = "export default ({ x, y }) => x + y"
const pythonSum = "def main(params, context): return params['x'] + params['y']"
const loop = `export default () => { console.log("on"); for (;;); }`
const params = `{"x":1,"y":2}`

const of = (times: ReadonlyArray<number>) => ({
  "p50 ms": quantile(times, 0.5).toFixed(1),
  "p99 ms": quantile(times, 0.99).toFixed(1),
  "max ms": quantile(times, 1).toFixed(1)
})

const timed = async <A>(times: Array<number>, work: () => Promise<A>): Promise<A> => {
  const begun = performance.now()
  const value = await work()
  times.push(performance.now() - begun)
  return value
}

/** Does something so many times, so many at a time. */
const times = async (count: number, concurrency: number, work: (n: number) => Promise<void>) => {
  let next = 0
  const begun = performance.now()
  const worker = async () => {
    while (next < count) await work(next++)
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
  return (count / (performance.now() - begun)) * 1000
}

/** An engine with functions in memory, and what runs effects with it. */
const open = async (runtime: Layer.Layer<FunctionRuntime.FunctionRuntime>, options: Functions.Options) => {
  const scope = await Effect.runPromise(Scope.make())
  const layer = Functions.layer({
    reservedRunning: 0,
    maxWaitingPerPrincipal: 1000,
    maxKeptPerPrincipal: 10_000,
    ...options
  })
  const context = await Effect.runPromise(
    Scope.provide(Layer.build(layer.pipe(Layer.provide([runtime, MemoryFunctionStore.layer]))), scope)
  )
  const functions = Context.get(context, Functions.Functions)
  const create = (language: string, script: string) =>
    Effect.runPromise(functions.create({ principal, language, script }))
  return { functions, create, scope, close: () => Effect.runPromise(Scope.close(scope, Exit.void)) }
}

type Engine = Awaited<ReturnType<typeof open>>

const runs = (engine: Engine, id: Functions.Submission["function"]) =>
  Effect.runPromise(
    Effect.flatMap(engine.functions.execute({ principal, function: id, params }), (record) =>
      engine.functions.await(principal, record.id)
    )
  )

const library = async () => {
  const rows: Array<object> = []
  for (const [language, script, runtime, executions] of [
    ["javascript", sum, QuickJsRuntime.layer, 4000],
    ["typescript", "export default ({ x, y }: { x: number; y: number }): number => x + y", QuickJsRuntime.layer, 4000],
    ["python", pythonSum, MicroPythonRuntime.layer, 300]
  ] as const) {
    for (const workers of [1, 2, 4]) {
      const engine = await open(runtime({ maxWorkers: workers }), { maxRunning: workers })
      const { id } = await engine.create(language, script)
      for (let warm = 0; warm < 20; warm++) await runs(engine, id)
      const all: Array<number> = []
      const rate = await times(executions, workers, async () => {
        const { result } = await timed(all, () => runs(engine, id))
        if (result !== "3") throw new Error(`Not 3: ${result}`)
      })
      rows.push({ language, workers, "executions/s": rate.toFixed(0), ...of(all) })
      await engine.close()
    }
  }
  console.table(rows)
}

/** What 16 idle workers take up that have run something. */
const memory = async () => {
  const workers = 16
  const before = residentMb(process.pid)
  const engine = await open(QuickJsRuntime.layer({ maxWorkers: workers }), { maxRunning: workers })
  const { id } = await engine.create("javascript", sum)
  await times(workers * 20, workers, async () => void (await runs(engine, id)))
  console.log(`MB of a warm worker: ${((residentMb(process.pid) - before) / workers).toFixed(1)}`)
  await engine.close()
}

/** Executes an endless loop, until it runs. */
const begin = async ({ functions }: Engine, id: Functions.Submission["function"], owner?: Lifetime.Lifetime) => {
  const { id: execution } = await Effect.runPromise(functions.execute({ principal, function: id, owner }))
  for (;;) {
    const { console } = await Effect.runPromise(functions.status(principal, execution))
    if (console.length > 0) return execution
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

const stops = async () => {
  const engine = await open(QuickJsRuntime.layer({ maxWorkers: 2 }), { maxRunning: 2 })
  const native = `export default () => { console.log("on"); [].indexOf.call({ length: 2 ** 53 - 1 }, 1) }`
  const { functions, scope } = engine
  const ends: Readonly<Record<string, () => Promise<() => Promise<unknown>>>> = {
    cancel: async () => {
      const { id } = await engine.create("javascript", loop)
      const execution = await begin(engine, id)
      return () => Effect.runPromise(functions.cancel(principal, execution))
    },
    "cancel, in a native that heeds nothing": async () => {
      const { id } = await engine.create("javascript", native)
      const execution = await begin(engine, id)
      return () => Effect.runPromise(functions.cancel(principal, execution))
    },
    "end of the session": async () => {
      const { id } = await engine.create("javascript", loop)
      const owner = await Effect.runPromise(Lifetime.make(scope, { kind: "session", id: "s" }))
      await begin(engine, id, owner)
      return () => Effect.runPromise(owner.end())
    },
    "end of the function": async () => {
      const { id } = await engine.create("javascript", loop)
      await begin(engine, id)
      return () => Effect.runPromise(functions.end(principal, id))
    }
  }
  const rows: Array<object> = []
  for (const [by, prepare] of Object.entries(ends)) {
    const all: Array<number> = []
    for (let tries = 0; tries < 200; tries++) {
      const end = await prepare()
      await timed(all, end)
    }
    rows.push({ "ended by": by, tries: all.length, ...of(all) })
  }
  const late: Array<number> = []
  const { id: looping } = await engine.create("javascript", loop)
  const deadline = 200
  await times(200, 2, async () => {
    const begun = performance.now()
    const { id } = await Effect.runPromise(functions.execute({ principal, function: looping, deadline }))
    const { console, error } = await Effect.runPromise(functions.await(principal, id))
    late.push(performance.now() - begun - deadline)
    if (console.length === 0 || error?._tag !== "ExecutionDeadlineExceeded") throw new Error("It did not loop")
  })
  rows.push({ "ended by": "deadline, after it", tries: late.length, ...of(late) })
  await engine.close()
  const closing: Array<number> = []
  for (let tries = 0; tries < 20; tries++) {
    const closed = await open(QuickJsRuntime.layer({ maxWorkers: 2 }), { maxRunning: 2, drain: 0 })
    const { id } = await closed.create("javascript", loop)
    await Promise.all([begin(closed, id), begin(closed, id)])
    await timed(closing, closed.close)
  }
  rows.push({ "ended by": "closing engine and runtime", tries: closing.length, ...of(closing) })
  console.table(rows)
}

/** The delay of the event loop for five seconds. */
const delay = async () => {
  const histogram = monitorEventLoopDelay({ resolution: 1 })
  histogram.enable()
  await new Promise((resolve) => setTimeout(resolve, 5000))
  histogram.disable()
  // What it measures holds its own resolution.
  const millis = (share: number) => (histogram.percentile(share) / 1e6 - 1).toFixed(1)
  return { "p50 ms": millis(50), "p99 ms": millis(99), "max ms": (histogram.max / 1e6 - 1).toFixed(1) }
}

const eventLoop = async () => {
  const rows: Array<object> = [{ scripts: "none", ...(await delay()) }]
  for (const running of [4, 100]) {
    const engine = await open(QuickJsRuntime.layer({ maxWorkers: running }), {
      maxRunning: running,
      drain: 0,
      deadline: "10 minutes"
    })
    const { id } = await engine.create("javascript", loop)
    const all = Array.from({ length: 100 }, () =>
      Effect.runPromise(engine.functions.execute({ principal, function: id }))
    )
    const ids = await Promise.all(all)
    for (;;) {
      const states = await Promise.all(
        ids.map((record) => Effect.runPromise(engine.functions.status(principal, record.id)))
      )
      if (states.filter(({ console }) => console.length > 0).length >= running) break
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    rows.push({ scripts: `100 loop for ever, ${running} at a time`, ...(await delay()) })
    const closing: Array<number> = []
    await timed(closing, engine.close)
    rows.push({ scripts: `closing with those`, "p50 ms": "", "p99 ms": "", "max ms": closing[0]?.toFixed(1) })
  }
  console.table(rows)
}

const service = async () => {
  const { close, make, within } = await databases()
  const url = await make("functions")
  const env = { HOLDFAST_MAX_FUNCTIONS_PER_USER: String(2 * count) }
  const [a, b] = [await serve(url, env), await serve(url, env)]
  const here = await login(a.address, "demo")
  const there: User = {
    ...here,
    send: async (method, path, body) => {
      const response = await fetch(b.address + path, {
        method,
        headers: { cookie: here.cookie(), "content-type": "application/json" },
        ...(body !== undefined && { body: JSON.stringify(body) })
      })
      return { status: response.status, json: await response.json() }
    }
  }
  const [creations, lookups, executions] = [[], [], []] as [Array<number>, Array<number>, Array<number>]
  let failed = 0
  const one = async (n: number) => {
    const made = await timed(creations, () => here.send("POST", "/functions", { language: "javascript", script: sum }))
    const { id } = made.json as { readonly id?: string }
    const found = await timed(lookups, () => there.send("GET", `/functions/${id}`))
    const done = await timed(executions, () =>
      there.send("POST", `/functions/${id}/executions`, { params: { x: n, y: 1 } })
    )
    const { result } = done.json as { readonly result?: number }
    if (made.status !== 201 || found.status !== 200 || done.status !== 200 || result !== n + 1) failed++
  }
  // Workers, connections and code that a first request would wait for.
  await times(200, inFlight, one)
  for (const all of [creations, lookups, executions]) all.length = 0
  const rate = await times(count, inFlight, one)
  const store = await within(
    Effect.map(Layer.build(PgFunctionStore.layer({ url: Redacted.make(url) })), (context) =>
      Context.get(context, FunctionStore.FunctionStore)
    )
  )
  const { functions } = await Effect.runPromise(store.list("demo", { limit: 1000 }))
  const statements: Array<number> = []
  await times(count, inFlight, async (n) => {
    const id = functions[n % functions.length]?.id
    if (id !== undefined) await timed(statements, () => Effect.runPromise(store.use("demo", id)))
  })
  console.table(
    Object.entries({ creations, lookups, executions, "statements of a lookup": statements }).map(([what, all]) => ({
      what,
      count: all.length,
      ...of(all)
    }))
  )
  console.log(
    `${failed} of ${count} failed; ${rate.toFixed(0)} of all three a second; ${residentMb(b.pid).toFixed(0)} MB`
  )
  const one_ = await Effect.runPromise(store.list("demo", { limit: 1 }))
  const path = `/functions/${one_.functions[0]?.id}/executions`
  const only: Array<number> = []
  const executed = await times(Math.min(count, 4000), 8, async () => {
    await timed(only, () => there.send("POST", path, { params: { x: 1, y: 2 } }))
  })
  console.log(`executions alone, 8 in flight: ${executed.toFixed(0)} a second`, of(only))
  await a.stop()
  await b.stop()
  await close()
}

const parts: Readonly<Record<string, () => Promise<void>>> = {
  library,
  memory,
  stops,
  signals,
  eventLoop,
  serviceLoop,
  service
}

export const run = async () => {
  const wanted = process.env.HOLDFAST_BENCH_PARTS?.split(",")
  for (const [name, part] of Object.entries(parts)) if (wanted?.includes(name) ?? true) await part()
}
