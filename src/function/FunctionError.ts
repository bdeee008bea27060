/**
 * Why a function was not taken in, not found or not executed, or why its script failed. One error for the area; the `reason`
 * says which case it is.
 */
import * as Schema from "effect/Schema"
import * as ProblemAnswer from "../problem/ProblemAnswer.ts"
import * as FunctionAnswers from "./internal/FunctionAnswers.ts"

/** Where in the script something is, both counted from 1, as far as the runtime tells. */
const position = {
  line: Schema.optionalKey(Schema.Int),
  column: Schema.optionalKey(Schema.Int)
}

const at = ({ column, line }: { readonly line?: number; readonly column?: number }): string =>
  line === undefined ? "" : column === undefined ? ` (line ${line})` : ` (line ${line}, column ${column})`

/** The script cannot be read by its language's parser. Nothing of it has run. */
export class ScriptInvalid extends Schema.TaggedError<ScriptInvalid>("holdfast/function/FunctionError/ScriptInvalid")(
  "ScriptInvalid",
  { problem: Schema.String, ...position }
) {
  override get message(): string {
    return `The script cannot be read: ${this.problem}${at(this)}`
  }
}

/** No runtime here executes that language. */
export class LanguageUnknown extends Schema.TaggedError<LanguageUnknown>(
  "holdfast/function/FunctionError/LanguageUnknown"
)("LanguageUnknown", { language: Schema.String, languages: Schema.Array(Schema.String) }) {
  override get message(): string {
    const { language, languages } = this
    return `No runtime here executes ${JSON.stringify(language)}. Use one of ${languages.join(", ")}.`
  }
}

/** A script, a context or parameters are longer than they may be. */
export class FunctionTooLarge extends Schema.TaggedError<FunctionTooLarge>(
  "holdfast/function/FunctionError/FunctionTooLarge"
)("FunctionTooLarge", { what: Schema.Literals(["script", "context", "params"]), limitBytes: Schema.Int }) {
  override get message(): string {
    return `The ${this.what} may have ${this.limitBytes} bytes at most. Send less.`
  }
}

/** The script threw, at its top level or when it was called, and did not catch it. */
export class ScriptFailed extends Schema.TaggedError<ScriptFailed>("holdfast/function/FunctionError/ScriptFailed")(
  "ScriptFailed",
  {
    /** The name of what was thrown, such as `TypeError`. */
    name: Schema.String,
    problem: Schema.String,
    ...position,
    stack: Schema.optionalKey(Schema.String)
  }
) {
  override get message(): string {
    return `${this.name}: ${this.problem}${at(this)}`
  }
}

/** What the function returned cannot be told in JSON. */
export class ResultNotJson extends Schema.TaggedError<ResultNotJson>("holdfast/function/FunctionError/ResultNotJson")(
  "ResultNotJson",
  { problem: Schema.String }
) {
  override get message(): string {
    return this.problem
  }
}

/** What the function returned is longer than what is kept. */
export class ResultTooLarge extends Schema.TaggedError<ResultTooLarge>(
  "holdfast/function/FunctionError/ResultTooLarge"
)("ResultTooLarge", { limitBytes: Schema.Int }) {
  override get message(): string {
    return `The result has more than the ${this.limitBytes} bytes of JSON that are kept. Return less.`
  }
}

/** The script asked for more memory than an execution has. */
export class MemoryExceeded extends Schema.TaggedError<MemoryExceeded>(
  "holdfast/function/FunctionError/MemoryExceeded"
)("MemoryExceeded", { limitBytes: Schema.Int }) {
  override get message(): string {
    return `The script used up the ${this.limitBytes} bytes of memory that an execution has. Hold less at a time.`
  }
}

/** The function waits for a promise, and nothing is left that could settle it. */
export class NeverSettles extends Schema.TaggedError<NeverSettles>("holdfast/function/FunctionError/NeverSettles")(
  "NeverSettles",
  {}
) {
  override get message(): string {
    return "The function waits for a promise that nothing is left to settle. Settle it, or return a value."
  }
}

/** What ran the script ended without an outcome: it was broken by the script, or the machine has no room for it. */
export class SandboxLost extends Schema.TaggedError<SandboxLost>("holdfast/function/FunctionError/SandboxLost")(
  "SandboxLost",
  { problem: Schema.String }
) {
  override get message(): string {
    return `What ran the script was lost: ${this.problem}`
  }
}

/** Somebody who may do so cancelled it. */
export class ExecutionCanceled extends Schema.TaggedError<ExecutionCanceled>(
  "holdfast/function/FunctionError/ExecutionCanceled"
)("ExecutionCanceled", {}) {
  override get message(): string {
    return "The execution was cancelled."
  }
}

/** The session it belonged to ended. */
export class SessionEnded extends Schema.TaggedError<SessionEnded>("holdfast/function/FunctionError/SessionEnded")(
  "SessionEnded",
  {}
) {
  override get message(): string {
    return "The session that the execution belonged to ended. Log in and execute the function again."
  }
}

/** Its function was ended. */
export class FunctionEnded extends Schema.TaggedError<FunctionEnded>("holdfast/function/FunctionError/FunctionEnded")(
  "FunctionEnded",
  {}
) {
  override get message(): string {
    return "The function was ended while it was executed. Create it again to execute it."
  }
}

/** It took longer than its deadline allowed, waiting included. */
export class ExecutionDeadlineExceeded extends Schema.TaggedError<ExecutionDeadlineExceeded>(
  "holdfast/function/FunctionError/ExecutionDeadlineExceeded"
)("ExecutionDeadlineExceeded", { afterMillis: Schema.Finite }) {
  override get message(): string {
    return `The execution did not finish within ${this.afterMillis} ms. Give it a longer deadline or less to do.`
  }
}

/** Functions cannot be stored, found or executed now: the store or the runtime is away, or they are shutting down. */
export class FunctionsUnavailable extends Schema.TaggedError<FunctionsUnavailable>(
  "holdfast/function/FunctionError/FunctionsUnavailable"
)("FunctionsUnavailable", { problem: Schema.String }) {
  override get message(): string {
    return this.problem
  }
}

/** There is no room for one more execution to wait, or for one more function of this principal. */
export class FunctionRejected extends Schema.TaggedError<FunctionRejected>(
  "holdfast/function/FunctionError/FunctionRejected"
)("FunctionRejected", {
  limit: Schema.Literals([
    "waiting",
    "waitingOfPrincipal",
    "waitingBytes",
    "waitingBytesOfPrincipal",
    "functionsOfPrincipal",
    "functionBytesOfPrincipal"
  ]),
  /** How many there are already; of bytes, how many there may be. */
  count: Schema.Int,
  /** When there may be room again. */
  retryAfterSeconds: Schema.Int
}) {
  override get message(): string {
    const { count, limit, retryAfterSeconds } = this
    return {
      waiting: `${count} executions are waiting already. Try again in ${retryAfterSeconds} s.`,
      waitingOfPrincipal: `${count} of your executions are waiting already. Try again in ${retryAfterSeconds} s, or cancel some.`,
      waitingBytes: `The executions that wait and run take up as much memory as they may. Try again in ${retryAfterSeconds} s.`,
      waitingBytesOfPrincipal: `Your executions that wait and run take up as much memory as they may. Try again in ${retryAfterSeconds} s, or cancel some.`,
      functionsOfPrincipal: `You have ${count} functions, and may have no more. End some, or wait until some expire.`,
      functionBytesOfPrincipal: `The scripts and contexts of your functions fill the ${count} bytes that they may have. End some, or wait until some expire.`
    }[limit]
  }
}

/** There is no such function for this principal: unknown, somebody else's, ended or expired. */
export class FunctionNotFound extends Schema.TaggedError<FunctionNotFound>(
  "holdfast/function/FunctionError/FunctionNotFound"
)("FunctionNotFound", {}) {
  override get message(): string {
    return "There is no such function. It may have been ended, or have expired; create it again."
  }
}

/** There is no such execution for this principal: unknown, somebody else's, or past its retention. */
export class ExecutionNotFound extends Schema.TaggedError<ExecutionNotFound>(
  "holdfast/function/FunctionError/ExecutionNotFound"
)("ExecutionNotFound", {}) {
  override get message(): string {
    return "There is no such execution here. It may have passed its retention; execute the function again."
  }
}

/** Why the script of an execution has no result. */
export const ScriptReason = Schema.Union([
  ScriptInvalid,
  ScriptFailed,
  ResultNotJson,
  ResultTooLarge,
  MemoryExceeded,
  NeverSettles,
  SandboxLost
])
export type ScriptReason = typeof ScriptReason.Type

/** The error of everything under `holdfast/function`. A route that it leaves answers with the problem of its reason. */
export class FunctionError extends Schema.TaggedError<FunctionError>("holdfast/function/FunctionError")(
  "FunctionError",
  {
    reason: Schema.Union([
      ...ScriptReason.members,
      LanguageUnknown,
      FunctionTooLarge,
      ExecutionCanceled,
      SessionEnded,
      FunctionEnded,
      ExecutionDeadlineExceeded,
      FunctionsUnavailable,
      FunctionRejected,
      FunctionNotFound,
      ExecutionNotFound
    ])
  }
) {
  override get message(): string {
    return this.reason.message
  }

  [ProblemAnswer.symbol]() {
    return ProblemAnswer.of(FunctionAnswers.table, this)
  }
}

/** The error of a reason. */
export const of = (reason: FunctionError["reason"]): FunctionError => new FunctionError({ reason })
