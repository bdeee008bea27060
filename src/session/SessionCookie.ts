/**
 * The cookie that carries a session's token.
 *
 * It lives in the browser until the session's absolute end; the store decides, whatever the browser does. With an https
 * origin it is `__Host-` prefixed and Secure (OWASP Session Management; RFC 6265bis 4.1.3.2), always HttpOnly and
 * SameSite=Lax. With an http origin, which only a loopback address may be, it has another name and is not Secure.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Cookies from "effect/http/Cookies"
import * as HttpEffect from "effect/http/HttpEffect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as SessionToken from "./SessionToken.ts"

/** How the cookie is named and protected. */
export interface SessionCookie {
  readonly name: string
  readonly secure: boolean
}

/** The cookie for an origin: `https://…`, or `http://` on a loopback address for development. */
export const forOrigin = (origin: URL): SessionCookie =>
  origin.protocol === "https:" ? { name: "__Host-holdfast", secure: true } : { name: "holdfast-dev", secure: false }

/** The token of a request, if it carries one that we can have issued. */
export const read = (cookie: SessionCookie, request: HttpServerRequest): Option.Option<SessionToken.SessionToken> => {
  const value = request.cookies[cookie.name]
  return value === undefined ? Option.none() : SessionToken.parse(value)
}

const attributes = (cookie: SessionCookie): Cookies.Cookie["options"] => ({
  httpOnly: true,
  path: "/",
  sameSite: "lax",
  secure: cookie.secure
})

const onResponse = (
  change: (response: HttpServerResponse.HttpServerResponse) => HttpServerResponse.HttpServerResponse
) =>
  HttpEffect.appendPreResponseHandler((_, response) =>
    Effect.succeed(HttpServerResponse.setHeader(change(response), "cache-control", "no-store"))
  )

/** Sets the cookie on the response of the running request, which no cache may keep. */
export const set = (cookie: SessionCookie, token: SessionToken.SessionToken, expires: DateTime.Utc) =>
  onResponse((response) =>
    HttpServerResponse.setCookieUnsafe(response, cookie.name, Redacted.value(token), {
      ...attributes(cookie),
      expires: DateTime.toDateUtc(expires)
    })
  )

/** Removes the cookie, with the attributes it was set with: a browser ignores a removal with others. */
export const remove = (cookie: SessionCookie) =>
  onResponse((response) =>
    HttpServerResponse.setCookieUnsafe(response, cookie.name, "", { ...attributes(cookie), maxAge: 0 })
  )
