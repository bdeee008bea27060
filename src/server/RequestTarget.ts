/**
 * Refuses requests that do not say plainly what they ask for, before a route is looked for.
 *
 * A path is exactly that of a call, letter by letter: nothing percent-encoded, no second slash, no slash at the end, nothing
 * behind a `;`, no other case. A rule of a proxy in front, such as "nobody from outside may read /metrics", then means what
 * it says. And there is one `Host` (RFC 9112 3.2): two would let a proxy and the service see two different hosts.
 */
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
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
const pathOf = (target: string): string => {
  const path = target.startsWith("/") ? target : target.replace(/^https?:\/\/[^/?#]*/i, "")
  const query = path.indexOf("?")
  return query < 0 ? path : path.slice(0, query)
}

// RFC 3986 3.2.2 and 3.2.3.
const host = /^(?:\[[\da-fA-F:.]+\]|(?:[\w.~!$&'()*+,;=-]|%[\da-fA-F]{2})*)(?::\d{0,5})?$/

/** Names and values take turns in raw headers. */
const hostsOf = (rawHeaders: ReadonlyArray<string>): ReadonlyArray<string> => {
  const hosts: Array<string> = []
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]
    if (name?.length === 4 && name.toLowerCase() === "host") hosts.push(rawHeaders[at + 1] ?? "")
  }
  return hosts
}

/** Why a request is refused. */
export const refusal = (request: HttpServerRequest.HttpServerRequest) => {
  const { httpVersion, rawHeaders, url = "" } = NodeHttpServerRequest.toIncomingMessage(request)
  const hosts = hostsOf(rawHeaders)
  const isOld = httpVersion === "1.0" && hosts.length === 0
  if (!isOld && (hosts.length !== 1 || !host.test(hosts.join()))) {
    return new Problem.RequestInvalid({ detail: "A request has exactly one Host header, with the host it is for." })
  }
  return exactPath.test(pathOf(url))
    ? undefined
    : new Problem.NotFound({ detail: "See /docs for the calls of this service. Paths are compared letter by letter." })
}
