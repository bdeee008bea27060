/**
 * JavaScript and TypeScript for functions, on QuickJS in WebAssembly.
 *
 * The worker threads that run it live as long as the layer. Each execution has a runtime of its own, which is gone when it is over.
 *
 * **Details**
 *
 * A script is a module whose default export is its function: `export default (params, context) => …`, which may be async. What it
 * returns is JSON. It finds the language, `console`, a clock that goes in steps of 100 ms and `Math.random`, which is no source of
 * secrets; no timers, files, network, environment or process; and of the program what {@link Options} `host` names.
 *
 * Types are taken out of TypeScript, not checked; enums and other parts of it that are more than types are refused.
 *
 * **Gotchas**
 *
 * Install `quickjs-emscripten-core`, `@jitl/quickjs-wasmfile-release-sync` and, for TypeScript, `amaro` beside Holdfast.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { availableParallelism } from "node:os"
import { extname } from "node:path"
import { FunctionRuntime } from "../function/FunctionRuntime.ts"
import type { HostCall } from "../function/HostCall.ts"
import * as SandboxWorkers from "../function/internal/SandboxWorkers.ts"
import { wasm } from "../function/internal/Wasm.ts"

/** How much scripts may use, and what they may call. */
export interface Options<R = never> {
  /** Scripts that run at a time, each in a thread of its own. Default: 4, or as many as the machine has processors. */
  readonly maxWorkers?: number | undefined
  /** After so long without a script all threads but one end. Default: 1 minute. */
  readonly idleTime?: Duration.Input | undefined
  /** Memory of an execution, in bytes, at least 16 MiB; QuickJS itself takes up about 1 MiB of it. Default: 64 MiB. */
  readonly memoryBytes?: number | undefined
  /** What scripts may call, as `host.name(…)`, which returns a promise. Default: nothing. */
  readonly host?: Readonly<Record<string, HostCall<R>>> | undefined
}

/** The names of its languages. */
export const languages = ["javascript", "typescript"] as const

const workerFile = new URL(`./internal/worker${extname(new URL(import.meta.url).pathname)}`, import.meta.url)

const compile = Effect.promise(async () => {
  const path = createRequire(import.meta.url).resolve("@jitl/quickjs-wasmfile-release-sync/wasm")
  return await wasm.compile(await readFile(path))
})

/** Makes a runtime whose threads end with the current scope. */
export const make = Effect.fnUntraced(function* <R = never>(options: Options<R> = {}) {
  const wasmModule = yield* compile
  const workers = yield* SandboxWorkers.make({
    name: "quickjs",
    file: workerFile,
    workerData: { wasmModule },
    maxWorkers: options.maxWorkers ?? Math.max(4, availableParallelism()),
    idleTime: options.idleTime ?? "1 minute",
    memoryBytes: Math.max(options.memoryBytes ?? 64 * 1024 * 1024, 16 * 1024 * 1024),
    host: SandboxWorkers.provideHost(options.host ?? {}, yield* Effect.context<R>())
  })
  return FunctionRuntime.of({ languages, open: () => workers.open })
})

/** JavaScript and TypeScript. */
export const layer = <R = never>(options?: Options<R>): Layer.Layer<FunctionRuntime, never, R> =>
  Layer.effect(FunctionRuntime, make(options))
