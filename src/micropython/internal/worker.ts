/**
 * A worker thread that runs Python on MicroPython in WebAssembly.
 *
 * It answers one request and is worn: what the package keeps outside of an interpreter, such as the objects that it has yet to free,
 * would be the next one's too. There is no telling a script to stop: the thread is ended.
 *
 * **Details**
 *
 * The module comes with a bridge to JavaScript, files and a standard input. Of what it imports, only what is named here is left to it;
 * all else throws through the interpreter, which ends the execution.
 */
import { workerData } from "node:worker_threads"
import type { Outcome, Request, Thrown } from "../../function/internal/SandboxProtocol.ts"
import * as SandboxWorker from "../../function/internal/SandboxWorker.ts"
import { type Instance, type Memory, type Module, wasm } from "../../function/internal/Wasm.ts"
import { harness } from "./PythonHarness.ts"

const { memoryBytes } = SandboxWorker.given
/** The package's module, and its code. */
const given = workerData as { readonly entry: string; readonly wasmModule: Module }

/** What the interpreter needs of its surroundings: its own stack and memory, time, randomness and what it prints. */
const kept =
  /^(?:invoke_\w+|_emscripten_throw_longjmp|_abort_js|emscripten_resize_heap|mp_js_random_u32|mp_js_ticks_ms|mp_js_time_ms|fd_write|proxy_js_free_obj)$/

/** Thrown through the interpreter: no Python catches it. */
class Closed extends Error {}

/** What every operating system says to a file that there is not: `ENOSYS`, as WASI numbers it. */
const noSystem = 52

/** That of the interpreter. */
let made: Memory | undefined

const closed = (name: string, original: unknown): unknown => {
  if (name === "emscripten_resize_heap") {
    return (bytes: number) => (bytes >>> 0 > memoryBytes ? 0 : (original as (bytes: number) => number)(bytes))
  }
  if (kept.test(name)) return original
  if (name.startsWith("__syscall_")) return () => -noSystem
  if (name.startsWith("fd_")) return () => noSystem
  return () => {
    throw new Closed(`MicroPython has no bridge here (${name}).`)
  }
}

const instantiate = wasm.instantiate
// The package reads its code from the disk and gives it everything: it is given what was compiled, and what is kept.
wasm.instantiate = (async (_code: unknown, imports: Record<string, Record<string, unknown>>) => {
  const less = Object.fromEntries(
    Object.entries(imports).map(([group, all]) => [
      group,
      Object.fromEntries(Object.entries(all).map(([name, original]) => [name, closed(name, original)]))
    ])
  )
  const instance: Instance = await instantiate(given.wasmModule, less)
  made = instance.exports["memory"] as Memory
  return { instance, module: given.wasmModule }
}) as never

interface Python {
  readonly globals: { readonly set: (name: string, value: unknown) => void; readonly get: (name: string) => unknown }
  readonly runPython: (code: string) => unknown
}

// It has no types.
const { loadMicroPython } = (await import(given.entry)) as {
  readonly loadMicroPython: (options: object) => Promise<Python>
}

/** An instance begins with so much; more is asked for as it is needed. */
const heapBytes = 1024 * 1024

/** One that has asked for so much more and broke has used up its memory. */
const mostGrowth = 8 * 1024 * 1024

/** Where what is printed goes. */
const sink: { write: (chunk: Uint8Array) => void } = { write: () => undefined }
const write = (chunk: Uint8Array) => sink.write(chunk)

// Before the first request, so that it need not wait for it.
const python = await loadMicroPython({
  heapsize: heapBytes,
  linebuffer: false,
  stdin: () => null,
  stdout: write,
  stderr: write
})
const sizeOf = () => made?.buffer.byteLength ?? 0
const begun = sizeOf()

/** Lines out of bytes. What is too long for the console is not kept. */
const linesOf = (console: SandboxWorker.Console, most: number) => {
  const bytes: Array<number> = []
  const flush = () => {
    console.write("log", Buffer.from(bytes).toString())
    bytes.length = 0
  }
  return {
    write: (chunk: Uint8Array) => {
      for (const byte of chunk) {
        if (byte === 10) flush()
        else if (bytes.length <= most && !console.isFull) bytes.push(byte)
      }
    },
    end: () => {
      if (bytes.length > 0) flush()
    }
  }
}

const lineOf = (stack: string): number | undefined => {
  const line = Array.from(stack.matchAll(/File "script", line (\d+)/g)).at(-1)?.[1]
  return line === undefined ? undefined : Number(line)
}

const thrownOf = (text: string): Thrown => {
  const thrown = JSON.parse(text) as Thrown
  return { ...thrown, line: lineOf(thrown.stack ?? "") }
}

const isMemory = ({ name }: Thrown) => name === "MemoryError"

const isJson = (text: string) => {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

const notJson =
  "The function returned what JSON does not have. Return numbers, strings, lists, None, and dicts whose keys are strings."

/** What the harness said. */
const outcomeOf = (said: string, { resultBytes }: Request): Outcome => {
  const text = said.slice(1)
  switch (said[0]) {
    case "c":
      return { type: "checked" }
    case "i":
      return isMemory(thrownOf(text)) ? { type: "memory" } : { type: "invalid", thrown: thrownOf(text) }
    case "f":
      return isMemory(thrownOf(text)) ? { type: "memory" } : { type: "failed", thrown: thrownOf(text) }
    case "l":
      return { type: "tooLarge" }
    case "r":
      if (Buffer.byteLength(text) > resultBytes) return { type: "tooLarge" }
      return isJson(text) ? { type: "result", text } : { type: "notJson", problem: notJson }
    default:
      return text === "MemoryError" ? { type: "memory" } : { type: "notJson", problem: notJson }
  }
}

const hostFailure = (error: unknown): Outcome => {
  if (error instanceof Closed) {
    return { type: "failed", thrown: { name: "ImportError", problem: "There is nothing outside of the sandbox." } }
  }
  const text = String(error)
  if (/MemoryError|memory allocation failed/.test(text) || sizeOf() > begun + mostGrowth) {
    return { type: "memory" }
  }
  return error instanceof RangeError || /recursion|stack/i.test(text)
    ? { type: "failed", thrown: { name: "RuntimeError", problem: "maximum recursion depth exceeded" } }
    : { type: "broken", problem: text.slice(0, 200) }
}

const run = async (request: Request): Promise<Outcome> => {
  const lines = linesOf(new SandboxWorker.Console(request), request.consoleBytes)
  sink.write = lines.write
  try {
    const { globals } = python
    globals.set("__code", request.script)
    globals.set("__params", request.params)
    globals.set("__context", request.context)
    globals.set("__limit", request.resultBytes)
    globals.set("__check", request.type === "check")
    python.runPython(harness)
    const said = globals.get("__out")
    return typeof said === "string" && said !== "" ? outcomeOf(said, request) : { type: "notJson", problem: notJson }
  } catch (error) {
    return hostFailure(error)
  } finally {
    lines.end()
  }
}

SandboxWorker.serve({ run, isWorn: () => true })
