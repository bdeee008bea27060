/**
 * Requests that hold only for a certain version: `If-Match` and `If-None-Match`, evaluated once for all calls as RFC 9110
 * 13.2 says. They are looked at after everything that would refuse the call without them, such as a missing session, and
 * before anything is done.
 *
 * | call                                | `If-Match` does not hold | `If-None-Match` does not hold |
 * | ----------------------------------- | ------------------------ | ----------------------------- |
 * | GET and HEAD                        | 412                      | 304, without a body           |
 * | one that changes what has a version | 412, nothing is changed  | 412, nothing is changed       |
 * | any other                           | 412, nothing is done     | has no tag to match: holds    |
 *
 * `*` stands for any version. What has no version has no tag that could match: `If-Match` with a tag never holds there, and
 * `*` always. A header that is neither `*` nor a list of tags is answered with 400. Dates are not compared, because nothing
 * here has one (13.1.3, 13.1.4).
 *
 * **Gotchas**
 *
 * A weak tag, `W/"5"`, never matches `If-Match` (13.1.1). A proxy that compresses answers may make the service's strong tags
 * weak; the 412 then says so. Ask such a proxy with `Accept-Encoding: identity`, or leave the compression out.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Problem from "./Problem.ts"

/** The request holds for another version only. */
export class PreconditionFailed extends Problem.Class<PreconditionFailed>()(
  "PreconditionFailed",
  412,
  "The precondition of the request does not hold"
) {}

/** Set for a call that asks {@link refusal} itself, in one step with its change. Default: false. */
export const Versioned = Context.Reference<boolean>("holdfast/http/Preconditions/Versioned", {
  defaultValue: () => false
})

/** For calls: evaluates what a request holds for. Put it below what may refuse the call, that is before it. */
export class Preconditions extends HttpApiMiddleware.Service<Preconditions>()("holdfast/http/Preconditions", {
  error: [Problem.RequestInvalid, PreconditionFailed]
}) {}

/** What one of the headers names. */
type Tags = "*" | ReadonlyArray<{ readonly weak: boolean; readonly tag: string }>

// RFC 9110 8.8.3; elements of a list may be empty (5.6.1.2).
const list = /^[ \t]*(?:(?:W\/)?"[\x21\x23-\x7e\x80-\u00ff]*"[ \t]*(?:,[ \t]*|$)|,[ \t]*)*$/
const element = /(W\/)?("[^"]*")/g

const parse = (header: string): Tags | undefined => {
  if (header.trim() === "*") return "*"
  if (!list.test(header)) return undefined
  return Array.from(header.matchAll(element), ([, weak, tag = ""]) => ({ weak: weak !== undefined, tag }))
}

interface Conditions {
  readonly ifMatch: Tags | undefined
  readonly ifNoneMatch: Tags | undefined
}

const read = ({ headers }: HttpServerRequest.HttpServerRequest) =>
  Effect.gen(function* () {
    const tagsOf = Effect.fnUntraced(function* (name: "if-match" | "if-none-match") {
      const header = headers[name]
      const tags = header === undefined ? undefined : parse(header)
      if (header === undefined || tags !== undefined) return tags
      return yield* new Problem.RequestInvalid({
        detail: `The header ${name} must be * alone, or a list of tags in double quotes such as "5".`
      })
    })
    return { ifMatch: yield* tagsOf("if-match"), ifNoneMatch: yield* tagsOf("if-none-match") } satisfies Conditions
  })

const weakened =
  'A weak tag, W/"…", never matches If-Match (RFC 9110 13.1.1). A proxy that compresses has made it weak: ask with Accept-Encoding: identity.'
const other = "What the request names as If-Match is not the version that is there. Read it again."
const untagged = "This has no version that If-Match could name. Leave the header out."
const present = "The request is for the case that this version is not there, and it is. Leave If-None-Match out."

/** Strong comparison (8.8.3.2). */
const isMatched = (tags: Tags, etag: string | undefined) =>
  tags === "*" || tags.some(({ tag, weak }) => !weak && tag === etag)

/** Weak comparison. */
const isNoneMatched = (tags: Tags, etag: string | undefined) =>
  etag === undefined || (tags !== "*" && tags.every(({ tag }) => tag !== etag.replace(/^W\//, "")))

const mismatch = ({ ifMatch }: Conditions, etag: string | undefined): string | undefined => {
  if (ifMatch === undefined || isMatched(ifMatch, etag)) return undefined
  if (etag === undefined) return untagged
  return ifMatch !== "*" && ifMatch.some(({ tag, weak }) => weak && tag === etag) ? weakened : other
}

/** Why the running request may not change what has this tag, in words for the caller; `undefined` where it may. */
export const refusal = (etag: string) =>
  Effect.gen(function* () {
    const conditions = yield* Effect.orDie(read(yield* HttpServerRequest.HttpServerRequest))
    const { ifNoneMatch } = conditions
    const isPresent = ifNoneMatch !== undefined && !isNoneMatched(ifNoneMatch, etag)
    return mismatch(conditions, etag) ?? (isPresent ? present : undefined)
  })

/** Whether the running request holds for some versions only: then what changes the version asks {@link refusal} first. */
export const isConditional = Effect.map(
  HttpServerRequest.HttpServerRequest,
  ({ headers }) =>
    headers["if-none-match"] !== undefined || (headers["if-match"] !== undefined && headers["if-match"].trim() !== "*")
)

const failed = (detail: string) => new PreconditionFailed({ detail })

/** What a GET is answered with, once it is known what there is. */
const selected = (conditions: Conditions, response: HttpServerResponse.HttpServerResponse) => {
  if (response.status < 200 || response.status > 299) return Effect.succeed(response)
  const { etag } = response.headers
  const detail = mismatch(conditions, etag)
  if (detail !== undefined) return Effect.fail(failed(detail))
  const { ifNoneMatch } = conditions
  return Effect.succeed(
    ifNoneMatch === undefined || etag === undefined || isNoneMatched(ifNoneMatch, etag)
      ? response
      : HttpServerResponse.empty({ status: 304, headers: { etag } })
  )
}

/** The layer of {@link Preconditions}. */
export const layer = Layer.succeed(Preconditions, (handled, { endpoint }) => {
  const evaluated = (request: HttpServerRequest.HttpServerRequest) =>
    Effect.gen(function* () {
      const conditions = yield* read(request)
      if (request.method === "GET" || request.method === "HEAD") {
        return yield* Effect.flatMap(handled, (response) => selected(conditions, response))
      }
      const detail = Context.get(endpoint.annotations, Versioned) ? undefined : mismatch(conditions, undefined)
      return detail === undefined ? yield* handled : yield* failed(detail)
    })
  return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
    "if-match" in request.headers || "if-none-match" in request.headers ? evaluated(request) : handled
  )
})
