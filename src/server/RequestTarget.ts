/**
 * Refuses requests that do not say plainly what they ask for, before a route is looked for.
 *
 * A path is exactly that of a call, letter by letter: nothing percent-encoded, no second slash, no slash at the end, nothing
 * behind a `;`, no other case. A rule of a proxy in front, such as "nobody from outside may read /metrics", then means what
 * it says. And there is one `Host` (RFC 9112 3.2): two would let a proxy and the service see two different hosts.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as Layer from "effect/Layer"
import * as Problem from "../http/Problem.ts"

/** The rest of what makes paths exact, which the router does itself. */
export const layerRouter = Layer.succeed(HttpRouter.RouterConfig, {
  caseSensitive: true,
  ignoreDuplicateSlashes: false,
  ignoreTrailingSlash: false
})

// RFC 3986 3.3, without what is percent-encoded, without `;`, and without `.` and `..`, which a client resolves (5.2.4).
const exactPath = /^\/(?!(?:.*\/)?\.{1,2}(?:\/|$))(?:[\w.~!$&'()*+,=:@-]+(?:\/[\w.~!$&'()*+,=:@-]+)*)?$/

/** The path of a target, which is one (RFC 9112 3.2.1) or a URL (3.2.2). */
const pathOf = (target: string): string => target.replace(/^https?:\/\/[^/?#]*/i, "").replace(/\?.*$/s, "")

// RFC 3986 3.2.2 and 3.2.3.
const host = /^(?:\[[\da-fA-F:.]+\]|(?:[\w.~!$&'()*+,;=-]|%[\da-fA-F]{2})*)(?::\d{0,5})?$/

const problemOf = (request: HttpServerRequest.HttpServerRequest) => {
  const { httpVersion, rawHeaders, url = "" } = NodeHttpServerRequest.toIncomingMessage(request)
  const hosts = rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === "host")
  const isOld = httpVersion === "1.0" && hosts.length === 0
  if (!isOld && (hosts.length !== 1 || !host.test(hosts.join()))) {
    return new Problem.RequestInvalid({ detail: "A request has exactly one Host header, with the host it is for." })
  }
  return exactPath.test(pathOf(url))
    ? undefined
    : new Problem.NotFound({ detail: "See /docs for the calls of this service. Paths are compared letter by letter." })
}

/** For all routes of a router. */
export const layer = HttpRouter.middleware(
  (handled) =>
    Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      const problem = problemOf(request)
      return problem === undefined ? handled : HttpServerRespondable.toResponse(problem)
    }),
  { global: true }
)
