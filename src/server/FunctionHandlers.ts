/**
 * What the function calls do: the session says whose a function is and how long an execution may run.
 *
 * An execution is tied to the session's lifetime, not to the request's: it goes on when the answer is sent, and ends with the session. An
 * answer that waits for an outcome waits no longer than the service takes requests.
 */
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Struct from "effect/Struct"
import { ExecutionId } from "../function/ExecutionId.ts"
import * as ExecutionRecord from "../function/ExecutionRecord.ts"
import * as ExecutionState from "../function/ExecutionState.ts"
import type { FunctionError } from "../function/FunctionError.ts"
import { FunctionId } from "../function/FunctionId.ts"
import type { FunctionRecord } from "../function/FunctionRecord.ts"
import { type Creation, Functions } from "../function/Functions.ts"
import { ExecutionInfo, type ExecutionSubmission, FunctionInfo } from "../http/FunctionApi.ts"
import * as FunctionProblem from "../http/FunctionProblem.ts"
import * as Problem from "../http/Problem.ts"
import * as QueryProblem from "../http/QueryProblem.ts"
import * as SessionProblem from "../http/SessionProblem.ts"
import * as Answers from "./Answers.ts"
import { Draining } from "./Draining.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import * as JsonPieces from "./JsonPieces.ts"
import { ServiceSession } from "./ServiceSession.ts"

/** How long an answer waits for an outcome where the caller does not say, in milliseconds. */
const usualWait = 30_000

const infoOf = (record: FunctionRecord): FunctionInfo =>
  Struct.pick(record, ["id", "language", "title", "createdAt", "expiresAt"])

const failureOf = (error: NonNullable<ExecutionRecord.ExecutionRecord["error"]>): ExecutionInfo["error"] & {} => ({
  code: error._tag,
  message: error.message,
  ...(error._tag === "ScriptFailed" && { name: error.name }),
  ...("line" in error && error.line !== undefined && { line: error.line }),
  ...("column" in error && error.column !== undefined && { column: error.column }),
  ...("stack" in error && error._tag === "ScriptFailed" && error.stack !== undefined && { stack: error.stack })
})

const executionOf = (record: ExecutionRecord.ExecutionRecord): ExecutionInfo => ({
  ...Struct.pick(record, ["id", "function", "state", "console", "consoleTruncated", "ms", "expiresAt"]),
  ...(record.error !== null && { error: failureOf(record.error) }),
  submittedAt: record.transitions[0].at,
  endedAt: ExecutionRecord.endedAt(record)
})

const encodeInfo = Schema.encodeSync(FunctionInfo)
const encodeExecution = Schema.encodeSync(ExecutionInfo)

/** Characters of a JSON text that are sent at a time. */
const pieceLength = 32 * 1024

/** A JSON object with one more member, whose JSON text is there already and is not read again. */
function* withText(json: object, name: string, text: string | null): Generator<string, void> {
  const begun = JSON.stringify(json)
  if (text === null) return yield begun
  yield `${begun.slice(0, -1)},${JSON.stringify(name)}:`
  for (let at = 0; at < text.length;) {
    const end = at + pieceLength
    const isSplit = end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800
    yield text.slice(at, isSplit ? end - 1 : end)
    at = isSplit ? end - 1 : end
  }
  yield "}"
}

const decodeId = Schema.decodeUnknownOption(FunctionId)
const decodeExecutionId = Schema.decodeUnknownOption(ExecutionId)

/** An id that we cannot have issued belongs to nothing. */
const idOf = (text: string) =>
  Effect.mapError(
    Effect.fromOption(decodeId(text)),
    () => new FunctionProblem.FunctionNotFound({ detail: "There is no function of this id." })
  )
const executionIdOf = (text: string) =>
  Effect.mapError(
    Effect.fromOption(decodeExecutionId(text)),
    () => new FunctionProblem.ExecutionNotFound({ detail: "There is no execution of this id." })
  )

const cursorOf = (id: FunctionId) => Base64Url.encode(`function:${id}`)
const afterOf = (cursor: string | undefined): Effect.Effect<FunctionId | undefined, QueryProblem.CursorInvalid> => {
  if (cursor === undefined) return Effect.succeed(undefined)
  const text = Result.getOrElse(Base64Url.decodeString(cursor), () => "")
  return Effect.mapError(
    Effect.fromOption(text.startsWith("function:") ? decodeId(text.slice("function:".length)) : Option.none()),
    () => new QueryProblem.CursorInvalid({ detail: "Take that of the page before, or leave the cursor out." })
  )
}

/** What the first system of functions calls the languages. */
const languageNames: Readonly<Record<string, string>> = {
  nodejs: "javascript",
  node: "javascript",
  js: "javascript",
  ts: "typescript"
}

const retryAfter = (problem: FunctionProblem.Creating | FunctionProblem.Executing) =>
  problem._tag === "FunctionRejected" ? Problem.retryAfter(problem.retryAfterSeconds) : Effect.void

/** Over the {@link Functions} in context; answers `FunctionsNotConfigured` where there are none. */
export const layer = HttpApiBuilder.group(
  HoldfastApi,
  "functions",
  Effect.fnUntraced(function* (handlers) {
    const configured = yield* Effect.serviceOption(Functions)
    const draining = yield* Draining
    const answers = yield* Answers.Answers
    const engine = Effect.mapError(
      Effect.fromOption(configured),
      () => new FunctionProblem.FunctionsNotConfigured({ detail: "The operator has to set HOLDFAST_FUNCTIONS=on." })
    )
    const principal = Effect.flatMap(ServiceSession, (session) =>
      Effect.mapBoth(session.principal, { onFailure: SessionProblem.from, onSuccess: (name) => name ?? "" })
    )

    const answer = Effect.fnUntraced(function* (record: ExecutionRecord.ExecutionRecord) {
      const body = withText(encodeExecution(executionOf(record)), "result", record.result)
      const isOver = ExecutionState.isTerminal(record.state)
      const response = yield* answers.json(Answers.ofText(body), { principal: record.principal })
      return isOver
        ? response
        : HttpServerResponse.setHeader(
            HttpServerResponse.setStatus(response, 202),
            "location",
            `/executions/${record.id}`
          )
    })
    /** As `answer`, of what was asked for: it is there, whatever its state. */
    const shown = (asked: Effect.Effect<ExecutionRecord.ExecutionRecord, FunctionError>) =>
      Effect.flatMap(Effect.mapError(asked, FunctionProblem.fromLook), (record) =>
        Effect.map(answer(record), HttpServerResponse.setStatus(200)).pipe(
          Effect.map(HttpServerResponse.removeHeader("location"))
        )
      )

    const create = Effect.fnUntraced(function* (creation: Omit<Creation, "principal">) {
      const functions = yield* engine
      return yield* functions
        .create({ ...creation, principal: yield* principal })
        .pipe(Effect.mapError(FunctionProblem.fromCreate), Effect.tapError(retryAfter))
    })

    const execute = Effect.fnUntraced(function* (path: string, payload: typeof ExecutionSubmission.Type | null) {
      const functions = yield* engine
      const id = yield* idOf(path)
      const session = yield* ServiceSession
      const mine = yield* principal
      const { params = null, timeoutMs, wait = usualWait } = payload ?? {}
      const record = yield* functions
        .execute({
          principal: mine,
          function: id,
          params: JSON.stringify(params),
          owner: yield* Effect.mapError(session.lifetime, SessionProblem.from),
          session: yield* Effect.mapError(session.id, SessionProblem.from),
          ...(timeoutMs !== undefined && { deadline: timeoutMs })
        })
        .pipe(Effect.mapError(FunctionProblem.fromExecute), Effect.tapError(retryAfter))
      // A service that stops answers what it knows, and ends the execution.
      const outcome = Effect.raceFirst(
        functions.await(mine, record.id),
        Effect.andThen(draining.begun, Effect.fail("draining"))
      )
      const known = outcome.pipe(
        Effect.timeout(Math.max(wait, 1)),
        Effect.catch(() => functions.status(mine, record.id)),
        Effect.catch(() => Effect.succeed(record))
      )
      return yield* answer(yield* known)
    })

    return handlers.handleAll({
      create: Effect.fnUntraced(function* ({ payload }) {
        const { context = null, language, script, title } = payload
        const record = yield* create({
          language,
          script,
          context: JSON.stringify(context),
          ...(title !== undefined && { title })
        })
        return HttpApiSchema.withHeaders({ body: infoOf(record), headers: { location: `/functions/${record.id}` } })
      }),
      list: Effect.fnUntraced(function* ({ query }) {
        const { cursor, limit = 100 } = query
        const after = yield* afterOf(cursor)
        const mine = yield* principal
        const { functions, next } = yield* Effect.mapError(
          (yield* engine).list(mine, { limit, after }),
          ({ message }) => new FunctionProblem.FunctionsUnavailable({ detail: message })
        )
        const list = JsonPieces.ofList(functions, (record) => encodeInfo(infoOf(record)))
        const link =
          next === undefined ? {} : { link: `</functions?limit=${limit}&cursor=${cursorOf(next)}>; rel="next"` }
        return yield* answers.json(Answers.ofText(list), { principal: mine, headers: link })
      }),
      find: Effect.fnUntraced(function* ({ params }) {
        const id = yield* idOf(params.id)
        const mine = yield* principal
        const record = yield* Effect.mapError((yield* engine).find(mine, id), FunctionProblem.fromFind)
        const body = withText({ ...encodeInfo(infoOf(record)), script: record.script }, "context", record.context)
        return yield* answers.json(Answers.ofText(body), { principal: mine })
      }),
      end: Effect.fnUntraced(function* ({ params }) {
        const id = yield* idOf(params.id)
        yield* Effect.mapError((yield* engine).end(yield* principal, id), FunctionProblem.fromFind)
      }),
      execute: ({ params, payload }) => execute(params.id, payload),
      executeV1: ({ params, payload }) => execute(params.id, payload),
      execution: Effect.fnUntraced(function* ({ params }) {
        const id = yield* executionIdOf(params.id)
        return yield* shown((yield* engine).status(yield* principal, id))
      }),
      cancel: Effect.fnUntraced(function* ({ params }) {
        const id = yield* executionIdOf(params.id)
        return yield* shown((yield* engine).cancel(yield* principal, id))
      }),
      initialize: Effect.fnUntraced(function* ({ headers, payload }) {
        const [name = "", ...rest] = headers["language-title"].split("-")
        const title = rest.join("-")
        const language = languageNames[name.toLowerCase()] ?? name.toLowerCase()
        const { context = null, script_content: script } = payload
        const record = yield* create({ language, script, title, context: JSON.stringify(context) })
        return { request_id: record.id, language, title, expires_at: record.expiresAt }
      })
    })
  })
)
