/**
 * What the query calls do: the session says whose a query is and how long it may run.
 *
 * A submitted query is tied to the session's lifetime, not to the request's: it goes on when the response is sent, and
 * ends with the session. A stream of events lasts until the query or the session is over, the client is gone or the service
 * drains.
 */
import * as Effect from "effect/Effect"
import * as Base64Url from "effect/encoding/Base64Url"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Record from "effect/Record"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Struct from "effect/Struct"
import * as Problem from "../http/Problem.ts"
import * as SessionMiddleware from "../http/SessionMiddleware.ts"
import { QueryInfo } from "../http/QueryApi.ts"
import { QueryId } from "../query/QueryId.ts"
import type { QueryError } from "../query/QueryError.ts"
import * as QueryProblem from "../http/QueryProblem.ts"
import * as QueryRecord from "../query/QueryRecord.ts"
import { type Event, QueryRegistry } from "../query/QueryRegistry.ts"
import * as QueryState from "../query/QueryState.ts"
import * as SessionProblem from "../http/SessionProblem.ts"
import * as Answers from "./Answers.ts"
import * as Turns from "../lifetime/internal/Turns.ts"
import { Draining } from "./Draining.ts"
import { Engines } from "./Engines.ts"
import { usual } from "./EngineSettings.ts"
import * as EventStream from "../http/internal/EventStream.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import * as JsonPieces from "./JsonPieces.ts"
import * as QueryEvents from "./QueryEvents.ts"
import * as QueryFeed from "./QueryFeed.ts"
import { QueryNews } from "./QueryNews.ts"
import * as QueryParameters from "./QueryParameters.ts"
import * as QueryRoleMap from "./QueryRoleMap.ts"
import * as QueryTimeouts from "./QueryTimeouts.ts"
import { Readiness } from "./Readiness.ts"
import { ServiceSession } from "./ServiceSession.ts"
import * as SharedQueries from "./SharedQueries.ts"

const failureOf = (error: NonNullable<QueryRecord.QueryRecord["error"]>): NonNullable<QueryInfo["error"]> =>
  error._tag === "StatementFailed"
    ? {
        code: error._tag,
        message: error.message,
        ...(error.code !== undefined && { sqlState: error.code }),
        ...(error.detail !== undefined && { detail: error.detail }),
        ...(error.hint !== undefined && { hint: error.hint }),
        ...(error.position !== undefined && { position: error.position }),
        ...(error.written !== undefined && { written: error.written })
      }
    : {
        code: error._tag,
        message: error.message,
        ...("written" in error && error.written !== undefined && { written: error.written })
      }

const infoOf = (record: QueryRecord.QueryRecord): QueryInfo => ({
  ...Struct.pick(record, [
    "id",
    "session",
    "state",
    "engine",
    "instance",
    "sql",
    "expiresAt",
    "rowCount",
    "bytes",
    "notices",
    "noticesDropped",
    "transitions"
  ]),
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

/** Cursors are opaque to the client; `what` tells those of one listing from those of another. */
const cursorsOf = (what: string) => {
  const pattern = new RegExp(`^${what}:(\\d{1,15})$`)
  return {
    encode: (position: number) => Base64Url.encode(`${what}:${position}`),
    decode: (cursor: string | undefined): Effect.Effect<number | undefined, QueryProblem.CursorInvalid> => {
      if (cursor === undefined) return Effect.succeed(undefined)
      const match = pattern.exec(Result.getOrElse(Base64Url.decodeString(cursor), () => ""))
      return match === null
        ? Effect.fail(
            new QueryProblem.CursorInvalid({ detail: "Take that of the page before, or leave the cursor out." })
          )
        : Effect.succeed(Number(match[1]))
    }
  }
}
const rowCursors = (id: QueryId) => cursorsOf(`row ${id}`)
const queryCursors = cursorsOf("query")

/** What was asked, with another cursor. */
const nextLink = (query: Readonly<Record<string, string | number>>, next: number) =>
  `</queries?${new URLSearchParams({ ...Record.map(query, String), cursor: queryCursors.encode(next) }).toString()}>; rel="next"`

const encodeInfo = Schema.encodeSync(QueryInfo)
const jsonOf = (record: QueryRecord.QueryRecord) => JsonPieces.ofObject(encodeInfo(infoOf(record)))

/** As `QueryEvent` says it. */
const eventOf = ({ record, seq }: Event): EventStream.Event => ({
  id: String(seq),
  event: "state",
  data: jsonOf(record)
})

/** Its id is a moment, see {@link QueryFeed}. */
const feedEventOf = (record: QueryRecord.QueryRecord): EventStream.Event => ({
  id: String(QueryFeed.momentOf(record)),
  event: "state",
  data: jsonOf(record)
})

const retryAfter = (problem: QueryProblem.Submitting) =>
  problem._tag === "QueryRejected" ? Problem.retryAfter(problem.retryAfterSeconds) : Effect.void

/** Over the {@link QueryRegistry} in context and {@link Readiness}; answers `QueriesNotConfigured` where there is none. */
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

    const draining = yield* Draining
    const news = yield* QueryNews
    const readiness = yield* Readiness
    const timeouts = yield* QueryTimeouts.QueryTimeouts
    const hasRole = yield* QueryRoleMap.HasRole
    const engines = yield* Engines
    const endsElsewhere = yield* SharedQueries.EndsElsewhere
    const [first = usual] = engines.keys()

    const answers = yield* Answers.Answers
    /** Answers with a query. */
    const answer = Effect.fnUntraced(function* (record: Effect.Effect<QueryRecord.QueryRecord, QueryError>) {
      const mine = yield* principal
      const found = yield* Effect.mapError(record, QueryProblem.fromLook)
      return yield* answers.json(Answers.ofText(jsonOf(found)), { principal: mine })
    })

    const raw = handlers.handleRaw(
      "events",
      Effect.fnUntraced(function* ({ headers, params }) {
        const id = yield* idOf(params.id)
        const queries = yield* registry
        const mine = yield* principal
        const { state, transitions } = yield* Effect.mapError(queries.status(mine, id), QueryProblem.fromLook)
        const after = Number(headers["last-event-id"] ?? 0)
        if (after > transitions.length) {
          return yield* new QueryProblem.EventUnknown({ detail: "Leave Last-Event-ID out to get all of them." })
        }
        if (after === transitions.length && QueryState.isTerminal(state)) return HttpServerResponse.empty()
        yield* answers.stream(mine)
        const own = yield* ServiceSession
        const session = yield* Effect.mapError(own.lifetime, SessionProblem.from)
        // The end of the session is told, and ends the stream.
        yield* SessionMiddleware.letGo(own)
        const watch = { principal: mine, id, after, session, end: draining.begun }
        return EventStream.response(Stream.map(QueryEvents.watch(queries, watch), eventOf))
      })
    )

    const long = raw
      .handleRaw(
        "feed",
        Effect.fnUntraced(function* ({ headers }) {
          const queries = yield* registry
          const mine = yield* principal
          yield* answers.stream(mine)
          const own = yield* ServiceSession
          const session = yield* Effect.mapError(own.lifetime, SessionProblem.from)
          // The stream ends with the session by itself.
          yield* SessionMiddleware.letGo(own)
          const since = Number(headers["last-event-id"] ?? 0)
          const watch = { principal: mine, since, session, end: draining.begun }
          return EventStream.response(Stream.map(QueryFeed.watch(queries, news, watch), feedEventOf))
        })
      )
      .handleRaw(
        "list",
        Effect.fnUntraced(function* ({ query }) {
          const { cursor, ...rest } = query
          const after = yield* queryCursors.decode(cursor)
          const mine = yield* principal
          yield* Turns.next
          const { next, queries } = yield* (yield* registry)
            .list(mine, { ...rest, after })
            .pipe(Effect.mapError(QueryProblem.fromList))
          const list = JsonPieces.ofList(queries, (record) => encodeInfo(infoOf(record)))
          return yield* answers.json(Answers.ofText(list), {
            principal: mine,
            headers: next === undefined ? {} : { link: nextLink(rest, next) }
          })
        })
      )
      .handleRaw(
        "status",
        Effect.fnUntraced(function* ({ params }) {
          const id = yield* idOf(params.id)
          return yield* answer((yield* registry).status(yield* principal, id))
        })
      )
      .handleRaw(
        "rows",
        Effect.fnUntraced(function* ({ params, query }) {
          const id = yield* idOf(params.id)
          const cursors = rowCursors(id)
          const options = {
            offset: (yield* cursors.decode(query.cursor)) ?? query.offset ?? 0,
            limit: query.limit ?? 1000
          }
          const mine = yield* principal
          const page = yield* Effect.mapError((yield* registry).pageText(mine, id, options), QueryProblem.fromRead)
          const nextOf = () => {
            const next = page.next()
            return next === undefined ? null : cursors.encode(next)
          }
          const body = Answers.concat(
            Answers.later(() => `{"columns":${JSON.stringify(page.columns)},"rows":[`),
            Effect.mapError(page.pull, QueryProblem.fromRead),
            Answers.later(() => `],"next":${JSON.stringify(nextOf())}}`)
          )
          return yield* answers.json(body, { principal: mine })
        })
      )
      .handleRaw(
        "cancel",
        Effect.fnUntraced(function* ({ params }) {
          const id = yield* idOf(params.id)
          return yield* answer((yield* registry).cancel(yield* principal, id))
        })
      )

    return long.handleAll({
      engines: Effect.fnUntraced(function* () {
        yield* registry
        return yield* Effect.forEach(
          engines,
          ([name, { capabilities, isReady, kind, maxQueries, maxQueriesPerUser }]) =>
            Effect.map(Effect.all([isReady, endsElsewhere(name)], { concurrency: 2 }), ([ready, endsElsewhere]) => ({
              name,
              kind,
              capabilities,
              ready,
              endsElsewhere,
              limits: { running: maxQueries, runningPerUser: maxQueriesPerUser }
            })),
          { concurrency: "unbounded" }
        )
      }),
      submit: Effect.fnUntraced(function* ({ headers, payload, request }) {
        const queries = yield* registry
        const session = yield* ServiceSession
        const key = headers["idempotency-key"]
        const name = payload.engine ?? first
        const engine = engines.get(name)
        if (engine === undefined) {
          const known = Array.from(engines.keys())
          return yield* new QueryProblem.EngineUnknown({
            detail: `There are: ${known.join(", ")}. Name one of them, or none.`,
            engines: known
          })
        }
        if (!(yield* readiness.runsQueries(engine))) {
          return yield* new QueryProblem.QueriesUnavailable({
            detail:
              "The database of queries cannot be used at the moment. The log of the service says why. Try again later."
          })
        }
        const params = yield* QueryParameters.exactly(yield* Effect.orDie(request.text), payload.params ?? [])
        const mine = yield* principal
        // Only the usual engine gives users roles of their own.
        if (name === usual && !hasRole(mine)) {
          return yield* new QueryProblem.QueriesNotConfigured({
            detail: "You have no database role. The operator has to add one for you."
          })
        }
        const deadline = yield* QueryTimeouts.of(timeouts, mine, payload.timeoutMs)
        const { id, state } = yield* queries
          .submit({
            statement: { sql: payload.sql, params },
            engine: name,
            principal: mine,
            owner: yield* Effect.mapError(session.lifetime, SessionProblem.from),
            session: yield* Effect.mapError(session.id, SessionProblem.from),
            ...(key !== undefined && { idempotencyKey: key }),
            ...(payload.rerun !== undefined && { rerun: payload.rerun }),
            ...(deadline !== undefined && { deadline })
          })
          .pipe(Effect.mapError(QueryProblem.fromSubmit), Effect.tapError(retryAfter))
        news.submitted(mine, id)
        return HttpApiSchema.withHeaders({ body: { id, state }, headers: { location: `/queries/${id}` } })
      })
    })
  })
)
