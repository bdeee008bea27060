/**
 * What the calls for operators do. Whether somebody is one is asked of the users each time, so that it can be taken away.
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Ledger from "../lifetime/Ledger.ts"
import type { QueryError } from "../query/QueryError.ts"
import { QueryId } from "../query/QueryId.ts"
import { QueryJournal } from "../query/QueryJournal.ts"
import { QueryRegistry } from "../query/QueryRegistry.ts"
import { SessionId } from "../session/SessionId.ts"
import { Sessions } from "../session/Sessions.ts"
import * as QueryProblem from "../http/QueryProblem.ts"
import * as SessionProblem from "../http/SessionProblem.ts"
import * as Holdings from "./Holdings.ts"
import { HoldfastApi, HoldingNotFound, OperatorsOnly } from "./HoldfastApi.ts"
import { ServiceSession } from "./ServiceSession.ts"
import { Users } from "./Users.ts"

const decodeSession = Schema.decodeUnknownOption(SessionId)
const decodeQuery = Schema.decodeUnknownOption(QueryId)

const unavailable = ({ message }: QueryError) => new QueryProblem.QueriesUnavailable({ detail: message })

/** Over the {@link Users}, {@link Sessions} and the {@link QueryRegistry} in context, where there is one. */
export const layer = HttpApiBuilder.group(
  HoldfastApi,
  "operators",
  Effect.fnUntraced(function* (handlers) {
    const users = yield* Users

    const operatorsOnly = Effect.gen(function* () {
      const { principal } = yield* ServiceSession
      const name = yield* Effect.mapError(principal, SessionProblem.from)
      const isOperator = name !== null && (yield* users.isOperator(name))
      if (!isOperator) {
        return yield* new OperatorsOnly({ detail: "Log in as a user who was added with --operator." })
      }
    }).pipe(
      Effect.catchTag("UsersError", ({ message }) =>
        Effect.fail(new SessionProblem.SessionsUnavailable({ detail: message }))
      )
    )

    const sessions = yield* Sessions
    const queries = yield* Effect.serviceOption(QueryRegistry)
    const ledger = yield* Ledger.Ledger
    const journal = yield* QueryJournal
    const unknown = new HoldingNotFound({
      detail: "GET /holdings lists what is held. Sessions and queries can be ended."
    })

    const endSession = Effect.fnUntraced(
      function* (text: string) {
        const id = decodeSession(text)
        if (Option.isNone(id) || !(yield* sessions.end(id.value))) return yield* unknown
      },
      Effect.catchTag("SessionError", (error) => Effect.fail(SessionProblem.from(error)))
    )
    const cancelQuery = Effect.fnUntraced(function* (text: string) {
      const id = decodeQuery(text)
      if (Option.isNone(queries) || Option.isNone(id)) return yield* unknown
      const held = (yield* ledger.holdings).find(({ id, kind }) => kind === "query" && id === text)
      const here = held?.attributes["principal"]
      // One that another instance runs is found where all of them are.
      const [elsewhere] =
        here === undefined && journal !== undefined
          ? yield* Effect.mapError(journal.cancel({ id: id.value }), unavailable)
          : []
      const principal = here ?? elsewhere?.principal
      if (typeof principal !== "string") return yield* unknown
      yield* Effect.mapError(queries.value.cancel(principal, id.value), () => unknown)
    })
    const ends = { session: endSession, query: cancelQuery }
    const isEndable = (kind: string): kind is keyof typeof ends => Object.hasOwn(ends, kind)

    const end = Effect.fnUntraced(function* ({ id, kind }: { readonly kind: string; readonly id: string }) {
      yield* operatorsOnly
      if (!isEndable(kind)) return yield* unknown
      yield* ends[kind](id)
      yield* LogEvent.info({ event: "operator.ended", kind, id }, `An operator ended the ${kind} ${id}`)
    })

    return handlers.handleAll({
      end: ({ params }) => end(params),
      holdings: ({ query: { instances, limit = 1000 } }) =>
        Effect.andThen(
          operatorsOnly,
          instances === "all" ? Effect.mapError(Holdings.readAll(limit), unavailable) : Holdings.read(limit)
        )
    })
  })
)
