/**
 * What the function calls answer when they do not succeed.
 */
import * as Schema from "effect/Schema"
import * as FunctionAnswers from "../function/internal/FunctionAnswers.ts"
import type { FunctionError } from "../function/FunctionError.ts"
import * as Problem from "./Problem.ts"

const position = { line: Schema.optionalKey(Schema.Int), column: Schema.optionalKey(Schema.Int) }

export class ScriptInvalid extends Problem.Class<ScriptInvalid>()(...FunctionAnswers.invalid, position) {}

export class LanguageUnknown extends Problem.Class<LanguageUnknown>()(...FunctionAnswers.languageUnknown, {
  languages: Schema.Array(Schema.String)
}) {}

export class FunctionTooLarge extends Problem.Class<FunctionTooLarge>()(...FunctionAnswers.tooLarge, {
  limitBytes: Schema.Int
}) {}

export class FunctionNotFound extends Problem.Class<FunctionNotFound>()(...FunctionAnswers.notFound) {}

export class ExecutionNotFound extends Problem.Class<ExecutionNotFound>()(...FunctionAnswers.executionNotFound) {}

export class FunctionRejected extends Problem.Class<FunctionRejected>()(...FunctionAnswers.rejected, {
  retryAfterSeconds: Schema.Int
}) {}

export class FunctionsUnavailable extends Problem.Class<FunctionsUnavailable>()(...FunctionAnswers.unavailable) {}

export class FunctionsNotConfigured extends Problem.Class<FunctionsNotConfigured>()(
  "FunctionsNotConfigured",
  503,
  "This service executes no functions"
) {}

/** The problems of creating. */
export type Creating = ScriptInvalid | LanguageUnknown | FunctionTooLarge | FunctionRejected | FunctionsUnavailable

/** The problems of executing. */
export type Executing = FunctionNotFound | FunctionTooLarge | FunctionRejected | FunctionsUnavailable

/** An error of a creation as the caller sees it. */
export const fromCreate = ({ reason }: FunctionError): Creating => {
  const detail = reason.message
  switch (reason._tag) {
    case "ScriptInvalid":
      return new ScriptInvalid({
        detail,
        ...(reason.line !== undefined && { line: reason.line }),
        ...(reason.column !== undefined && { column: reason.column })
      })
    case "ExecutionDeadlineExceeded":
    case "MemoryExceeded":
    case "SandboxLost":
      return new ScriptInvalid({ detail: `The script cannot be read: ${detail}` })
    case "LanguageUnknown":
      return new LanguageUnknown({ detail, languages: reason.languages })
    case "FunctionTooLarge":
      return new FunctionTooLarge({ detail, limitBytes: reason.limitBytes })
    case "FunctionRejected":
      return new FunctionRejected({ detail, retryAfterSeconds: reason.retryAfterSeconds })
    default:
      return new FunctionsUnavailable({ detail })
  }
}

/** An error of taking an execution in as the caller sees it. */
export const fromExecute = ({ reason }: FunctionError): Executing => {
  const detail = reason.message
  switch (reason._tag) {
    case "FunctionNotFound":
      return new FunctionNotFound({ detail })
    case "FunctionTooLarge":
      return new FunctionTooLarge({ detail, limitBytes: reason.limitBytes })
    case "FunctionRejected":
      return new FunctionRejected({ detail, retryAfterSeconds: reason.retryAfterSeconds })
    default:
      return new FunctionsUnavailable({ detail })
  }
}

/** An error of looking at a function, or of ending it, as the caller sees it. */
export const fromFind = ({ reason }: FunctionError): FunctionNotFound | FunctionsUnavailable =>
  reason._tag === "FunctionNotFound"
    ? new FunctionNotFound({ detail: reason.message })
    : new FunctionsUnavailable({ detail: reason.message })

/** An error of looking at an execution, or of cancelling it, as the caller sees it. */
export const fromLook = ({ reason }: FunctionError): ExecutionNotFound | FunctionsUnavailable =>
  reason._tag === "ExecutionNotFound"
    ? new ExecutionNotFound({ detail: reason.message })
    : new FunctionsUnavailable({ detail: reason.message })
