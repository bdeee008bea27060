/**
 * What became of a script, as an error of Holdfast.
 */
import * as Exit from "effect/Exit"
import {
  FunctionError,
  MemoryExceeded,
  NeverSettles,
  ResultNotJson,
  ResultTooLarge,
  SandboxLost,
  ScriptFailed,
  ScriptInvalid,
  type ScriptReason
} from "../FunctionError.ts"
import type { Outcome, Thrown } from "./SandboxProtocol.ts"

/** What was exceeded, where something was. */
export interface Limits {
  readonly memoryBytes: number
  readonly resultBytes: number
}

const positionOf = ({ column, line }: Thrown) => ({
  ...(line !== undefined && { line }),
  ...(line !== undefined && column !== undefined && { column })
})

/** Why there is no result; nothing where there is one, or where the script was stopped. */
const reasonOf = (outcome: Outcome, { memoryBytes, resultBytes }: Limits): ScriptReason | undefined => {
  switch (outcome.type) {
    case "invalid":
      return new ScriptInvalid({ problem: outcome.thrown.problem, ...positionOf(outcome.thrown) })
    case "failed": {
      const { name, problem, stack } = outcome.thrown
      return new ScriptFailed({ name, problem, ...positionOf(outcome.thrown), ...(stack !== undefined && { stack }) })
    }
    case "notJson":
      return new ResultNotJson({ problem: outcome.problem })
    case "tooLarge":
      return new ResultTooLarge({ limitBytes: resultBytes })
    case "memory":
      return new MemoryExceeded({ limitBytes: memoryBytes })
    case "neverSettles":
      return new NeverSettles({})
    case "broken":
      return new SandboxLost({ problem: outcome.problem })
    default:
      return undefined
  }
}

/** The JSON text or the error of an outcome; nothing of a script that was stopped. */
export const exitOf = (outcome: Outcome, limits: Limits): Exit.Exit<string, FunctionError> | undefined => {
  if (outcome.type === "stopped") return undefined
  const reason = reasonOf(outcome, limits)
  if (reason !== undefined) return Exit.fail(new FunctionError({ reason }))
  return Exit.succeed(outcome.type === "result" ? outcome.text : "null")
}
