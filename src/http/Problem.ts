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
import { typeOf } from "../problem/ProblemAnswer.ts"

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

/** Renders requests that cannot be decoded as {@link RequestInvalid}. */
export class Requests extends HttpApiMiddleware.Service<Requests>()("holdfast/http/Problem/Requests", {
  error: RequestInvalid
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

interface Unexplained {
  readonly code: string
  readonly title: string
  readonly detail: string
}

const unexplained: Readonly<Record<number, Unexplained>> = {
  404: { code: "NotFound", title: "There is nothing here", detail: "See /docs for the calls of this service." },
  413: { code: "BodyTooLarge", title: "The body is too large", detail: "A body is at most 1 MiB." },
  415: {
    code: "UnsupportedMediaType",
    title: "The media type is not supported",
    detail: "Send `content-type: application/json`."
  },
  500: {
    code: "InternalError",
    title: "The service failed",
    detail: "The log of the service tells why. Nothing was kept of the request."
  }
}
const malformed: Unexplained = {
  code: "RequestInvalid",
  title: "The request is malformed",
  detail: "The request cannot be read. See /docs for the calls of this service."
}

const explain = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse => {
  if (response.status < 400 || response.headers["content-type"]?.startsWith(ProblemDetails.contentType) === true) {
    return response
  }
  const known = unexplained[response.status] ?? (response.status < 500 ? malformed : unexplained[500]) ?? malformed
  const { code, detail, title } = known
  return HttpServerResponse.setHeaders(
    ProblemDetails.toResponse({ type: typeOf(code), title, status: response.status, detail, code }),
    response.headers["retry-after"] === undefined ? {} : { "retry-after": response.headers["retry-after"] }
  )
}

/**
 * Bodies are UTF-8 and nothing else: bytes that are not are refused instead of replaced, because what is run or stored
 * would not be what was sent.
 */
const strictly = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest =>
  Object.create(request, {
    text: {
      get: () =>
        Effect.flatMap(request.arrayBuffer, (bytes) =>
          Effect.try({
            try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
            catch: (cause) =>
              new HttpServerError.HttpServerError({
                reason: new HttpServerError.RequestParseError({ request, reason: "Parse", cause })
              })
          })
        )
    }
  })

/** The methods that an API knows for a URL. */
const methodsOf = <Id extends string, Groups extends HttpApiGroup.Constraint>(api: HttpApi.HttpApi<Id, Groups>) => {
  const calls = FindMyWay.make<true>()
  const methods = new Set<string>()
  HttpApi.reflect(api, {
    onGroup: () => undefined,
    onEndpoint: ({ endpoint: { method, path } }) => {
      for (const each of method === "GET" ? ["GET", "HEAD"] : [method]) {
        calls.on(each, path as FindMyWay.PathInput, true)
        methods.add(each)
      }
    }
  })
  return (url: string) => Array.from(methods).filter((method) => calls.find(method, url) !== undefined)
}

/** A URL that is there, asked with a method that it does not have. */
const otherMethod = (methods: ReadonlyArray<string>) => {
  const allow = methods.join(", ")
  const { title, status } = { title: "The method is not allowed", status: 405 }
  const body = { type: typeOf("MethodNotAllowed"), title, status, detail: `Use ${allow}.`, code: "MethodNotAllowed" }
  return HttpServerResponse.setHeader(ProblemDetails.toResponse(body), "allow", allow)
}

const failed = (cause: Cause.Cause<unknown>, known: (url: string) => ReadonlyArray<string>) => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (HttpServerError.isHttpServerError(error) && error.reason._tag === "RouteNotFound") {
    const methods = known(error.request.url)
    if (methods.length > 0) return Effect.succeed(otherMethod(methods))
  }
  return Effect.flatMap(HttpServerError.causeResponse(cause), ([response]) =>
    Effect.as(response.status < 500 ? Effect.void : Effect.logError("A request failed", cause), response)
  )
}

/**
 * Makes every error response of a router a problem, also for defects, for paths that do not exist, and for methods that a
 * path of the API does not have.
 */
export const layerEverywhere = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>
) => {
  const known = methodsOf(api)
  return HttpRouter.middleware(
    (handled) =>
      Effect.updateService(handled, HttpServerRequest.HttpServerRequest, strictly).pipe(
        Effect.catchCause((cause) => failed(cause, known)),
        Effect.map(explain)
      ),
    { global: true }
  )
}
