/**
 * Refuses requests that another site makes a browser send (cross-site request forgery).
 *
 * An unsafe method (anything but GET, HEAD and OPTIONS) must come from the service's own origin: `Origin` must be it, and
 * `Sec-Fetch-Site`, where the browser sends it, `same-origin` or `none`. A request with neither header comes from no
 * browser, so nobody's cookie is sent without their will. Source: OWASP Cross-Site Request Forgery Prevention, "Verifying
 * Origin With Standard Headers" and "Fetch Metadata".
 *
 * A request for a WebSocket is unsafe as well, although its method is GET: a browser lets any site open one, sends the
 * cookies that `SameSite` lets pass, and hands the site what the server answers. Browsers always send `Origin` with it.
 * Source: RFC 6455, 10.2; OWASP WebSocket Security, "Origin Header Validation".
 */
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as WebSocketUpgrade from "./internal/WebSocketUpgrade.ts"
import * as Problem from "./Problem.ts"

export class OriginRefused extends Problem.Class<OriginRefused>()(
  "OriginRefused",
  403,
  "The request comes from another site"
) {}

const safe = new Set(["GET", "HEAD", "OPTIONS"])

const isForeign = (request: HttpServerRequest.HttpServerRequest, origin: string): boolean => {
  if (safe.has(request.method) && !WebSocketUpgrade.isUpgrade(request)) return false
  const from = request.headers["origin"]
  const site = request.headers["sec-fetch-site"]
  return (from !== undefined && from !== origin) || (site !== undefined && site !== "same-origin" && site !== "none")
}

/** Why a request is refused; `origin` as browsers write it, such as `https://example.org`. */
export const refusal =
  (origin: string) =>
  (request: HttpServerRequest.HttpServerRequest): OriginRefused | undefined =>
    isForeign(request, origin)
      ? new OriginRefused({ detail: `Send unsafe requests from ${origin}, or configure the origin where you are.` })
      : undefined

/** For all routes of a router; `origin` as browsers write it, such as `https://example.org`. */
export const layer = (origin: string) => {
  const refuse = refusal(origin)
  return HttpRouter.middleware(
    (handled) =>
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
        const refused = refuse(request)
        return refused === undefined ? handled : HttpServerRespondable.toResponse(refused)
      }),
    { global: true }
  )
}
