/**
 * What the query calls do: the session says whose a query is and how long it may run.
 *
 * A submitted query is tied to the session's lifetime, not to the request's: it goes on when the response is sent, and
 * ends with the session.
 */
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Struct from "effect/Struct"
import * as Problem from "../Problem.ts"
import type { QueryInfo } from "../query/QueryApi.ts"
import { QueryId } from "../query/QueryId.ts"
import * as QueryProblem from "../query/QueryProblem.ts"
import * as QueryRecord from "../query/QueryRecord.ts"
import { QueryRegistry } from "../query/QueryRegistry.ts"
import * as SessionProblem from "../session/SessionProblem.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import { ServiceSession } from "./ServiceSession.ts"

const failureOf = (error: NonNullable<QueryRecord.QueryRecord["error"]>): NonNullable<QueryInfo["error"]> =>
  error._tag === "StatementFailed"
    ? {
        code: error._tag,
        message: error.message,
        ...(error.code !== undefined && { sqlState: error.code }),
        ...(error.detail !== undefined && { detail: error.detail }),
        ...(error.hint !== undefined && { hint: error.hint }),
        ...(error.position !== undefined && { position: error.position })
      }
    : { code: error._tag, message: error.message }

const infoOf = (record: QueryRecord.QueryRecord): QueryInfo => ({
  ...Struct.pick(record, ["id", "state", "sql", "expiresAt", "rowCount"]),
  submittedAt: record.transitions[0].at,
  startedAt: QueryRecord.since(record, "Running"),
  endedAt: QueryRecord.endedAt(record),
  error: record.error === null ? null : failureOf(record.error)
})

const decodeId = Schema.decodeUnknownOption(QueryId)

/** An id that we cannot have issued belongs to no query. */
const idOf = (text: string) =>
  Option.match(decodeId(text), {
    onNone: () => Effect.fail(new QueryProblem.QueryNotFound({ detail: "There is no query of this id." })),
    onSome: Effect.succeed
  })

const cursorPattern = /^row:(\d{1,15})$/
const cursorOf = (offset: number) => Base64Url.encode(`row:${offset}`)
const offsetOf = (cursor: string | undefined) => {
  if (cursor === undefined) return Effect.succeed(0)
  const match = cursorPattern.exec(Result.getOrElse(Base64Url.decodeString(cursor), () => ""))
  return match === null
    ? Effect.fail(
        new QueryProblem.CursorInvalid({ detail: "Take `next` of the page before, or leave the cursor out." })
      )
    : Effect.succeed(Number(match[1]))
}

const retryAfter = (problem: QueryProblem.Submitting) =>
  problem._tag === "QueryRejected" ? Problem.retryAfter(problem.retryAfterSeconds) : Effect.void

/** Over the {@link QueryRegistry} in context; answers `QueriesNotConfigured` where there is none. */
export const layer = HttpApiBuilder.group(
  HoldfastApi,
  "queries",
  Effect.fnUntraced(function* (handlers) {
    const configured = yield* Effect.serviceOption(QueryRegistry)
    const registry = Option.match(configured, {
      onNone: () =>
        Effect.fail(new QueryProblem.QueriesNotConfigured({ detail: "The operator has to set HOLDFAST_QUERY_URL." })),
      onSome: Effect.succeed
    })
    const principal = Effect.flatMap(ServiceSession, (session) =>
      Effect.mapBoth(session.principal, { onFailure: SessionProblem.from, onSuccess: (name) => name ?? "" })
    )

    return handlers.handleAll({
      submit: Effect.fnUntraced(function* ({ payload }) {
        const queries = yield* registry
        const session = yield* ServiceSession
        const { id, state } = yield* queries
          .submit({
            statement: { sql: payload.sql, params: payload.params ?? [] },
            principal: yield* principal,
            owner: yield* Effect.mapError(session.lifetime, SessionProblem.from),
            ...(payload.timeoutMs !== undefined && { deadline: payload.timeoutMs })
          })
          .pipe(Effect.mapError(QueryProblem.fromSubmit), Effect.tapError(retryAfter))
        return HttpApiSchema.withHeaders({ body: { id, state }, headers: { location: `/queries/${id}` } })
      }),
      list: Effect.fnUntraced(function* () {
        const { queries } = yield* (yield* registry).list(yield* principal)
        return queries.map(infoOf)
      }),
      status: Effect.fnUntraced(function* ({ params }) {
        const id = yield* idOf(params.id)
        const record = (yield* registry).status(yield* principal, id)
        return infoOf(yield* Effect.mapError(record, QueryProblem.fromLook))
      }),
      rows: Effect.fnUntraced(function* ({ params, query }) {
        const id = yield* idOf(params.id)
        const options = { offset: yield* offsetOf(query.cursor), limit: query.limit ?? 1000 }
        const page = (yield* registry).page(yield* principal, id, options)
        const { columns, next, rows } = yield* Effect.mapError(page, QueryProblem.fromRead)
        return { columns, rows, next: next === undefined ? null : cursorOf(next) }
      }),
      cancel: Effect.fnUntraced(function* ({ params }) {
        const id = yield* idOf(params.id)
        const record = (yield* registry).cancel(yield* principal, id)
        return infoOf(yield* Effect.mapError(record, QueryProblem.fromLook))
      })
    })
  })
)
