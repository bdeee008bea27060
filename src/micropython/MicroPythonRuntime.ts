/**
 * Python for functions, on MicroPython in WebAssembly.
 *
 * The worker threads that run it live as long as the layer. Each execution has a thread and an interpreter of its own, which are gone when
 * it is over; one more is kept ready.
 *
 * **Details**
 *
 * A script defines its function: `def main(params, context)`. What it returns is JSON, what it prints is its console. It finds
 * the language, the modules that are built into MicroPython, and a clock that goes in steps of 100 ms; no files, network, environment or
 * process, nothing of JavaScript, and nothing of the program. `asyncio` needs what is not there.
 *
 * **Gotchas**
 *
 * MicroPython cannot be told to stop: a script that is to end loses its thread, 100 ms after it was asked. It tells the line of an error
 * and no column.
 *
 * Install `@micropython/micropython-webassembly-pyscript` beside Holdfast.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { availableParallelism } from "node:os"
import { extname } from "node:path"
import { pathToFileURL } from "node:url"
import { FunctionRuntime } from "../function/FunctionRuntime.ts"
import * as SandboxWorkers from "../function/internal/SandboxWorkers.ts"
import { wasm } from "../function/internal/Wasm.ts"

/** How much scripts may use. */
export interface Options {
  /** Scripts that run at a time, each in a thread of its own. Default: 4, or as many as the machine has processors. */
  readonly maxWorkers?: number | undefined
  /** After so long without a script all threads but one end. Default: 1 minute. */
  readonly idleTime?: Duration.Input | undefined
  /** Memory of an execution, in bytes, at least 16 MiB; the interpreter takes up some of it. Default: 64 MiB. */
  readonly memoryBytes?: number | undefined
}

/** The name of its language. */
export const languages = ["python"] as const

const workerFile = new URL(`./internal/worker${extname(new URL(import.meta.url).pathname)}`, import.meta.url)

const name = "@micropython/micropython-webassembly-pyscript"

/** What a worker is given of the package. */
const load = Effect.promise(async () => {
  const { resolve } = createRequire(import.meta.url)
  const wasmModule = await wasm.compile(await readFile(resolve(`${name}/micropython.wasm`)))
  return { entry: pathToFileURL(resolve(`${name}/micropython.mjs`)).href, wasmModule }
})

/** Makes a runtime whose threads end with the current scope. */
export const make = Effect.fnUntraced(function* (options: Options = {}) {
  const workers = yield* SandboxWorkers.make({
    name: "micropython",
    file: workerFile,
    workerData: yield* load,
    maxWorkers: options.maxWorkers ?? Math.max(4, availableParallelism()),
    idleTime: options.idleTime ?? "1 minute",
    memoryBytes: Math.max(options.memoryBytes ?? 64 * 1024 * 1024, 16 * 1024 * 1024),
    host: {}
  })
  return FunctionRuntime.of({ languages, open: () => workers.open })
})

/** Python. */
export const layer = (options?: Options): Layer.Layer<FunctionRuntime> => Layer.effect(FunctionRuntime, make(options))
