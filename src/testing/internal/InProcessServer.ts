/**
 * A server without a socket: it answers requests on the runtime of the test.
 *
 * It lives as long as the scope it was made in, and serves an app for as long as the app's scope. When that closes, bodies that are not
 * read to their end are cut off, requests that are under way are interrupted, and the scope of every request has closed before anything
 * that the app is made of.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as HttpEffect from "effect/http/HttpEffect"
import type { HttpMiddleware } from "effect/http/HttpMiddleware"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as NetAddress from "effect/net/NetAddress"
import * as Scope from "effect/Scope"

type App = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  unknown,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>
type Handler = (request: Request) => Promise<Response>

const notServed = () =>
  Promise.reject(new Error("The app serves nothing. Provide TestHttp.layer to its HttpRouter.serve, and keep it open."))

/** Answers requests until the scope closes. */
const serving = Effect.fnUntraced(function* (app: App, middleware: HttpMiddleware | undefined) {
  const context = yield* Effect.context<never>()
  const run = Effect.runForkWith(context)
  const requests = yield* FiberSet.make<void>()
  const closing = new AbortController()
  /** Of requests whose bodies may not have been read. */
  const scopes = new Set<Scope.Closeable>()
  yield* Effect.addFinalizer((exit) =>
    Effect.suspend(() => {
      closing.abort()
      return Effect.forEach(scopes, (scope) => Scope.close(scope, exit), { discard: true })
    })
  )

  /** Its scope is the body's from now on. */
  const stream = (response: HttpServerResponse.HttpServerResponse) =>
    Effect.gen(function* () {
      // As `toHandled` makes it.
      const scope = (yield* Effect.scope) as Scope.Closeable
      scopes.add(scope)
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => scopes.delete(scope))
      )
      return HttpEffect.scopeTransferToStream(response)
    })

  const handler: Handler = (request) =>
    new Promise((resolve, reject) => {
      const withoutBody = request.method === "HEAD"
      const signal = AbortSignal.any([request.signal, closing.signal])
      const respond = (_: unknown, response: HttpServerResponse.HttpServerResponse) => {
        const isStream = response.body._tag === "Stream" && !HttpServerResponse.omitsBody(response, withoutBody)
        return Effect.map(isStream ? stream(response) : Effect.succeed(response), (response) =>
          resolve(HttpServerResponse.toWeb(response, { withoutBody, context, signal }))
        )
      }
      const fiber = run(
        Effect.provideService(
          HttpEffect.toHandled(app, respond, middleware),
          HttpServerRequest.HttpServerRequest,
          HttpServerRequest.fromWeb(request)
        )
      )
      FiberSet.addUnsafe(requests, fiber)
      const stop = () => fiber.interruptUnsafe()
      request.signal.addEventListener("abort", stop, { once: true })
      fiber.addObserver((exit) => {
        request.signal.removeEventListener("abort", stop)
        if (Exit.isFailure(exit)) reject(new Error("The request was ended before it was answered"))
      })
    })
  return handler
})

/** Makes a server that an app can serve on, and the function that takes the place of the network. */
export const make = Effect.sync(() => {
  let handler: Handler = notServed
  const server = HttpServer.make({
    address: NetAddress.inetAddressFromIpStringUnsafe("127.0.0.1", 80),
    serve: (app, middleware) =>
      Effect.gen(function* () {
        handler = yield* serving(app, middleware)
        yield* Effect.addFinalizer(() => Effect.sync(() => (handler = notServed)))
      })
  })
  const fetch: typeof globalThis.fetch = (input, init) => handler(new Request(input, init))
  return { server, fetch }
})
