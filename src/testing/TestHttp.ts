/**
 * Browsers for tests of an app: each keeps its cookies, knows the app's origin, and can be logged in without a password.
 *
 * A browser lives as long as somebody has it. With {@link layer} there is no socket: a request is a fiber on the runtime of the test, with
 * its clock and its services; when the layer closes, the scopes of all requests have closed. With {@link layerListening} the same
 * browsers speak to a server that listens.
 *
 * **When to use**
 *
 * {@link layer} for almost everything, also with `TestClock`. {@link layerListening} for what a network does: sockets that are cut, limits
 * of the server, another program as the client.
 *
 * **Details**
 *
 * A browser sends `origin` and `sec-fetch-site: same-origin` as a page of the app does; a header of the request's own takes their place. It
 * follows no redirect, so that a test sees each answer and each cookie. `client.get("/path")` is the app's path.
 *
 * **Example** (An app in a test)
 *
 * ```ts
 * Effect.gen(function* () {
 *   const alice = yield* TestHttp.browserOf(AppSession)
 *   yield* alice.loginAs("alice")
 *   const { status } = yield* alice.client.get("/report")
 * }).pipe(Effect.provide(app.pipe(Layer.provideMerge(TestHttp.layer({ origin: "http://localhost:3000" })))))
 * ```
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Etag from "effect/http/Etag"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpServer from "effect/http/HttpServer"
import type * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import type * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import * as SessionCookie from "../http/SessionCookie.ts"
import * as SessionOrigin from "../http/SessionOrigin.ts"
import type { ServiceClass } from "../session/Session.ts"
import type { SessionError } from "../session/SessionError.ts"
import * as Sessions from "../session/Sessions.ts"
import { CookieJar } from "./internal/CookieJar.ts"
import * as InProcessServer from "./internal/InProcessServer.ts"

/** Where browsers find the app. */
export interface Options {
  /** What the app was told, such as `https://example.org`: it is sent as `origin`, and decides about the cookie. */
  readonly origin: string | URL
  /** Where the app has another cookie than the one for its origin. */
  readonly cookie?: SessionCookie.Options | undefined
}

/** A browser without a cookie, which has never been anywhere. */
export interface Browser {
  /** An ordinary client; URLs are paths of the app. */
  readonly client: HttpClient.HttpClient
  /** Its cookies by name, as they are sent. */
  readonly cookies: Effect.Effect<ReadonlyMap<string, string>>
  /** Forgets them all, as a user can. */
  readonly forget: Effect.Effect<void>
}

/** On whose behalf a session is made. */
export interface LoginOptions {
  /** See `Login.actor`. */
  readonly actor?: string | undefined
  readonly device?: Parameters<ServiceClass<unknown, string, Schema.Codec<unknown, Schema.Json>>["create"]>[0]["device"]
}

/** A browser of an app with sessions. */
export interface SessionBrowser extends Browser {
  /** Makes a session in the app's store, and keeps its cookie as if the principal had logged in. */
  readonly loginAs: (principal: string, options?: LoginOptions) => Effect.Effect<Sessions.CreatedSession, SessionError>
}

/** The app, from outside. */
export class TestHttp extends Context.Service<
  TestHttp,
  {
    readonly origin: URL
    readonly cookie: SessionCookie.SessionCookie
    /** Sends requests to the app. It keeps nothing. */
    readonly client: HttpClient.HttpClient
  }
>()("holdfast/testing/TestHttp") {}

/** A new browser. */
export const browser: Effect.Effect<Browser, never, TestHttp> = Effect.map(TestHttp, (app) => make(app).browser)

/** A new browser of an app with sessions of this class. The app's `Sessions` must be among what its layer provides. */
export const browserOf = <Self, Id extends string, S extends Schema.Codec<unknown, Schema.Json>>(
  session: ServiceClass<Self, Id, S>
): Effect.Effect<SessionBrowser, never, TestHttp | Sessions.Sessions> =>
  Effect.gen(function* () {
    const app = yield* TestHttp
    const sessions = yield* Sessions.Sessions
    const { browser, jar } = make(app)
    return {
      ...browser,
      loginAs: (principal, options = {}) =>
        Effect.tap(
          Effect.provideService(session.create({ principal, ...options }), Sessions.Sessions, sessions),
          (created) =>
            Effect.sync(() =>
              jar.set(app.cookie.name, Redacted.value(created.token), DateTime.toEpochMillis(created.record.expiresAt))
            )
        )
    }
  })

const make = ({ client, origin }: TestHttp["Service"]): { readonly browser: Browser; readonly jar: CookieJar } => {
  const jar = new CookieJar()
  const sent = HttpClient.mapRequestEffect(client, (request) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      const cookie = jar.header(now)
      const own = { origin: origin.origin, "sec-fetch-site": "same-origin", ...(cookie !== "" && { cookie }) }
      return HttpClientRequest.setHeaders(request, { ...own, ...request.headers })
    })
  )
  const kept = HttpClient.tap(sent, (response) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      for (const cookie of Object.values(response.cookies.cookies)) jar.keep(cookie, now)
    })
  )
  return {
    jar,
    browser: {
      client: kept,
      cookies: Effect.map(Clock.currentTimeMillis, (now) => jar.get(now)),
      forget: Effect.sync(() => jar.clear())
    }
  }
}

const describe = Effect.fnUntraced(function* ({ cookie, origin }: Options) {
  const problem = SessionOrigin.problemOf(String(origin))
  if (problem !== undefined) return yield* new SessionCookie.SessionCookieInvalid({ field: "origin", problem })
  const url = new URL(origin)
  return {
    origin: url,
    cookie: cookie === undefined ? SessionCookie.forOrigin(url) : yield* SessionCookie.make(cookie)
  }
})

/** What `HttpRouter.serve` needs. */
export type Served =
  HttpServer.HttpServer | HttpPlatform.HttpPlatform | FileSystem.FileSystem | Path.Path | Etag.Generator

/**
 * The app without a socket: provide it to `HttpRouter.serve(routes)`. Fails where the origin makes no sense.
 */
export const layer = (options: Options): Layer.Layer<TestHttp | Served, SessionCookie.SessionCookieInvalid> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const { cookie, origin } = yield* describe(options)
      const { fetch, server } = yield* InProcessServer.make
      const client = yield* HttpClient.HttpClient.pipe(Effect.provide(Layer.fresh(FetchHttpClient.layer)))
      return Context.make(HttpServer.HttpServer, server).pipe(
        Context.add(TestHttp, { origin, cookie, client: clientOf(client, origin.origin, fetch) })
      )
    })
  ).pipe(Layer.provideMerge(HttpServer.layerServices), Layer.fresh)

/**
 * The same browsers for a server that listens, such as that of `NodeHttpServer.layerTest`.
 */
export const layerListening = (
  options: Options
): Layer.Layer<TestHttp, SessionCookie.SessionCookieInvalid, HttpServer.HttpServer> =>
  Layer.effect(
    TestHttp,
    Effect.gen(function* () {
      const { cookie, origin } = yield* describe(options)
      const { address } = yield* HttpServer.HttpServer
      const client = yield* HttpClient.HttpClient.pipe(Effect.provide(Layer.fresh(FetchHttpClient.layer)))
      return TestHttp.of({
        origin,
        cookie,
        client: clientOf(client, HttpServer.formatAddress(address), globalThis.fetch)
      })
    })
  )

/** A client whose URLs are paths, and which follows no redirect: the cookies of one would be lost. */
const clientOf = (client: HttpClient.HttpClient, url: string, fetch: typeof globalThis.fetch) =>
  client.pipe(
    HttpClient.mapRequest(HttpClientRequest.prependUrl(url)),
    HttpClient.transformResponse((response) =>
      response.pipe(
        Effect.provideService(FetchHttpClient.Fetch, fetch),
        Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual", keepalive: false })
      )
    )
  )
