/**
 * The cookie that carries a session's token.
 *
 * It lives in the browser until the session's absolute end; the store decides, whatever the browser does. It is always
 * HttpOnly; by default also `__Host-` prefixed, Secure and SameSite=Lax (OWASP Session Management; RFC 6265bis 4.1.3.2).
 *
 * **When to use**
 *
 * Without any configuration where the app is served over https. {@link layer} changes the default; {@link layerOrigin}
 * allows development over plain http on a loopback address, with another name and without Secure.
 *
 * **Details**
 *
 * What no browser would accept is refused by {@link make} and therefore when a layer is built, not when somebody logs in.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as HttpEffect from "effect/http/HttpEffect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SessionToken from "../session/SessionToken.ts"

/** How the cookie is named and protected: a checked {@link Options}. */
export interface SessionCookie {
  readonly name: string
  readonly secure: boolean
  readonly sameSite: "strict" | "lax" | "none"
  readonly path: string
  readonly domain: string | undefined
  readonly partitioned: boolean
}

/** What may be chosen about the cookie. */
export interface Options {
  /**
   * With its prefix. `__Host-` needs `secure`, the path `/` and no domain, so that no other host can set it; `__Secure-`
   * needs `secure`. Default: `__Host-holdfast`.
   */
  readonly name?: string | undefined
  /** Sent over https only. Without it, anybody on the way can read the token. Default: true. */
  readonly secure?: boolean | undefined
  /** `none` sends it with other sites' requests, too, and needs `secure`. Default: `lax`. */
  readonly sameSite?: "strict" | "lax" | "none" | undefined
  /** Default: `/`. */
  readonly path?: string | undefined
  /** Shares the cookie with all hosts under a domain. Default: none, this host alone. */
  readonly domain?: string | undefined
  /** Kept apart per embedding site (CHIPS). Needs `secure`. Default: false. */
  readonly partitioned?: boolean | undefined
}

/** A cookie that a browser would refuse, or that protects nothing. */
export class SessionCookieInvalid extends Schema.TaggedError<SessionCookieInvalid>(
  "holdfast/http/SessionCookie/SessionCookieInvalid"
)("SessionCookieInvalid", { field: Schema.String, problem: Schema.String }) {
  override get message(): string {
    return `Change \`${this.field}\` of the session cookie: ${this.problem}.`
  }
}

// RFC 6265bis 4.1.1: a name is a token (RFC 9110 5.6.2), a path has no control characters and no semicolon.
const namePattern = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/
const pathPattern = /^\/[\x20-\x3a\x3c-\x7e]{0,255}$/
const domainPattern = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+$/i
const addressPattern = /^[\d.]+$/

const problemOf = (cookie: SessionCookie): readonly [field: keyof SessionCookie, problem: string] | undefined => {
  const name = cookie.name.toLowerCase()
  const isHost = name.startsWith("__host-")
  if (!namePattern.test(cookie.name)) return ["name", "it must be 1 to 128 letters, digits and !#$%&'*+.^_`|~-"]
  if (!pathPattern.test(cookie.path)) return ["path", "it must begin with / and hold neither ; nor control characters"]
  if (cookie.domain !== undefined && (!domainPattern.test(cookie.domain) || addressPattern.test(cookie.domain))) {
    return ["domain", "it must be a domain name such as example.org"]
  }
  if (isHost && cookie.domain !== undefined) return ["domain", "a __Host- cookie must have none"]
  if (isHost && cookie.path !== "/") return ["path", "a __Host- cookie must have the path /"]
  const made = Cookies.makeCookie(cookie.name, "", attributes(cookie))
  if (Result.isFailure(made)) return ["name", made.failure.message]
  if (cookie.secure) return undefined
  if (isHost || name.startsWith("__secure-")) return ["secure", `a cookie named ${cookie.name} must be secure`]
  if (cookie.sameSite === "none") return ["secure", "a cookie with sameSite none must be secure"]
  if (cookie.partitioned) return ["secure", "a partitioned cookie must be secure"]
  return undefined
}

/** Checks a cookie; fails with the first field that makes no sense. */
export const make = (options: Options = {}): Effect.Effect<SessionCookie, SessionCookieInvalid> =>
  Effect.suspend(() => {
    const cookie: SessionCookie = {
      name: options.name ?? strict.name,
      secure: options.secure ?? strict.secure,
      sameSite: options.sameSite ?? strict.sameSite,
      path: options.path ?? strict.path,
      domain: options.domain,
      partitioned: options.partitioned ?? strict.partitioned
    }
    const problem = problemOf(cookie)
    return problem === undefined
      ? Effect.succeed(cookie)
      : Effect.fail(new SessionCookieInvalid({ field: problem[0], problem: problem[1] }))
  })

const strict: SessionCookie = {
  name: "__Host-holdfast",
  secure: true,
  sameSite: "lax",
  path: "/",
  domain: undefined,
  partitioned: false
}

/**
 * The cookie for an origin: `https://…`, or `http://` on a loopback address for development. There its name has the port,
 * `holdfast-dev-3000`, and none for port 80: a browser keeps cookies by host alone (RFC 6265 8.5), and services on two ports
 * would take each other's cookie away.
 */
export const forOrigin = (origin: URL): SessionCookie =>
  origin.protocol === "https:"
    ? strict
    : { ...strict, name: ["holdfast-dev", origin.port].filter((part) => part !== "").join("-"), secure: false }

/** The cookie in use. Default: `__Host-holdfast`, Secure, SameSite=Lax, Path=/. */
export const Current = Context.Reference<SessionCookie>("holdfast/http/SessionCookie/Current", {
  defaultValue: () => strict
})

/** Another cookie than the default. */
export const layer = (options: Options): Layer.Layer<never, SessionCookieInvalid> =>
  Layer.effect(Current, make(options))

/** The cookie for an origin, see {@link forOrigin}. */
export const layerOrigin = (origin: URL): Layer.Layer<never> => Layer.succeed(Current, forOrigin(origin))

/**
 * The token of a request, if it carries one that we can have issued.
 *
 * **Details**
 *
 * A request with two different cookies of the name has none: which of them is whose cannot be told, and a neighbouring host
 * may have put one there. A `__Host-` name rules that out.
 */
export const read = (cookie: SessionCookie, request: HttpServerRequest): Option.Option<SessionToken.SessionToken> => {
  const [value, ...others] = valuesOf(cookie, request)
  return value === undefined || others.length > 0 ? Option.none() : SessionToken.parse(value)
}

/** Whether a request carries the cookie at all, be it readable or not. */
export const isPresent = (cookie: SessionCookie, request: HttpServerRequest): boolean =>
  valuesOf(cookie, request).length > 0

/** What a request says that the cookie is, each value once. */
const valuesOf = ({ name }: SessionCookie, request: HttpServerRequest): ReadonlyArray<string> => {
  const header = request.headers["cookie"] ?? ""
  const values: Array<string> = []
  for (let at = 0, end = 0; at < header.length; at = end + 1) {
    end = header.indexOf(";", at)
    if (end === -1) end = header.length
    const equals = header.indexOf("=", at)
    if (equals <= at || equals > end || header.slice(at, equals).trim() !== name) continue
    const value = header.slice(equals + 1, end).trim()
    if (!values.includes(value)) values.push(value)
  }
  return values
}

const attributes = ({ domain, partitioned, path, sameSite, secure }: SessionCookie): Cookies.Cookie["options"] => ({
  httpOnly: true,
  path,
  sameSite,
  secure,
  ...(domain !== undefined && { domain }),
  ...(partitioned && { partitioned })
})

const write = (
  response: HttpServerResponse.HttpServerResponse,
  { name, ...cookie }: SessionCookie,
  value: string,
  until: Pick<NonNullable<Cookies.Cookie["options"]>, "expires" | "maxAge">
) =>
  HttpServerResponse.setHeader(
    HttpServerResponse.setCookieUnsafe(response, name, value, { ...attributes({ name, ...cookie }), ...until }),
    "cache-control",
    "no-store"
  )

/** How long a cookie lives, both ways that browsers know. */
export interface Until {
  readonly expiresAt: DateTime.Utc
  /** From now on. It counts where it is known (RFC 6265bis 5.6), and needs no clock of the browser's that is right. */
  readonly livesFor: Duration.Duration
}

/** A response that sets the cookie, which no cache may keep. */
export const setOn = (
  response: HttpServerResponse.HttpServerResponse,
  cookie: SessionCookie,
  token: SessionToken.SessionToken,
  { expiresAt, livesFor }: Until
) =>
  write(response, cookie, Redacted.value(token), {
    expires: DateTime.toDateUtc(expiresAt),
    // Rounded up: less than a second must not remove what is set.
    maxAge: Duration.seconds(Math.max(Math.ceil(Duration.toSeconds(livesFor)), 1))
  })

/** A response that removes the cookie, with the attributes it was set with: a browser ignores a removal with others. */
export const removeFrom = (response: HttpServerResponse.HttpServerResponse, cookie: SessionCookie) =>
  write(response, cookie, "", { expires: new Date(0), maxAge: 0 })

/** Sets the cookie on the response of the running request. */
export const set = (cookie: SessionCookie, token: SessionToken.SessionToken, until: Until) =>
  HttpEffect.appendPreResponseHandler((_, response) => Effect.succeed(setOn(response, cookie, token, until)))

/** Removes the cookie on the response of the running request. */
export const remove = (cookie: SessionCookie) =>
  HttpEffect.appendPreResponseHandler((_, response) => Effect.succeed(removeFrom(response, cookie)))

/** As {@link layer}, from wrapped configuration: `layerConfig({ name: Config.String("SESSION_COOKIE") })`. */
export const layerConfig = (
  config: Config.Wrap<Options>
): Layer.Layer<never, SessionCookieInvalid | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(config), layer))
