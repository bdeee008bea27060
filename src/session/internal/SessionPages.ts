/**
 * Where a page of visitors begins, for stores that tell them in the order of their ids. Nothing here lives longer than the call.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { SessionError, SessionInvalid } from "../SessionError.ts"
import { SessionId } from "../SessionId.ts"

/** What was given is not what this store told. */
export const noPlace = new SessionError({
  reason: new SessionInvalid({ problem: "`after` is not the `next` of a page of visitors in this store" })
})

const isSessionId = Schema.is(SessionId)

/** The id to go on after; none for the beginning. */
export const after = (place: string | undefined): Effect.Effect<SessionId | undefined, SessionError> =>
  place === undefined || isSessionId(place) ? Effect.succeed(place) : Effect.fail(noPlace)
