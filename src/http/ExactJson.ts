/**
 * Refuses bodies of JSON that would not be stored as they were sent: numbers with more digits than a number of JavaScript
 * holds, and objects with a name twice, of which only one value would be left.
 *
 * **When to use**
 *
 * For calls whose body is kept, such as a session's data: `endpoint.middleware(ExactJson)`.
 */
import * as Effect from "effect/Effect"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Layer from "effect/Layer"
import * as JsonText from "./internal/JsonText.ts"
import * as Problem from "./Problem.ts"

export class ExactJson extends HttpApiMiddleware.Service<ExactJson>()("holdfast/http/ExactJson", {
  error: [Problem.RequestInvalid, Problem.BodyTooLarge]
}) {}

/** Twice what may be kept: a change may also remove. */
const mostLength = 128 * 1024

/** The layer of {@link ExactJson}. */
export const layer = Layer.succeed(ExactJson, (handled) =>
  Effect.gen(function* () {
    const text = yield* Effect.orDie((yield* HttpServerRequest.HttpServerRequest).text)
    if (text.length > mostLength) {
      return yield* new Problem.BodyTooLarge({ detail: "A body of data that is kept has at most 128 KiB. Send less." })
    }
    const problem = JsonText.problemOf(text)
    return problem === undefined
      ? yield* handled
      : yield* new Problem.RequestInvalid({ detail: `The payload of the request cannot be read: ${problem}` })
  })
)
