/**
 * What the calls for operators do. Whether somebody is one is asked of the users each time, so that it can be taken away.
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as SessionProblem from "../http/SessionProblem.ts"
import * as Holdings from "./Holdings.ts"
import { HoldfastApi, OperatorsOnly } from "./HoldfastApi.ts"
import { ServiceSession } from "./ServiceSession.ts"
import { Users } from "./Users.ts"

/** Over the {@link Users} in context. */
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

    return handlers.handleAll({
      holdings: ({ query }) => Effect.andThen(operatorsOnly, Holdings.read(query.limit ?? 1000))
    })
  })
)
