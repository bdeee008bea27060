/**
 * Errors as a remote caller sees them: `application/problem+json` (RFC 9457) with a stable `type`, `title` and `code`.
 *
 * A problem lives as long as the response it becomes. What it says is for the caller: nothing of the inside of the
 * service, no secret, and what to do next.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiError from "effect/http-api/HttpApiError"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as FindMyWay from "effect/http/FindMyWay"
import * as HttpEffect from "effect/http/HttpEffect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as ProblemDetails from "effect/http/ProblemDetails"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"
import * as Turns from "../lifetime/internal/Turns.ts"
import * as ExactJson from "../query/internal/ExactJson.ts"
import * as RequestBody from "./internal/RequestBody.ts"
import { challenge, typeOf } from "../problem/ProblemAnswer.ts"

export { typeOf }

/**
 * Declares a problem.
 *
 * **Example** (Declaring a problem)
 *
 * ```ts
 * class QueryNotFound extends Problem.Class<QueryNotFound>()("QueryNotFound", 404, "There is no such query") {}
 * ```
 */
export const Class =
  <Self>() =>
  <
    const Code extends string,
    const Status extends number,
    const Fields extends HttpApiError.ProblemExtensionFields = {}
  >(
    code: Code,
    status: Status,
    title: string,
    fields?: Fields
  ) =>
    HttpApiError.Problem<Self>()(code, { type: typeOf(code), status, title }, {
      code: Schema.tag(code),
      ...fields
    } as { readonly code: Schema.tag<Code> } & Fields)

/** Tells the caller of the running request when to come back. */
export const retryAfter = (seconds: number) =>
  HttpEffect.appendPreResponseHandler((_, response) =>
    Effect.succeed(HttpServerResponse.setHeader(response, "retry-after", String(seconds)))
  )

/** The request does not have the form that the call asks for; `detail` says where. */
export class RequestInvalid extends Class<RequestInvalid>()("RequestInvalid", 400, "The request is malformed") {}

/** No call has this path. */
export class NotFound extends Class<NotFound>()("NotFound", 404, "There is nothing here") {}

/** The request did not arrive in time. */
export class RequestTimeout extends Class<RequestTimeout>()("RequestTimeout", 408, "The request took too long") {}

/** The headers have more bytes than the service reads. */
export class HeadersTooLarge extends Class<HeadersTooLarge>()("HeadersTooLarge", 431, "The headers are too large") {}

/** `Expect` asks for something else than `100-continue` (RFC 9110 10.1.1). */
export class ExpectationFailed extends Class<ExpectationFailed>()(
  "ExpectationFailed",
  417,
  "The expectation cannot be met"
) {}

/** As many connections are open as there may be, in all or of the caller's address. */
export class TooManyConnections extends Class<TooManyConnections>()(
  "TooManyConnections",
  503,
  "There are too many connections"
) {}

/** The body has more bytes than any call takes. */
export class BodyTooLarge extends Class<BodyTooLarge>()("BodyTooLarge", 413, "The body is too large") {}

/** The call takes bodies of other types; `Accept`, and `Accept-Patch` for PATCH, name them. */
export class UnsupportedMediaType extends Class<UnsupportedMediaType>()(
  "UnsupportedMediaType",
  415,
  "The media type is not supported"
) {}

/** The service failed in a way that nobody foresaw. */
export class InternalError extends Class<InternalError>()("InternalError", 500, "The service failed") {}

/** The problems of every call that takes a body, besides those of what is in it. */
export const body = [BodyTooLarge, UnsupportedMediaType] as const

/** Renders requests that cannot be decoded as {@link RequestInvalid}, and declares what any call may answer. */
export class Requests extends HttpApiMiddleware.Service<Requests>()("holdfast/http/Problem/Requests", {
  error: [RequestInvalid, RequestTimeout, ExpectationFailed, HeadersTooLarge, InternalError, TooManyConnections]
}) {}

/** The layer of {@link Requests}. */
export const layerRequests = HttpApiMiddleware.layerSchemaErrorTransform(Requests, (error) =>
  error.kind === "Body" || error.kind === "ResponseHeaders"
    ? Effect.die(error)
    : Effect.fail(
        new RequestInvalid({
          detail: `The ${error.kind.toLowerCase()} of the request cannot be read: ${error.cause.message}`
        })
      )
)

/** What takes long to decode, although it is short: more values than these go as one string of JSON. */
const shape = { numbers: false, names: false, mostValues: 50_000, widest: 10_000 }

const unreadable = (problem: string) =>
  new RequestInvalid({
    detail: `The body of the request cannot be read: ${problem}. Send large JSON as one string, whose content is not decoded here.`
  })

/** Its size is the sender's choice, so it is looked at in slices. */
const shaped = (text: string) =>
  Effect.flatMap(Turns.run(ExactJson.scan(text, shape)), (found) =>
    found === undefined ? Effect.succeed(text) : Effect.die(unreadable(found.problem))
  )

/**
 * Bodies are UTF-8 and nothing else: bytes that are not are refused instead of replaced, because what is run or stored
 * would not be what was sent. One that says that it is too large is refused before a byte of it is asked for, also of a
 * client that waits with `Expect: 100-continue` (RFC 9110 10.1.1). One that nests deeply or has very many values is refused
 * before it is parsed.
 */
const strictly = (sent: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest => {
  const request = RequestBody.interruptible(sent)
  if (request === sent) return sent
  let read: string | undefined
  const decoded = (bytes: ArrayBuffer) =>
    Effect.try({
      try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
      catch: (cause) =>
        new HttpServerError.HttpServerError({
          reason: new HttpServerError.RequestParseError({ request, reason: "Parse", cause })
        })
    })
  const text = Effect.suspend(() =>
    read === undefined
      ? RequestBody.fits(request).pipe(
          Effect.andThen(request.arrayBuffer),
          Effect.flatMap(decoded),
          Effect.flatMap(shaped),
          Effect.tap((text) =>
            Effect.sync(() => {
              read = text
            })
          )
        )
      : Effect.succeed(read)
  )
  return Object.create(request, { text: { get: () => text } })
}

/** The calls of an API by method and path, with the media types that each takes. */
interface Calls {
  readonly methods: (url: string) => ReadonlyArray<string>
  readonly accepts: (method: string, url: string) => ReadonlyArray<string>
}

/** Paths are compared as the router compares them. */
const callsOf = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>,
  config: Partial<FindMyWay.RouterConfig>
): Calls => {
  const calls = FindMyWay.make<ReadonlyArray<string>>(config)
  const methods = new Set<string>()
  HttpApi.reflect(api, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint: { method, path, payload } }) => {
      for (const each of method === "GET" ? ["GET", "HEAD"] : [method]) {
        calls.on(each, path as FindMyWay.PathInput, Array.from(payload.keys()))
        methods.add(each)
      }
    }
  })
  return {
    methods: (url) => Array.from(methods).filter((method) => calls.find(method, url) !== undefined),
    accepts: (method, url) => calls.find(method, url)?.handler ?? []
  }
}

/** A URL that is there, asked with a method that it does not have. */
const otherMethod = (methods: ReadonlyArray<string>) => {
  const allow = methods.join(", ")
  const { title, status } = { title: "The method is not allowed", status: 405 }
  const body = { type: typeOf("MethodNotAllowed"), title, status, detail: `Use ${allow}.`, code: "MethodNotAllowed" }
  return HttpServerResponse.setHeader(ProblemDetails.toResponse(body), "allow", allow)
}

const malformed = new RequestInvalid({ detail: "The request cannot be read. See /docs for the calls of this service." })
const failure = new InternalError({
  detail: "The log of the service tells why. Nothing was kept of the request."
})

/** What is answered where an error response has no words yet. */
const unexplained = (status: number, accepts: ReadonlyArray<string>) => {
  switch (status) {
    case 404:
      return new NotFound({ detail: "See /docs for the calls of this service." })
    case 413:
      return new BodyTooLarge({ detail: "A body is at most 1 MiB." })
    case 415:
      return new UnsupportedMediaType({ detail: `Send a body of the type ${accepts.join(" or ")}.` })
    default:
      return status < 500 ? malformed : failure
  }
}

/** The headers that belong to a status, in every answer (RFC 9110 11.6.1, 12.5.1, 15.5.16; RFC 5789 2.2). */
const headersOf = (status: number, method: string, accepts: ReadonlyArray<string>) => {
  if (status === 401) return { "www-authenticate": challenge }
  if (status !== 415 || accepts.length === 0) return {}
  const types = accepts.join(", ")
  return { accept: types, ...(method === "PATCH" && { "accept-patch": types }) }
}

/** The status may be another than that of the problem, such as 431. */
const inWords = (status: number, accepts: ReadonlyArray<string>) => {
  const { code, detail = "", title } = unexplained(status, accepts)
  return ProblemDetails.toResponse({ type: typeOf(code), title, status, detail, code })
}

const explain = (
  calls: Calls,
  { method, url }: HttpServerRequest.HttpServerRequest,
  response: HttpServerResponse.HttpServerResponse
) => {
  const { headers, status } = response
  const accepts = status === 415 ? calls.accepts(method, url) : []
  const isKnown = headers["content-type"]?.startsWith(ProblemDetails.contentType) === true
  return HttpServerResponse.setHeaders(isKnown ? response : inWords(status, accepts), {
    ...headersOf(status, method, accepts),
    ...(headers["retry-after"] !== undefined && { "retry-after": headers["retry-after"] })
  })
}

const failed = (cause: Cause.Cause<unknown>, calls: Calls) => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (HttpServerError.isHttpServerError(error) && error.reason._tag === "RouteNotFound") {
    const methods = calls.methods(error.request.url)
    if (methods.length > 0) return Effect.succeed(otherMethod(methods))
  }
  return Effect.flatMap(HttpServerError.causeResponse(cause), ([response]) =>
    Effect.as(
      response.status < 500
        ? Effect.void
        : LogEvent.error({ event: "request.failed", status: response.status }, "A request failed", cause),
      response
    )
  )
}

/**
 * Makes every error response of a router a problem, also for defects, for paths that do not exist, and for methods that a
 * path of the API does not have. Each has the headers that its status asks for: `WWW-Authenticate`, `Allow`, `Accept`.
 */
export const layerEverywhere = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
) =>
  HttpRouter.middleware(
    Effect.map(everywhere(api), (apply) => (handled) => apply(handled)),
    { global: true }
  )

/** What {@link layerEverywhere} does to the effect of a request. */
export const everywhere = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
) =>
  Effect.map(HttpRouter.RouterConfig, (config) => {
    const calls = callsOf(api, config)
    return <E, R>(handled: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) => {
      const answered = Effect.catchCause(handled, (cause) => failed(cause, calls))
      return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
        const strict = strictly(request)
        return Effect.map(
          strict === request ? answered : Effect.provideService(answered, HttpServerRequest.HttpServerRequest, strict),
          (response) => (response.status < 400 ? response : explain(calls, request, response))
        )
      })
    }
  })
