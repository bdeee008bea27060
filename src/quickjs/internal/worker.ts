/**
 * A worker thread that runs JavaScript and TypeScript on QuickJS in WebAssembly.
 *
 * Each request has a runtime and a context of its own, which are gone when it is answered. Where one cannot be freed, or the memory
 * has grown, the worker says that it is worn.
 */
import variant from "@jitl/quickjs-wasmfile-release-sync"
import { randomFillSync } from "node:crypto"
import { workerData } from "node:worker_threads"
import {
  newQuickJSWASMModuleFromVariant,
  newVariant,
  type QuickJSContext,
  type QuickJSDeferredPromise,
  type QuickJSHandle,
  type QuickJSRuntime,
  type QuickJSSyncVariant
} from "quickjs-emscripten-core"
import type { Outcome, Reply, Request, Thrown } from "../../function/internal/SandboxProtocol.ts"
import * as SandboxWorker from "../../function/internal/SandboxWorker.ts"
import { type Module, wasm } from "../../function/internal/Wasm.ts"
import { prelude } from "./QuickJsPrelude.ts"
import * as QuickJsTypes from "./QuickJsTypes.ts"

const { host, memoryBytes } = SandboxWorker.given
const { wasmModule } = workerData as { readonly wasmModule: Module }

const pageBytes = 64 * 1024
const mebibyte = 1024 * 1024

/** The least that the module begins with. */
const initialBytes = 16 * mebibyte

/** For what QuickJS itself and the stack take up. A runtime's own limit does not hold; that of the memory does. */
const memory = new wasm.Memory({
  initial: initialBytes / pageBytes,
  maximum: Math.max(Math.ceil(memoryBytes / pageBytes), initialBytes / pageBytes)
})

const stackBytes = 256 * 1024

// Its types are those of its other form, which is no module.
const quickjs = await newQuickJSWASMModuleFromVariant(
  newVariant(variant as unknown as QuickJSSyncVariant, { wasmModule, wasmMemory: memory })
)

/** Calls that a script may wait for at a time. */
const maxCalls = 100

let isBroken = false

const positionOf = (stack: string): Pick<Thrown, "line" | "column"> => {
  const [, line, column] = /\bscript:(\d+)(?::(\d+))?/.exec(stack) ?? []
  return {
    ...(line !== undefined && { line: Number(line) }),
    ...(column !== undefined && { column: Number(column) })
  }
}

/** A script in its context. */
class Execution {
  readonly request: Request
  readonly console: SandboxWorker.Console
  private readonly runtime: QuickJSRuntime
  private readonly context: QuickJSContext
  private readonly handles: Array<{ dispose: () => void; readonly alive: boolean }> = []
  private readonly calls = new Map<number, QuickJSDeferredPromise>()
  private callCount = 0
  private wake: (() => void) | undefined

  constructor(request: Request) {
    this.request = request
    this.console = new SandboxWorker.Console(request)
    this.runtime = quickjs.newRuntime({ memoryLimitBytes: memoryBytes, maxStackSizeBytes: stackBytes })
    this.runtime.setInterruptHandler(() => this.isStopped)
    this.context = this.runtime.newContext()
  }

  get isStopped(): boolean {
    return SandboxWorker.isStopped(this.request.id)
  }

  private keep<H extends { dispose: () => void; readonly alive: boolean }>(handle: H): H {
    this.handles.push(handle)
    return handle
  }

  private text(text: string): QuickJSHandle {
    return this.keep(this.context.newString(text))
  }

  private number(value: number): QuickJSHandle {
    return this.keep(this.context.newNumber(value))
  }

  private prepare() {
    const { context } = this
    const write = this.keep(
      context.newFunction("write", (level, text) => {
        if (!this.console.isFull) this.console.write(context.getString(level), context.getString(text))
      })
    )
    const call = this.keep(
      context.newFunction("call", (name, args) => this.call(context.getString(name), context.getString(args)))
    )
    const made = this.keep(context.unwrapResult(context.evalCode(prelude, "prelude")))
    const seeds = randomFillSync(new Int32Array(4))
    const given = this.keep(
      context.unwrapResult(
        context.callFunction(
          made,
          context.undefined,
          write,
          call,
          this.text(JSON.stringify(host)),
          this.number(this.request.resultBytes),
          ...Array.from(seeds, (seed) => this.number(seed))
        )
      )
    )
    return {
      describe: this.keep(context.getProp(given, "describe")),
      invoke: this.keep(context.getProp(given, "invoke"))
    }
  }

  /** Begins a call of the program's; what it returns is settled by the reply. */
  private call(name: string, args: string): QuickJSHandle {
    const { context } = this
    if (this.calls.size >= maxCalls) {
      return context.throw(
        new Error(`The script waits for ${maxCalls} calls already. Await some before the next.`)
      ) as never
    }
    const promise = context.newPromise()
    const call = ++this.callCount
    this.calls.set(call, promise)
    SandboxWorker.call(this.request.id, call, name, args)
    // The script's to free; the worker keeps what settles it.
    return promise.handle.dup()
  }

  reply({ call, ok, text }: Reply): void {
    const promise = this.calls.get(call)
    if (promise === undefined) return
    this.calls.delete(call)
    const value = ok ? this.context.newString(text) : this.context.newError(text)
    if (ok) promise.resolve(value)
    else promise.reject(value)
    value.dispose()
    promise.dispose()
    this.stop()
  }

  /** Looks again, where it waits. */
  stop(): void {
    this.wake?.()
  }

  /** Runs what is left to run until a promise is settled. */
  private async settle(
    promise: QuickJSHandle
  ): Promise<{ readonly error?: QuickJSHandle; readonly value?: QuickJSHandle } | undefined> {
    for (;;) {
      const jobs = this.runtime.executePendingJobs(-1)
      if (jobs.error !== undefined) return { error: this.keep(jobs.error) }
      jobs.dispose()
      const state = this.context.getPromiseState(promise)
      if (state.type === "fulfilled") return { value: state.notAPromise === true ? promise : this.keep(state.value) }
      if (state.type === "rejected") return { error: this.keep(state.error) }
      if (this.isStopped || this.calls.size === 0) return undefined
      await new Promise<void>((resolve) => {
        this.wake = resolve
      })
      this.wake = undefined
      if (this.isStopped) return undefined
    }
  }

  private thrown(describe: QuickJSHandle, error: QuickJSHandle): Thrown {
    const { context } = this
    const described = context.callFunction(describe, context.undefined, error)
    if (described.error !== undefined) {
      this.keep(described.error)
      return { name: "Error", problem: "What was thrown cannot be told." }
    }
    const { name, problem, stack } = JSON.parse(context.getString(this.keep(described.value))) as Thrown
    return { name, problem, ...(stack !== undefined && stack !== "" && { stack, ...positionOf(stack) }) }
  }

  private failed(describe: QuickJSHandle, error: QuickJSHandle): Outcome {
    if (this.isStopped) return { type: "stopped" }
    // Where there is no memory for an error either, null is thrown.
    if (this.context.typeof(error) === "object" && this.context.eq(error, this.context.null)) return { type: "memory" }
    const thrown = this.thrown(describe, error)
    if (this.isStopped) return { type: "stopped" }
    return thrown.name === "InternalError" && thrown.problem === "out of memory"
      ? { type: "memory" }
      : { type: "failed", thrown }
  }

  check(code: string): Outcome {
    const { context } = this
    const { describe } = this.prepare()
    const compiled = context.evalCode(code, "script", { type: "module", compileOnly: true })
    if (compiled.error === undefined) {
      this.keep(compiled.value)
      return { type: "checked" }
    }
    const outcome = this.failed(describe, this.keep(compiled.error))
    return outcome.type === "failed" ? { type: "invalid", thrown: outcome.thrown } : outcome
  }

  async run(code: string): Promise<Outcome> {
    const { context, request } = this
    const { describe, invoke } = this.prepare()
    const evaluated = context.evalCode(code, "script", { type: "module" })
    if (evaluated.error !== undefined) return this.failed(describe, this.keep(evaluated.error))
    const module = await this.settle(this.keep(evaluated.value))
    if (module?.error !== undefined) return this.failed(describe, module.error)
    if (module?.value === undefined) return this.isStopped ? { type: "stopped" } : { type: "neverSettles" }
    const script = this.keep(context.getProp(module.value, "default"))
    if (context.typeof(script) !== "function") {
      const problem =
        "The script has no function as its default export. Begin it with: export default (params, context) =>"
      return { type: "failed", thrown: { name: "TypeError", problem } }
    }
    const called = context.callFunction(
      invoke,
      context.undefined,
      script,
      this.text(request.params),
      this.text(request.context)
    )
    if (called.error !== undefined) return this.failed(describe, this.keep(called.error))
    const result = await this.settle(this.keep(called.value))
    if (result?.error !== undefined) return this.failed(describe, result.error)
    if (result?.value === undefined) return this.isStopped ? { type: "stopped" } : { type: "neverSettles" }
    const answer = context.getString(result.value)
    if (answer.startsWith("n")) return { type: "notJson", problem: answer.slice(1, 4096) }
    const text = answer.slice(1)
    return answer.startsWith("l") || Buffer.byteLength(text) > request.resultBytes
      ? { type: "tooLarge" }
      : { type: "result", text }
  }

  /** A runtime that cannot be freed takes the whole module with it. */
  free(): void {
    try {
      for (const promise of this.calls.values()) promise.dispose()
      for (const handle of this.handles) if (handle.alive) handle.dispose()
      this.context.dispose()
      this.runtime.dispose()
    } catch {
      isBroken = true
    }
  }
}

let current: Execution | undefined

/** What the host program throws when the script exhausts it: a stack, or the memory of the module. */
const exhausted = (error: unknown, type: Request["type"]): Outcome =>
  memory.buffer.byteLength >= memoryBytes
    ? { type: "memory" }
    : error instanceof RangeError
      ? {
          type: type === "check" ? "invalid" : "failed",
          thrown: { name: "RangeError", problem: "The script is nested too deeply." }
        }
      : { type: "broken", problem: String(error).slice(0, 200) }

const execute = async (request: Request): Promise<Outcome> => {
  const stripped =
    request.language === "typescript" ? await QuickJsTypes.strip(request.script) : { code: request.script }
  if ("thrown" in stripped) return { type: "invalid", thrown: stripped.thrown }
  const execution = new Execution(request)
  current = execution
  try {
    return request.type === "check" ? execution.check(stripped.code) : await execution.run(stripped.code)
  } catch (error) {
    isBroken = true
    return execution.isStopped ? { type: "stopped" } : exhausted(error, request.type)
  } finally {
    current = undefined
    execution.free()
  }
}

SandboxWorker.serve({
  run: execute,
  reply: (reply) => current?.reply(reply),
  stop: () => current?.stop(),
  isWorn: () => isBroken || memory.buffer.byteLength > initialBytes
})
