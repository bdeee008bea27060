/**
 * The function calls of the HTTP API: schemas only, shared by server, client and documentation. All of them need a session.
 */
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Schema from "effect/Schema"
import { ExecutionId } from "../function/ExecutionId.ts"
import { ConsoleLine } from "../function/ExecutionRecord.ts"
import { all } from "../function/ExecutionState.ts"
import { FunctionId } from "../function/FunctionId.ts"
import * as FunctionProblem from "./FunctionProblem.ts"
import { about, aboutLimited, limit, Timestamp } from "./internal/Wire.ts"
import * as Problem from "./Problem.ts"
import * as QueryProblem from "./QueryProblem.ts"
import { OriginRefused } from "./SameOrigin.ts"

const Time = Schema.NullOr(Timestamp)

/** A text that can be stored as it came. */
const Text = Schema.String.check(Schema.isPattern(/^[^\0]*$/u, { message: "Expected text without the character NUL" }))

/** A function, without its script. */
export const FunctionInfo = Schema.Struct({
  id: FunctionId,
  language: Schema.String,
  title: Schema.NullOr(Schema.String),
  createdAt: Timestamp,
  /** When it is gone unless it is executed before. */
  expiresAt: Timestamp
})
export type FunctionInfo = typeof FunctionInfo.Type

/** A function with its script. */
export const FunctionDetail = Schema.Struct({ ...FunctionInfo.fields, script: Schema.String, context: Schema.Json })

/** A function to be. */
export const FunctionCreation = Schema.Struct({
  /** Such as `javascript`, `typescript` or `python`. */
  language: Schema.String,
  /** JavaScript and TypeScript: `export default (params, context) => …`; Python: `def main(params, context)`. */
  script: Schema.String.check(Schema.isMinLength(1)),
  /** Given to each execution. */
  context: Schema.optionalKey(Schema.Json),
  title: Schema.optionalKey(Text.check(Schema.isMaxLength(200)))
})

/** Why an execution failed or was cancelled. */
export const ExecutionFailure = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  /** The name of what the script threw, such as `TypeError`. */
  name: Schema.optionalKey(Schema.String),
  line: Schema.optionalKey(Schema.Int),
  column: Schema.optionalKey(Schema.Int),
  stack: Schema.optionalKey(Schema.String)
})

/** An execution as its principal sees it. */
export const ExecutionInfo = Schema.Struct({
  id: ExecutionId,
  function: FunctionId,
  state: Schema.Literals(all),
  /** What the function returned; not there until it succeeded. */
  result: Schema.optionalKey(Schema.Json),
  error: Schema.optionalKey(ExecutionFailure),
  console: Schema.Array(ConsoleLine),
  /** Whether the script wrote more than is kept. */
  consoleTruncated: Schema.Boolean,
  /** Milliseconds that it ran; null until it is over, or where it never ran. */
  ms: Schema.NullOr(Schema.Finite),
  submittedAt: Timestamp,
  endedAt: Time,
  /** When the record is removed. */
  expiresAt: Time
})
export type ExecutionInfo = typeof ExecutionInfo.Type

const timeoutMs = Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 86_400_000 })))

/** What to execute a function with. */
export const ExecutionSubmission = Schema.Struct({
  /** Any JSON. */
  params: Schema.optionalKey(Schema.Json),
  /** Milliseconds from now until it is ended; at most what the operator says. Default: the same. */
  timeoutMs,
  /** Milliseconds that the answer may wait for the outcome. Default: 30,000. */
  wait: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 30_000 })))
})

/** No body is the same as an empty object. */
const submission = [ExecutionSubmission, Schema.Null] as const

const Created = HttpApiSchema.WithHeaders(FunctionInfo.pipe(HttpApiSchema.status(201)), { location: Schema.String })
const Accepted = HttpApiSchema.WithHeaders(ExecutionInfo.pipe(HttpApiSchema.status(202)), { location: Schema.String })
const Listed = HttpApiSchema.WithHeaders(Schema.Array(FunctionInfo), {
  /** The next page, `rel="next"` (RFC 8288); not there after the last. */
  link: Schema.optionalKey(Schema.String)
})

const byId = { params: { id: Schema.String } }
const away = [FunctionProblem.FunctionsUnavailable, FunctionProblem.FunctionsNotConfigured] as const
const find = [FunctionProblem.FunctionNotFound, Problem.NotFound, ...away] as const
const look = [FunctionProblem.ExecutionNotFound, Problem.NotFound, QueryProblem.TooManyAnswers, ...away] as const
const create = [
  Problem.RequestInvalid,
  FunctionProblem.ScriptInvalid,
  FunctionProblem.LanguageUnknown,
  FunctionProblem.FunctionTooLarge,
  FunctionProblem.FunctionRejected,
  OriginRefused,
  ...away,
  ...Problem.body
] as const
const execute = [
  ...find,
  Problem.RequestInvalid,
  FunctionProblem.FunctionTooLarge,
  FunctionProblem.FunctionRejected,
  QueryProblem.TooManyAnswers,
  OriginRefused,
  ...Problem.body
] as const

export class FunctionApi extends HttpApiGroup.make("functions").add(
  HttpApiEndpoint.post("create", "/functions", {
    payload: FunctionCreation,
    success: Created,
    error: create
  }).annotateMerge(
    about(
      "Create a function",
      "The script is read, not run; 422 says in which line and column it cannot be read. Every instance finds the function from this answer on."
    )
  ),
  HttpApiEndpoint.get("list", "/functions", {
    query: {
      cursor: Schema.optionalKey(Schema.String),
      /** Default: 100. */
      limit: limit(1000)
    },
    success: Listed,
    error: [QueryProblem.CursorInvalid, QueryProblem.TooManyAnswers, ...away]
  }).annotateMerge(
    aboutLimited(
      "One's own functions",
      "The newest first, without their scripts. The header Link leads to the next page.",
      1000,
      100
    )
  ),
  HttpApiEndpoint.get("find", "/functions/:id", {
    ...byId,
    success: FunctionDetail,
    error: [...find, QueryProblem.TooManyAnswers]
  }).annotateMerge(about("A function", "With its script and its context.")),
  HttpApiEndpoint.delete("end", "/functions/:id", {
    ...byId,
    success: HttpApiSchema.NoContent,
    error: [...find, OriginRefused]
  }).annotateMerge(
    about("End a function", "What runs of it here is over by the answer, elsewhere within two seconds.")
  ),
  HttpApiEndpoint.post("execute", "/functions/:id/executions", {
    ...byId,
    payload: submission,
    success: [ExecutionInfo, Accepted],
    error: execute
  }).annotateMerge(
    about(
      "Execute a function",
      "200 with the outcome when it is there within the time to wait, else 202: the execution goes on, and ends with the session. A failed script is an outcome, too."
    )
  ),
  HttpApiEndpoint.get("execution", "/executions/:id", { ...byId, success: ExecutionInfo, error: look }).annotateMerge(
    about("An execution", "Its state, what it wrote so far, and its result or why it has none.")
  ),
  HttpApiEndpoint.delete("cancel", "/executions/:id", {
    ...byId,
    success: ExecutionInfo,
    error: [...look, OriginRefused]
  }).annotateMerge(about("Cancel an execution", "Answers when the script has stopped, with the terminal state.")),
  HttpApiEndpoint.post("initialize", "/api/v1/initialize", {
    headers: {
      /** The language and a title, such as `nodejs-calculator` or `python-report`. */
      "language-title": Schema.String.check(
        Schema.isPattern(/^[A-Za-z]+-[\x20-\x7e]{1,200}$/u, {
          message: "Expected a language, a dash and a title, such as nodejs-calculator"
        })
      )
    },
    payload: Schema.Struct({
      script_content: Schema.String.check(Schema.isMinLength(1)),
      context: Schema.optionalKey(Schema.Json)
    }),
    success: Schema.Struct({
      request_id: FunctionId,
      language: Schema.String,
      title: Schema.String,
      expires_at: Timestamp
    }),
    error: create
  }).annotateMerge(
    about(
      "Create a function (v1)",
      "As POST /functions. The part of Language-Title before the dash is the language: nodejs and javascript, typescript, python."
    )
  ),
  HttpApiEndpoint.post("executeV1", "/api/v1/execute/:id", {
    ...byId,
    payload: submission,
    success: [ExecutionInfo, Accepted],
    error: execute
  }).annotateMerge(
    about("Execute a function (v1)", "As POST /functions/{id}/executions, with the request_id as its id.")
  )
) {}
