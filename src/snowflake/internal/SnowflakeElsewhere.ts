/**
 * Ends statements of another program that is gone, by what that program has noted of them: the id of the request before it was
 * sent, and then the handle, too.
 *
 * ```
 * noted: request ── sent ── noted: request and handle ── over
 *           └── gone here: the id is used up by a statement that does nothing, or leads to the handle
 * ```
 *
 * **Details**
 *
 * A request that is sent again with its id and `retry=true` is the same statement (Snowflake, "Resubmitting a request to execute SQL
 * statements"). So the id is sent again with a text that does nothing: if the first request has arrived, the answer is about its
 * statement, which is ended by its handle. If it has not, its id is used up, and what comes late begins nothing.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Elsewhere } from "../../query/QueryDriver.ts"
import { Handle } from "./SnowflakeAnswers.ts"
import type * as SnowflakeApi from "./SnowflakeApi.ts"
import * as SnowflakeStatement from "./SnowflakeStatement.ts"

/** What is noted of a statement before it is sent. */
export const noteOfRequest = (requestId: string): string => requestId

/** What is noted of a statement that the server has. */
export const noteOfHandle = (requestId: string, handle: string): string => `${requestId} ${handle}`

const Note = Schema.Union([Schema.Tuple([Handle]), Schema.Tuple([Handle, Handle])])
const decodeNote = Schema.decodeUnknownEffect(Note)

/** So many statements are ended at a time. */
const atOnce = 16

const nothing: SnowflakeApi.Submission = {
  statement: "select 1",
  timeout: 60,
  parameters: { query_tag: "holdfast takeover" }
}

/** What has been noted of each request: the handle, where it is known. */
const byRequest = (notes: ReadonlyArray<typeof Note.Type>): ReadonlyMap<string, string | undefined> => {
  const handles = new Map<string, string | undefined>()
  for (const [request, handle] of notes) handles.set(request, handle ?? handles.get(request))
  return handles
}

/** The handle of a request, or nothing where its statement is over. */
const find = (api: SnowflakeApi.SnowflakeApi, requestId: string) =>
  Effect.flatMap(api.submit(requestId, nothing), (answer) =>
    answer._tag !== "Pending"
      ? Effect.succeedNone
      : answer.handle === undefined
        ? Effect.fail(SnowflakeStatement.noHandle)
        : Effect.succeedSome(answer.handle)
  )

export const make = (ground: SnowflakeStatement.Ground): Elsewhere => {
  const end = ([requestId, noted]: readonly [string, string | undefined]) =>
    Effect.flatMap(noted === undefined ? find(ground.api, requestId) : Effect.succeedSome(noted), (handle) =>
      Option.isNone(handle) ? Effect.succeed(true) : SnowflakeStatement.endHere(ground, handle.value)
    )
  return {
    end: (handles) =>
      Effect.flatMap(
        Effect.forEach(handles, (handle) => decodeNote(handle.split(" "))),
        (notes) =>
          Effect.map(
            Effect.forEach(byRequest(notes), end, { concurrency: atOnce }),
            (all) => all.filter((isOver) => !isOver).length
          )
      )
  }
}
