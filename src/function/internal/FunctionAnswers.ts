/**
 * What the errors of functions answer over HTTP: the codes, statuses and titles of their problems.
 */
import * as ProblemAnswer from "../../problem/ProblemAnswer.ts"

export const invalid = ProblemAnswer.kind("ScriptInvalid", 422, "The script cannot be read")
export const languageUnknown = ProblemAnswer.kind("LanguageUnknown", 422, "No runtime executes this language")
export const tooLarge = ProblemAnswer.kind("FunctionTooLarge", 413, "The function or its parameters are too long")
export const notFound = ProblemAnswer.kind("FunctionNotFound", 404, "There is no such function")
export const executionNotFound = ProblemAnswer.kind("ExecutionNotFound", 404, "There is no such execution")
export const rejected = ProblemAnswer.kind("FunctionRejected", 429, "There is no room for one more")
export const unavailable = ProblemAnswer.kind("FunctionsUnavailable", 503, "Functions cannot be used at the moment")
const canceled = ProblemAnswer.kind("ExecutionCanceled", 409, "The execution was cancelled")
const ended = ProblemAnswer.kind("FunctionEnded", 409, "The function was ended")
const late = ProblemAnswer.kind("ExecutionDeadlineExceeded", 504, "The execution took longer than it may")
const sessionEnded = ProblemAnswer.kind("SessionRevoked", 401, "The session was ended")

/** By the tag of the reason. What is wrong with the route's own script is the program's: the caller learns nothing of it. */
export const table = {
  LanguageUnknown: { kind: languageUnknown },
  FunctionTooLarge: { kind: tooLarge },
  FunctionNotFound: { kind: notFound },
  ExecutionNotFound: { kind: executionNotFound },
  FunctionRejected: { kind: rejected },
  FunctionsUnavailable: { kind: unavailable, detail: "Functions cannot be used at the moment. Try again later." },
  ExecutionCanceled: { kind: canceled },
  FunctionEnded: { kind: ended },
  ExecutionDeadlineExceeded: { kind: late },
  SessionEnded: { kind: sessionEnded },
  ScriptInvalid: { kind: invalid },
  ScriptFailed: undefined,
  ResultNotJson: undefined,
  ResultTooLarge: undefined,
  MemoryExceeded: undefined,
  NeverSettles: undefined,
  SandboxLost: undefined
}
