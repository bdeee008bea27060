/**
 * The functions of the service: the languages whose packages are installed, over the store that all instances share.
 *
 * They live until the service is told to end: a script that runs then does not wait until requests and queries are over. Packages are
 * loaded where functions are on.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as FunctionRuntime from "../function/FunctionRuntime.ts"
import * as Functions from "../function/Functions.ts"
import * as Lifetime from "../lifetime/Lifetime.ts"
import type { Databases } from "./Databases.ts"
import { Draining } from "./Draining.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import type { Settings } from "./Settings.ts"

const quickjs = OptionalPeer.load(
  async () => {
    import.meta.resolve("quickjs-emscripten-core")
    import.meta.resolve("@jitl/quickjs-wasmfile-release-sync")
    import.meta.resolve("amaro")
    return await import("../quickjs/QuickJsRuntime.ts")
  },
  "quickjs-emscripten-core",
  "@jitl/quickjs-wasmfile-release-sync",
  "amaro"
)

const micropython = OptionalPeer.load(async () => {
  import.meta.resolve("@micropython/micropython-webassembly-pyscript")
  return await import("../micropython/MicroPythonRuntime.ts")
}, "@micropython/micropython-webassembly-pyscript")

const store = OptionalPeer.load(() => import("../postgres/PgFunctionStore.ts"), "@effect/sql-pg")

/** Makes the table of functions, where they are used. */
export const migrate = ({ functions }: Settings, { own }: Databases) =>
  functions === "off" ? Effect.void : Effect.flatMap(store, ({ migrate }) => migrate({ url: own }))

const runtimes = Effect.fnUntraced(function* (settings: Settings) {
  const options = { maxWorkers: settings.maxExecutions, memoryBytes: settings.functionMemory }
  // Each language is there where its package is; one is enough.
  const rooms = [
    Effect.map(quickjs, ({ layer }) => layer(options)),
    Effect.map(micropython, ({ layer }) => layer(options))
  ]
  const found = yield* Effect.forEach(rooms, Effect.result)
  const layers = found.flatMap((room) => (Result.isSuccess(room) ? [room.success] : []))
  return layers.length === 0
    ? FunctionRuntime.layerAll([(yield* quickjs).layer(options)])
    : FunctionRuntime.layerAll(layers)
})

/** Ends an engine from the signal on that the service is about to end; calls are answered that functions are shutting down then. */
const untilDraining = <E, R>(engine: Layer.Layer<Functions.Functions, E, R>) =>
  Layer.effectContext(
    Effect.gen(function* () {
      const { begun } = yield* Draining
      const lifetime = yield* Lifetime.scoped({ kind: "functions", id: "of the service" })
      const context = yield* Layer.buildWithScope(engine, lifetime.scope)
      yield* Effect.forkScoped(Effect.andThen(begun, lifetime.begin()))
      return context
    })
  )

/** The engine; nothing where functions are off, or where the packages are not installed and nobody asked for them. */
export const layer = (settings: Settings, databases: Databases) =>
  Effect.gen(function* () {
    if (settings.functions === "off") return Layer.empty
    const runtime = yield* runtimes(settings)
    const { layer: stored } = yield* store
    const engine = Functions.layer({
      maxRunning: settings.maxExecutions,
      deadline: settings.functionTimeout,
      idleTimeout: settings.functionIdleTimeout,
      absoluteTimeout: settings.functionAbsoluteTimeout,
      maxScriptBytes: settings.functionMaxScript,
      maxContextBytes: settings.functionMaxParams,
      maxParamsBytes: settings.functionMaxParams,
      maxResultBytes: settings.functionMaxResult,
      maxConsoleBytes: settings.functionMaxConsole,
      maxFunctionsPerPrincipal: settings.maxFunctionsPerUser
    }).pipe(Layer.provide([runtime, stored({ url: databases.own })]))
    return untilDraining(engine)
  }).pipe(
    Effect.catchTag("PeerMissing", (missing) =>
      settings.functions === "auto"
        ? Effect.as(LogEvent.info({ event: "functions.off" }, `Functions are off: ${missing.message}`), Layer.empty)
        : Effect.fail(missing)
    ),
    Layer.unwrap
  )
