/**
 * What a language implements to execute functions: open a sandbox in a scope, run a script in it.
 *
 * A sandbox lives as long as the scope that it was opened in. `run` is over when the script has stopped: interrupting it stops
 * the script for certain, also in an endless loop, and waits for that. Nothing that one execution did is left for the next.
 *
 * **When to use**
 *
 * `QuickJsRuntime` and `MicroPythonRuntime` implement it; {@link layerAll} makes one of several.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { ConsoleLine } from "./ExecutionRecord.ts"
import { FunctionError, LanguageUnknown } from "./FunctionError.ts"

/** A script and its language. */
export interface Script {
  readonly language: string
  readonly script: string
}

/** A call of the function that a script is. */
export interface Call extends Script {
  /** A JSON text. */
  readonly params: string
  /** A JSON text. */
  readonly context: string
  /** More bytes of JSON fail it with `ResultTooLarge`. */
  readonly resultBytes: number
  /** Told of each line that the script writes, up to so many bytes of all of them; then once of `undefined`. */
  readonly consoleBytes: number
  readonly onConsole: (line: ConsoleLine | undefined) => void
  /**
   * To be called when the script is done, also when it is being interrupted at that moment: then the outcome stands. Must come
   * last.
   */
  readonly onDone: (outcome: Exit.Exit<string, FunctionError>) => void
}

/** What runs scripts, one at a time. */
export interface Sandbox {
  readonly id: string
  /** Reads a script without running it. Fails with `ScriptInvalid`, which says where. */
  readonly check: (script: Script) => Effect.Effect<void, FunctionError>
  /** Runs a script and returns the JSON text of what its function returned. */
  readonly run: (call: Call) => Effect.Effect<string, FunctionError>
}

export class FunctionRuntime extends Context.Service<
  FunctionRuntime,
  {
    readonly languages: ReadonlyArray<string>
    /** Opens a sandbox for a language of these. */
    readonly open: (language: string) => Effect.Effect<Sandbox, FunctionError, Scope.Scope>
  }
>()("holdfast/function/FunctionRuntime") {}

const unknown = (language: string, languages: ReadonlyArray<string>) =>
  Effect.fail(new FunctionError({ reason: new LanguageUnknown({ language, languages }) }))

/** One runtime of several: each language is the first one's that has it. */
export const layerAll = <E, R>(
  runtimes: ReadonlyArray<Layer.Layer<FunctionRuntime, E, R>>
): Layer.Layer<FunctionRuntime, E, R> =>
  Layer.effect(
    FunctionRuntime,
    Effect.gen(function* () {
      const built = yield* Effect.forEach(runtimes, (runtime) =>
        Effect.map(Layer.build(Layer.fresh(runtime)), (context) => Context.get(context, FunctionRuntime))
      )
      const languages = built.flatMap((runtime) => runtime.languages)
      return FunctionRuntime.of({
        languages,
        open: (language) =>
          built.find((runtime) => runtime.languages.includes(language))?.open(language) ?? unknown(language, languages)
      })
    })
  )
