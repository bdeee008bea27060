/**
 * How the service executes functions, from the environment.
 */
import * as ByteSize from "effect/ByteSize"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { usualRunning } from "../function/internal/FunctionLimits.ts"
import { duration, integer, read, refuse } from "./SettingsReading.ts"

/** What the operator says. */
export interface FunctionSettings {
  /** `auto`: where the packages that run them are installed. */
  readonly functions: "on" | "off" | "auto"
  readonly functionIdleTimeout: Duration.Duration
  readonly functionAbsoluteTimeout: Duration.Duration
  /** Of an execution, waiting included. */
  readonly functionTimeout: Duration.Duration
  /** Bytes. */
  readonly functionMemory: number
  readonly functionMaxScript: number
  readonly functionMaxParams: number
  readonly functionMaxResult: number
  readonly functionMaxConsole: number
  /** Executions that run at a time. */
  readonly maxExecutions: number
  readonly maxFunctionsPerUser: number
}

/** Reads the variables; functions are on by default where the database is embedded. */
export const load = Effect.fnUntraced(function* (isEmbedded: boolean) {
  const size = (variable: string, fallback: number, minimum: number, maximum: number) => {
    const expects = `a size from ${shown(minimum)} to ${shown(maximum)}, such as "${shown(fallback)}"`
    return read(variable, (name) => Config.withDefault(Config.ByteSize(name), ByteSize.bytes(fallback)), expects).pipe(
      Effect.map(ByteSize.toNumberUnsafe),
      Effect.filterOrElse(
        (bytes) => bytes >= minimum && bytes <= maximum,
        () => refuse(variable, `must be ${expects}`)
      )
    )
  }
  const usual = isEmbedded ? ("auto" as const) : ("off" as const)
  const functions: FunctionSettings["functions"] = yield* read(
    "HOLDFAST_FUNCTIONS",
    (name) => Config.withDefault(Config.Literals(["on", "off"], name), usual),
    "off or on"
  )
  return {
    functions,
    functionIdleTimeout: yield* duration("HOLDFAST_FUNCTION_IDLE_TIMEOUT", "1 hour"),
    functionAbsoluteTimeout: yield* duration("HOLDFAST_FUNCTION_ABSOLUTE_TIMEOUT", "7 days"),
    functionTimeout: yield* duration("HOLDFAST_FUNCTION_TIMEOUT", "30 seconds"),
    functionMemory: yield* size("HOLDFAST_FUNCTION_MEMORY", 64 * mebibyte, 16 * mebibyte, 2048 * mebibyte),
    functionMaxScript: yield* size("HOLDFAST_FUNCTION_MAX_SCRIPT", 256 * kibibyte, 1, mebibyte),
    functionMaxParams: yield* size("HOLDFAST_FUNCTION_MAX_PARAMS", mebibyte, 1, mebibyte),
    functionMaxResult: yield* size("HOLDFAST_FUNCTION_MAX_RESULT", mebibyte, 1, 16 * mebibyte),
    functionMaxConsole: yield* size("HOLDFAST_FUNCTION_MAX_CONSOLE", 64 * kibibyte, 0, mebibyte),
    maxExecutions: yield* integer("HOLDFAST_MAX_EXECUTIONS", usualRunning(), 1, 256),
    maxFunctionsPerUser: yield* integer("HOLDFAST_MAX_FUNCTIONS_PER_USER", 10_000, 1, 1_000_000)
  } satisfies FunctionSettings
})

const kibibyte = 1024
const mebibyte = 1024 * 1024

const shown = (bytes: number): string =>
  bytes >= mebibyte ? `${bytes / mebibyte} MiB` : bytes >= kibibyte ? `${bytes / kibibyte} KiB` : `${bytes} B`
