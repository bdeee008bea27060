import { assert, describe, it } from "@effect/vitest"
import { NodeHttpServer } from "@effect/platform-node"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as MemorySessions from "../../src/http/MemorySessions.ts"
import * as SessionMiddleware from "../../src/http/SessionMiddleware.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Session from "../../src/session/Session.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as TestHttp from "../../src/testing/TestHttp.ts"

class AppSession extends Session.Service<AppSession>()("test/AppSession", { data: Schema.Int, initial: 0 }) {}
const Http = SessionMiddleware.make(AppSession)

/** What the app holds for a request. */
const held = (kind: string) => Ledger.hold({ kind, id: kind }, Effect.void, () => Effect.void)

const whoami = Effect.gen(function* () {
  return HttpServerResponse.text(String(yield* (yield* AppSession).principal))
})
const visit = Effect.gen(function* () {
  return HttpServerResponse.text(String(yield* (yield* AppSession).modify((n) => n + 1)))
})
const logout = Effect.gen(function* () {
  yield* (yield* AppSession).logout
  return HttpServerResponse.redirect("/", { status: 303 })
})
const echo = Effect.gen(function* () {
  const request = yield* HttpServerRequest.HttpServerRequest
  const { origin, "sec-fetch-site": site } = request.headers
  return HttpServerResponse.jsonUnsafe({ url: request.url, origin, site, body: yield* request.text })
})
const sleepy = Effect.andThen(held("request"), Effect.never)
const ticks = Effect.gen(function* () {
  yield* held("request")
  const ticking = Stream.concat(Stream.succeed("tick\n"), Stream.never)
  return HttpServerResponse.stream(Stream.encodeText(ticking))
})

const appAt = (origin: string) => {
  const open = HttpRouter.addAll([
    HttpRouter.route("GET", "/visit", visit),
    HttpRouter.route("POST", "/visit", visit),
    HttpRouter.route("POST", "/logout", logout),
    HttpRouter.route("PUT", "/echo", echo),
    HttpRouter.route("GET", "/sleepy", sleepy),
    HttpRouter.route("GET", "/ticks", ticks),
    HttpRouter.route("GET", "/late", Effect.as(Effect.sleep("1 hour"), HttpServerResponse.text("late")))
  ])
  const members = HttpRouter.addAll([HttpRouter.route("GET", "/whoami", whoami)]).pipe(Layer.provide(Http.loggedIn))
  const routes = Layer.merge(open, members).pipe(
    Layer.provide(Http.layer),
    Layer.provideMerge(MemorySessions.layer({ origin }))
  )
  return HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true })
}

const origin = "https://app.example"

/** The same app in the same browser, without a socket and with one. */
const ways = {
  "without a socket": appAt(origin).pipe(Layer.provideMerge(TestHttp.layer({ origin }))),
  "on a server that listens": appAt(origin).pipe(
    Layer.provideMerge(TestHttp.layerListening({ origin })),
    Layer.provideMerge(NodeHttpServer.layerTest)
  )
}

const quiet = Effect.provideService(References.MinimumLogLevel, "None")

for (const [way, app] of Object.entries(ways)) {
  describe(`an app ${way}`, () => {
    const inside = <A, E, R>(test: Effect.Effect<A, E, R>) =>
      Effect.gen(function* () {
        yield* Effect.provide(test, Layer.fresh(app))
        yield* LedgerRecorder.assertEmpty()
      }).pipe(Effect.provide(Layer.fresh(Ledger.layer)), quiet)

    it.live("keeps a browser's cookies, and those of another apart", () =>
      Effect.gen(function* () {
        const [laptop, phone] = [yield* TestHttp.browser, yield* TestHttp.browser]
        const text = (browser: TestHttp.Browser) => Effect.flatMap(browser.client.get("/visit"), ({ text }) => text)
        assert.strictEqual(yield* text(laptop), "1")
        assert.strictEqual(yield* text(laptop), "2")
        assert.strictEqual(yield* text(phone), "1")
        assert.deepStrictEqual(Array.from((yield* laptop.cookies).keys()), ["__Host-holdfast"])
        yield* laptop.forget
        assert.strictEqual(yield* text(laptop), "1")
      }).pipe(inside)
    )

    it.live("logs somebody in without a password", () =>
      Effect.gen(function* () {
        const alice = yield* TestHttp.browserOf(AppSession)
        assert.strictEqual((yield* alice.client.get("/whoami")).status, 401)
        const { record } = yield* alice.loginAs("alice", { device: { userAgent: "test" } })
        assert.strictEqual(record.principal, "alice")
        assert.strictEqual(yield* Effect.flatMap(alice.client.get("/whoami"), ({ text }) => text), "alice")
        const { headers, status } = yield* alice.client.post("/logout")
        assert.deepStrictEqual([status, headers["location"]], [303, "/"])
        assert.strictEqual((yield* alice.cookies).size, 0)
        assert.strictEqual((yield* alice.client.get("/whoami")).status, 401)
      }).pipe(inside)
    )

    it.live("is asked from its own origin, unless the request says another", () =>
      Effect.gen(function* () {
        const { client } = yield* TestHttp.browser
        const echoed = yield* Effect.flatMap(
          client.put("/echo?a=b", { body: HttpBody.text("hello") }),
          ({ json }) => json
        )
        assert.deepStrictEqual(echoed, { url: "/echo?a=b", origin, site: "same-origin", body: "hello" })
        const { status } = yield* client.post("/visit", { headers: { origin: "https://evil.example" } })
        assert.strictEqual(status, 403)
      }).pipe(inside)
    )

    it.live("ends a request whose client gives up, and what it held", () =>
      Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        const { client } = yield* TestHttp.browser
        const holds = Effect.map(ledger.holdings, (all) => all.some(({ kind }) => kind === "request"))
        const until = (is: boolean) => Effect.repeat(holds, { until: (held) => held === is })
        const fiber = yield* Effect.forkChild(client.get("/sleepy"))
        yield* until(true)
        yield* Fiber.interrupt(fiber)
        yield* until(false)
      }).pipe(Effect.timeout("10 seconds"), inside)
    )

    it.live("has closed every request when its layer has, also one whose body nobody reads", () =>
      Effect.gen(function* () {
        const { client } = yield* TestHttp.browser
        const read = yield* Deferred.make<string>()
        const reader = yield* Effect.forkChild(
          Effect.flatMap(client.get("/ticks"), ({ stream }) =>
            Stream.runForEach(Stream.decodeText(stream), (tick) => Deferred.succeed(read, tick))
          )
        )
        assert.strictEqual(yield* Deferred.await(read), "tick\n")
        // A server that listens waits for its clients.
        if (way === "without a socket") yield* client.get("/ticks")
        else yield* Fiber.interrupt(reader)
      }).pipe(inside)
    )
  })
}

describe("an app without a socket", () => {
  it.effect("runs on the clock of the test", () =>
    Effect.gen(function* () {
      const { client } = yield* TestHttp.browser
      const fiber = yield* Effect.forkChild(client.get("/late"))
      // As soon as the request sleeps.
      yield* Effect.repeat(TestClock.adjust("1 hour"), {
        until: () => fiber.pollUnsafe() !== undefined,
        while: () => true
      })
      assert.strictEqual(yield* Effect.flatMap(Fiber.join(fiber), ({ text }) => text), "late")
      const alice = yield* TestHttp.browserOf(AppSession)
      yield* alice.loginAs("alice")
      yield* TestClock.adjust("32 minutes")
      const { status, text } = yield* alice.client.get("/whoami")
      assert.strictEqual(status, 401)
      assert.include(yield* text, "SessionExpired")
    }).pipe(Effect.provide(Layer.fresh(ways["without a socket"])), quiet)
  )

  it.effect("refuses an origin that makes no sense, and says what to do where nothing is served", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(
        Effect.provide(TestHttp.browser, TestHttp.layer({ origin: "http://app.example" }))
      )
      assert.match(error.message, /origin.*must be https/)
      const { client } = yield* TestHttp.browser
      const failed = yield* Effect.flip(client.get("/"))
      assert.include(String(failed.reason.cause), "Provide TestHttp.layer to its HttpRouter.serve")
    }).pipe(Effect.provide(TestHttp.layer({ origin })))
  )
})
