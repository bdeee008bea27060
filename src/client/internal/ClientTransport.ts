/**
 * From a request of Effect to a call, and back: its URL, its body, its span, and what its failure says.
 *
 * A call belongs to the fiber that asked, until somebody reads the body of its answer; then to the reader. Where the request has a
 * scope of its own (`HttpClient.withScope`) it is given up with that, too. Spans and errors name a request by its method and its origin:
 * no path, query, header or body is in them.
 */
import * as NodeStream from "@effect/platform-node/NodeStream"
import { FormData as UndiciFormData } from "@effect/platform-node/Undici"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as HttpBody from "effect/http/HttpBody"
import * as HttpClient from "effect/http/HttpClient"
import { EncodeError, HttpClientError, InvalidUrlError, TransportError } from "effect/http/HttpClientError"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Url from "effect/http/Url"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { Readable } from "node:stream"
import { type Body, Call, givenUp, type Home, refusalOf } from "./ClientCall.ts"
import { BadRequest, BadResponse, ClientError } from "../ClientError.ts"
import { BodyFailure, type Exchange } from "./ClientExchange.ts"
import { ClientResponse, named } from "./ClientResponse.ts"

type Request = HttpClientRequest
type Answer = Effect.Effect<HttpClientResponse, HttpClientError>

/** Who asks, and how that shows. */
interface Asker {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  readonly span: Tracer.Span | undefined
  readonly signal: AbortSignal | undefined
}

/** A client that makes calls at `home`, unless there is a refusal. */
export const make = (home: Home, refusal: () => ClientError | undefined): HttpClient.HttpClient => {
  const called = (asker: Asker, request: Request, url: URL, body: Body): Answer =>
    Effect.callback((resume) => {
      const { fiber, signal, span } = asker
      const refused = refusal() ?? (signal?.aborted === true ? givenUp : undefined)
      if (refused !== undefined) return resume(Effect.fail(wrapped(request, refused)))
      let forget: (() => void) | undefined
      const answered = (exchange: Exchange, at: URL) => {
        // Interrupted before anybody reads it, a fiber loses its answer.
        if (!exchange.isOver) {
          forget = fiber.addObserver((exit) => {
            if (!exchange.isTaken && Exit.hasInterrupts(exit)) giveUp()
          })
        }
        resume(Effect.succeed(new ClientResponse(request, exchange, at)))
      }
      const failed = (error: ClientError) => resume(Effect.fail(wrapped(request, error)))
      const traceHeaders = span === undefined ? undefined : () => HttpTraceContext.toHeaders(span)
      const call = new Call(home, request, url, body, { answered, failed }, traceHeaders)
      const giveUp = () => call.fail(givenUp)
      signal?.addEventListener("abort", giveUp)
      call.onOver = () => {
        forget?.()
        signal?.removeEventListener("abort", giveUp)
      }
      call.start()
      return Effect.sync(giveUp)
    })

  const withBody = (asker: Asker, request: Request, url: URL): Answer => {
    const { body } = request
    if (body._tag === "Empty") return called(asker, request, url, noBody)
    const streamed = (readable: Readable) =>
      Effect.onError(called(asker, request, url, { content: readable, isReplayable: false }), () =>
        Effect.sync(() => readable.destroy())
      )
    if (body._tag === "Stream") {
      const whole = Stream.catchCause(body.stream, () => Stream.fail(new BodyFailure()))
      return Effect.flatMap(NodeStream.toReadable(whole), streamed)
    }
    const content = contentOf(body)
    if (content instanceof ClientError) return Effect.fail(wrapped(request, content))
    return content.content instanceof Readable ? streamed(content.content) : called(asker, request, url, content)
  }

  // Effect alone knows the scope of a request, and tells it by a signal; that costs half as much as the rest. What it makes of the
  // answer is left out: there one reader who gives up ends what the others read.
  const scoped = (asker: Asker, request: Request): Answer =>
    Effect.suspend(() => {
      let own: HttpClientResponse | undefined
      const sent = HttpClient.make((request, url, signal) =>
        Effect.tap(withBody({ ...asker, signal }, request, url), (response) => {
          own = response
          return Effect.void
        })
      )
      return Effect.provideService(
        Effect.map(sent.execute(request), (response) => own ?? response),
        HttpClient.TracerDisabledWhen,
        always
      )
    })

  return HttpClient.makeWith(
    (asked: Effect.Effect<Request>) =>
      Effect.flatMap(asked, (request) =>
        Effect.withFiber((fiber) => {
          const url = urlOf(request)
          if (url instanceof ClientError) return Effect.fail(wrapped(request, url))
          const send = (span: Tracer.Span | undefined) =>
            Option.isNone(Context.getOption(fiber.context, Scope.Scope))
              ? withBody({ fiber, span, signal: undefined }, request, url)
              : scoped({ fiber, span, signal: undefined }, request)
          return isTraced(fiber, request, home) ? traced(fiber, request, url, send) : send(undefined)
        })
      ),
    Effect.succeed
  )
}

const noBody: Body = { content: null, isReplayable: true }

const always = () => true

const urlOf = (request: Request): URL | ClientError => {
  if (request.headers["upgrade"] !== undefined) {
    return badRequest("a client session sends no upgrade. Use the client of NodeHttpClient for web sockets.")
  }
  if (!isWellFormed(request)) {
    return badRequest("its URL holds half of a surrogate pair, which no URL can. See how its text was cut.")
  }
  const url = Url.make(request.url, request.urlParams, Option.getOrUndefined(request.hash))
  return Result.isFailure(url) ? badRequest("its URL is not valid") : (refusalOf(url.success) ?? url.success)
}

const isWellFormed = ({ url, urlParams }: Request): boolean =>
  url.isWellFormed() && urlParams.params.every(([name, value]) => name.isWellFormed() && plain(value).isWellFormed())

const plain = (text: string | Redacted.Redacted): string => (Redacted.isRedacted(text) ? Redacted.value(text) : text)

const badRequest = (problem: string) => new ClientError({ reason: new BadRequest({ problem }) })

const contentOf = (body: HttpBody.Uint8Array | HttpBody.Raw | HttpBody.FormData): Body | ClientError => {
  switch (body._tag) {
    case "Uint8Array":
      return { content: body.body, isReplayable: true }
    case "FormData": {
      const form = new UndiciFormData()
      for (const [name, value] of body.formData) form.append(name, value)
      return { content: form, isReplayable: true }
    }
    case "Raw": {
      const content = body.body
      if (typeof content === "string" && !content.isWellFormed()) {
        return badRequest("its raw body holds half of a surrogate pair, which UTF-8 has not. See how its text was cut.")
      }
      if (typeof content === "string" || content instanceof Uint8Array) return { content, isReplayable: true }
      if (content instanceof ArrayBuffer) return { content: new Uint8Array(content), isReplayable: true }
      if (content instanceof Readable) return { content, isReplayable: false }
      return badRequest("its raw body must be a string, bytes or a Readable of node:stream")
    }
  }
}

// Nobody sees a span of the tracer that is there by default, except a server that is told of it.
const isTraced = (fiber: Fiber.Fiber<unknown, unknown>, request: Request, home: Home): boolean =>
  (fiber.getRef(Tracer.Tracer) !== Tracer.nativeTracer || home.limits.traceOrigins.size > 0) &&
  !fiber.getRef(Tracer.DisablePropagation) &&
  !fiber.getRef(HttpClient.TracerDisabledWhen)(request)

/** A span of the attributes that OpenTelemetry names, as far as they cannot hold a secret. */
const traced = (
  fiber: Fiber.Fiber<unknown, unknown>,
  request: Request,
  url: URL,
  send: (span: Tracer.Span | undefined) => Answer
): Answer =>
  Effect.useSpan(fiber.getRef(HttpClient.SpanNameGenerator)(request), { kind: "client" }, (span) => {
    const { port, protocol } = url
    span.attribute("http.request.method", request.method)
    span.attribute("url.scheme", protocol.slice(0, -1))
    span.attribute("server.address", url.hostname)
    span.attribute("server.port", port !== "" ? Number(port) : protocol === "https:" ? 443 : 80)
    return Effect.map(send(fiber.getRef(HttpClient.TracerPropagationEnabled) ? span : undefined), (response) => {
      span.attribute("http.response.status_code", response.status)
      if (response.status >= 400) {
        span.attribute("error.type", String(response.status))
        const problem = `its status is ${response.status}`
        const error = new ClientError({ reason: new BadResponse({ origin: url.origin, problem }) })
        span.end(fiber.getRef(Clock.Clock).currentTimeNanosUnsafe(), Exit.fail(error))
      }
      return response
    })
  })

/** A `ClientError` as the error of an ordinary client. */
export const wrapped = (original: Request, cause: ClientError): HttpClientError => {
  const request = named(original)
  if (cause.reason._tag !== "BadRequest") return new HttpClientError({ reason: new TransportError({ request, cause }) })
  const Reason = cause.reason.problem.startsWith("its URL") ? InvalidUrlError : EncodeError
  return new HttpClientError({ reason: new Reason({ request, cause }) })
}
