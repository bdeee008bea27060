import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as OpenApi from "effect/http-api/OpenApi"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as SessionCookie from "../../src/http/SessionCookie.ts"
import * as SessionMiddleware from "../../src/http/SessionMiddleware.ts"
import { Sessions } from "../../src/session/Sessions.ts"
import * as SessionId from "../../src/session/SessionId.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import * as Browser from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as RawHttp from "../support/rawHttp.ts"
import { pgWorld } from "../support/sessions.ts"
import { client, Counter, instanceOver, outcome, type World } from "../session/sessionHandleLaws.ts"

const Http = SessionMiddleware.make(Counter)

class Api extends HttpApi.make("api").add(
  HttpApiGroup.make("counter").add(
    HttpApiEndpoint.get("count", "/api/count", { success: Schema.Number }).middleware(Http.Required),
    HttpApiEndpoint.get("stream", "/api/stream", { success: Schema.String }).middleware(Http.Required),
    HttpApiEndpoint.post("login", "/api/login", { success: Schema.String })
  )
) {}

/** Lets a test hold up a handler at a place of its choice. */
interface Gate {
  readonly reached: Deferred.Deferred<void>
  readonly open: Deferred.Deferred<void>
  readonly released: Deferred.Deferred<void>
}

const add = Effect.flatMap(Counter, ({ modify }) => modify((data) => ({ ...data, count: data.count + 1 })))
const counted = Effect.map(Effect.orDie(add), ({ count }) => HttpServerResponse.text(String(count)))
const text = (body: Effect.Effect<unknown, never, Counter>) =>
  Effect.map(body, (value) => HttpServerResponse.text(String(value)))
const login = Effect.orDie(Effect.flatMap(Counter, ({ authenticate }) => authenticate("alice")))

const routes = (gate: Gate) =>
  HttpRouter.addAll([
    HttpRouter.route("GET", "/ping", HttpServerResponse.text("pong")),
    HttpRouter.route(
      "GET",
      "/me",
      text(
        Effect.orDie(
          Effect.flatMap(Counter, ({ data, principal }) =>
            Effect.zipWith(principal, data, (name, { count }) => `${String(name)} ${count}`)
          )
        )
      )
    ),
    HttpRouter.route(
      "GET",
      "/look",
      text(
        Effect.map(Counter, (session) => {
          // What a handle offers is made here, and none of it is run.
          const offered = [
            session.logout,
            session.touch,
            session.renew,
            session.rotate,
            session.revokeOthers,
            session.devices
          ]
          const made = [
            session.authenticate("mallory"),
            session.modify((data) => data),
            session.revoke(SessionId.make())
          ]
          return String(offered.length + made.length)
        })
      )
    ),
    HttpRouter.route("POST", "/add", counted),
    HttpRouter.route("POST", "/login", text(Effect.map(login, ({ id }) => id))),
    HttpRouter.route("POST", "/logout", text(Effect.orDie(Effect.flatMap(Counter, ({ logout }) => logout)))),
    HttpRouter.route("POST", "/login-and-die", Effect.andThen(login, Effect.die(new Error("after the login")))),
    HttpRouter.route("POST", "/add-and-die", Effect.andThen(counted, Effect.die(new Error("after the change")))),
    HttpRouter.route(
      "POST",
      "/hang",
      Effect.andThen(
        counted,
        Effect.ensuring(
          Effect.andThen(Deferred.succeed(gate.reached, undefined), Effect.never),
          Deferred.succeed(gate.released, undefined)
        )
      )
    ),
    HttpRouter.route(
      "POST",
      "/stream",
      Effect.gen(function* () {
        const session = yield* Counter
        const first = yield* outcome(session.modify((data) => ({ ...data, count: data.count + 1 })))
        const inBody = Stream.fromEffect(
          Effect.gen(function* () {
            yield* Deferred.await(gate.open)
            const changed = yield* outcome(session.modify((data) => ({ ...data, count: data.count + 1 })))
            const loggedIn = yield* outcome(session.authenticate("alice"))
            return ` ${changed} ${loggedIn}`
          })
        )
        return HttpServerResponse.stream(Stream.encodeText(Stream.concat(Stream.succeed(first), inBody)))
      })
    ),
    HttpRouter.route(
      "GET",
      "/slow",
      Effect.gen(function* () {
        const { principal } = yield* Counter
        const before = yield* Effect.orDie(principal)
        yield* Deferred.succeed(gate.reached, undefined)
        yield* Deferred.await(gate.open)
        return HttpServerResponse.text(String(before))
      })
    ),
    HttpRouter.route(
      "POST",
      "/late",
      Effect.map(Counter, ({ modify }) =>
        HttpServerResponse.stream(
          Stream.encodeText(Stream.fromEffect(outcome(modify((data) => ({ ...data, count: data.count + 1 })))))
        )
      )
    )
  ])

const handlers = HttpApiBuilder.group(Api, "counter", (handlers) =>
  handlers.handleAll({
    count: () =>
      Effect.gen(function* () {
        const session = yield* Counter
        assert.strictEqual(yield* Effect.orDie(Lifetime.current), yield* Effect.orDie(session.lifetime))
        return (yield* Effect.orDie(session.data)).count
      }),
    stream: () => Effect.succeed("streamed"),
    login: () => Effect.map(login, ({ id }) => id)
  })
)

interface App extends World {
  readonly url: string
  readonly browser: () => Browser.Browser
  readonly gate: Gate
  /** How many sessions the database has. */
  readonly rows: Effect.Effect<unknown>
}

/** A real server over PostgreSQL, with a second instance of the store beside it. */
const withApp = <A, E>(test: (app: App) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const { advance, another, connection, store } = yield* pgWorld
    const [here, there] = yield* Effect.all([instanceOver(store), instanceOver(another)])
    const [reached, open, released] = yield* Effect.all([
      Deferred.make<void>(),
      Deferred.make<void>(),
      Deferred.make<void>()
    ])
    const gate = { reached, open, released }
    const cookie = SessionCookie.layerOrigin(new URL("http://127.0.0.1"))
    const app = HttpRouter.serve(
      Layer.mergeAll(routes(gate), HttpApiBuilder.layer(Api).pipe(Layer.provide(handlers))).pipe(
        Layer.provide([Http.middleware, Http.layerRequired]),
        Layer.provide([cookie, Layer.succeed(Sessions, here.sessions)])
      ),
      { disableListenLog: true }
    ).pipe(Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })))
    const { address } = Context.get(yield* Layer.build(app), HttpServer.HttpServer)
    const url = HttpServer.formatAddress(address)
    const rows = Effect.map(
      Effect.orDie(connection.queryValues("select count(*)::int from holdfast.sessions")),
      ([row]) => row?.[0]
    )
    yield* test({ here, there, advance, url, gate, rows, browser: () => Browser.make(url) })
  }).pipe(Effect.scoped, Effect.provideService(References.MinimumLogLevel, "None"))

const name = "holdfast-dev"
const send = (browser: Browser.Browser, method: string, path: string) =>
  Effect.map(browser.send(method, path), ({ headers, status, text }) => ({
    status,
    text,
    cookie: headers.getSetCookie(),
    cache: headers.get("cache-control")
  }))
const body = (browser: Browser.Browser, method: string, path: string) =>
  Effect.map(send(browser, method, path), ({ text }) => text)
const tokenOf = (browser: Browser.Browser) =>
  Option.getOrThrow(SessionToken.parse(browser.cookies.get(name) ?? "no cookie"))
const countIn = (instance: World["there"], browser: Browser.Browser) =>
  Effect.flatMap(client(tokenOf(browser)).on(instance), ({ data }) => Effect.map(data, ({ count }) => count))

describe("SessionMiddleware", () => {
  it.live("a request that never asks costs no call of the store, with a cookie or without", () =>
    withApp(({ browser, here }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        here.calls.length = 0
        for (const someone of [alice, browser()]) {
          const answer = yield* send(someone, "GET", "/ping")
          assert.deepStrictEqual(answer, { status: 200, text: "pong", cookie: [], cache: null })
        }
        assert.deepStrictEqual(here.calls, [])
      })
    )
  )

  it.live("what a handler takes from a session and does not run changes neither the cookie nor the session", () =>
    withApp(({ browser, here, there }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        yield* send(alice, "POST", "/add")
        here.calls.length = 0
        assert.deepStrictEqual(yield* send(alice, "GET", "/look"), { status: 200, text: "9", cookie: [], cache: null })
        assert.deepStrictEqual(here.calls, [])
        assert.strictEqual(yield* Effect.scoped(countIn(there, alice)), 1)
      })
    )
  )

  it.live("S14 a visitor without data gets no cookie and no row; the first change makes both", () =>
    withApp(({ browser, here, rows }) =>
      Effect.gen(function* () {
        const visitor = browser()
        assert.deepStrictEqual(yield* send(visitor, "GET", "/me"), {
          status: 200,
          text: "null 0",
          cookie: [],
          cache: null
        })
        assert.deepStrictEqual(here.calls, [])
        assert.strictEqual(yield* rows, 0)
        const first = yield* send(visitor, "POST", "/add")
        assert.deepInclude(first, { status: 200, text: "1", cache: "no-store" })
        assert.match(
          first.cookie[0] ?? "",
          new RegExp(`^${name}=[\\w-]{43}; Max-Age=\\d+; Path=/; Expires=.*; HttpOnly; SameSite=Lax$`)
        )
        assert.strictEqual(yield* rows, 1)
        assert.deepInclude(yield* send(visitor, "POST", "/add"), { text: "2", cookie: [] })
        assert.strictEqual(yield* rows, 1)
      }).pipe(Effect.scoped)
    )
  )

  it.live("S1 what a request wrote is committed before its answer begins, for every instance", () =>
    withApp(({ browser, there }) =>
      Effect.gen(function* () {
        const alice = browser()
        for (let count = 1; count <= 20; count++) {
          assert.strictEqual(yield* body(alice, "POST", "/add"), String(count))
          assert.strictEqual(yield* countIn(there, alice), count)
        }
      }).pipe(Effect.scoped)
    )
  )

  it.live("S6 a login over HTTP changes the cookie, and the old one is dead at once", () =>
    withApp(({ browser, there }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/add")
        const old = alice.cookies.get(name) ?? ""
        yield* send(alice, "POST", "/login")
        assert.strictEqual(yield* body(alice, "GET", "/me"), "alice 1")
        const stale = browser()
        stale.cookies.set(name, old)
        assert.deepInclude(yield* send(stale, "GET", "/me"), { text: "null 0", cookie: [] })
        assert.strictEqual(yield* Effect.scoped(countIn(there, alice)), 1)
      }).pipe(Effect.scoped)
    )
  )

  it.live("a body that streams may change data, but neither log in nor begin a session", () =>
    withApp(({ browser, gate, rows, there }) =>
      Effect.gen(function* () {
        const visitor = browser()
        const streaming = yield* Effect.forkChild(send(visitor, "POST", "/stream"))
        yield* eventually(
          Effect.sync(() => visitor.cookies.size),
          (size) => size === 1
        )
        assert.strictEqual(yield* countIn(there, visitor), 1, "the cookie and the data are there before the body is")
        yield* Deferred.succeed(gate.open, undefined)
        assert.strictEqual((yield* Fiber.join(streaming)).text, "ok ok SessionInvalid")
        assert.strictEqual(yield* countIn(there, visitor), 2)
        assert.strictEqual(yield* body(visitor, "GET", "/me"), "null 2")
        assert.strictEqual(yield* rows, 1)
        assert.strictEqual(yield* body(browser(), "POST", "/late"), "SessionInvalid")
        assert.strictEqual(yield* rows, 1)
      }).pipe(Effect.scoped)
    )
  )

  it.live("a 500 carries the cookie of what took effect before", () =>
    withApp(({ browser, there }) =>
      Effect.gen(function* () {
        const visitor = browser()
        assert.strictEqual((yield* send(visitor, "POST", "/add-and-die")).status, 500)
        assert.strictEqual(yield* countIn(there, visitor), 1)
        assert.strictEqual((yield* send(visitor, "POST", "/login-and-die")).status, 500)
        assert.strictEqual(yield* body(visitor, "GET", "/me"), "alice 1")
      }).pipe(Effect.scoped)
    )
  )

  it.live("an interrupted request keeps what it wrote and lets go of the session", () =>
    withApp(({ browser, gate, there }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        const hanging = yield* Effect.forkChild(send(alice, "POST", "/hang"))
        yield* Deferred.await(gate.reached)
        yield* Fiber.interrupt(hanging)
        yield* Deferred.await(gate.released)
        assert.strictEqual(yield* Effect.scoped(countIn(there, alice)), 1)
        assert.strictEqual(yield* body(alice, "GET", "/me"), "alice 1")
      }).pipe(Effect.scoped)
    )
  )

  it.live("holds nothing of a session when its requests are over, however they ended", () =>
    withApp(({ browser, gate }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* Deferred.succeed(gate.open, undefined)
        for (const path of ["/login", "/add", "/stream", "/add-and-die"]) yield* send(alice, "POST", path)
        yield* send(alice, "GET", "/api/count")
        const ledger = yield* Ledger.Ledger
        const held = yield* eventually(
          Effect.map(ledger.holdings, (holdings) => holdings.map(({ kind }) => kind)),
          (kinds) => !kinds.includes("handle") && !kinds.includes("session")
        )
        assert.notInclude(held, "fiber")
      }).pipe(Effect.scoped)
    ).pipe(Effect.provide(Ledger.layer))
  )

  it.live("a cookie that leads to no session is removed, once somebody asks", () =>
    withApp(({ browser, advance, there }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        yield* advance("13 hours")
        const answer = yield* send(alice, "GET", "/me")
        assert.deepInclude(answer, { text: "null 0", cache: "no-store" })
        assert.match(
          answer.cookie[0] ?? "",
          new RegExp(`^${name}=; Max-Age=0; Path=/; Expires=.*; HttpOnly; SameSite=Lax$`)
        )
        assert.strictEqual(alice.cookies.size, 0)

        yield* send(alice, "POST", "/login")
        const token = tokenOf(alice)
        yield* (yield* client(token).on(there)).logout
        const refused = yield* alice.send("GET", "/api/count")
        assert.deepInclude(Browser.problemOf(refused), { status: 401, code: "SessionRevoked" })
        assert.strictEqual(alice.cookies.size, 0)

        yield* send(alice, "POST", "/login")
        yield* send(alice, "POST", "/logout")
        assert.strictEqual(alice.cookies.size, 0)
      }).pipe(Effect.scoped)
    )
  )

  it.live("a stream of events that is refused leaves the cookie, because its page cannot read why", () =>
    withApp(({ advance, browser }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        yield* advance("13 hours")
        const stream = yield* alice.send("GET", "/api/stream", { headers: { accept: "text/event-stream" } })
        assert.deepInclude(Browser.problemOf(stream), { status: 401, code: "SessionExpired" })
        assert.deepInclude(Browser.problemOf(yield* alice.send("GET", "/api/count")), { code: "SessionExpired" })
        assert.strictEqual(alice.cookies.size, 0)
      })
    )
  )

  it.live("any bytes as a cookie are refused and never a 5xx", () =>
    withApp(({ browser, here, url }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        const mine = alice.cookies.get(name) ?? ""
        const foreign = "A".repeat(43)
        here.calls.length = 0
        const garbage = [
          "",
          "x",
          "a=b=c",
          '"',
          "%00%ff",
          "é",
          "\x80\xff\xfe",
          `${mine}x`,
          `${mine.slice(1)}`,
          ";;;",
          `"${mine}"`,
          "x".repeat(4000)
        ]
        for (const value of garbage) {
          const answer = yield* RawHttp.get(url, "/api/count", `Cookie: ${name}=${value}`)
          assert.strictEqual(Browser.problemOf(answer).code, "SessionMissing", JSON.stringify(value))
          assert.include(answer.headers.getSetCookie()[0], "Max-Age=0")
          const visitor = yield* RawHttp.get(url, "/me", `Cookie: ${name}=${value}`)
          assert.deepStrictEqual([visitor.status, visitor.text.includes("null 0")], [200, true])
        }
        assert.deepStrictEqual(here.calls, [], "what we cannot have issued is not looked for")
        const unknown = yield* RawHttp.get(url, "/api/count", `Cookie: ${name}=${foreign}`)
        assert.strictEqual(Browser.problemOf(unknown).code, "SessionMissing")
        for (const header of [
          `Cookie: ${name}`,
          `Cookie: =${mine}`,
          `Cookie: ${name.toUpperCase()}=${mine}`,
          "X-None: 1"
        ]) {
          const answer = yield* RawHttp.get(url, "/api/count", header)
          assert.strictEqual(Browser.problemOf(answer).code, "SessionMissing", header)
        }
      })
    )
  )

  it.live("of two different cookies of the name none is believed; the same one twice is one", () =>
    withApp(({ browser, url }) =>
      Effect.gen(function* () {
        const [alice, other] = [browser(), browser()]
        yield* send(alice, "POST", "/login")
        yield* send(other, "POST", "/login")
        const [mine, theirs] = [alice, other].map((someone) => `${name}=${someone.cookies.get(name)}`)
        for (const header of [`${mine}; ${theirs}`, `${theirs}; a=b; ${mine}`, `${mine}; ${name}=x`]) {
          const answer = yield* RawHttp.get(url, "/api/count", `Cookie: ${header}`)
          assert.strictEqual(Browser.problemOf(answer).code, "SessionMissing")
        }
        assert.strictEqual((yield* RawHttp.get(url, "/api/count", `Cookie: ${mine}; ${mine}`)).status, 200)
      })
    )
  )

  it.live("S6 twenty parallel requests with a token that is due end up with one cookie, and none is refused", () =>
    withApp(({ browser, advance }) =>
      Effect.gen(function* () {
        const alice = browser()
        const counts = yield* Effect.gen(function* () {
          yield* send(alice, "POST", "/login")
          const old = alice.cookies.get(name) ?? ""
          for (let minutes = 0; minutes < 61; minutes += 20) {
            assert.strictEqual((yield* send(alice, "GET", "/api/count")).status, 200)
            yield* advance("20 minutes")
          }
          const tabs = Array.from({ length: 20 }, browser)
          for (const tab of tabs) tab.cookies.set(name, old)
          const answers = yield* Effect.all(
            tabs.map((tab, index) =>
              send(tab, index % 2 === 0 ? "GET" : "POST", index % 2 === 0 ? "/api/count" : "/add")
            ),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(new Set(answers.map(({ status }) => status)), new Set([200]))
          return { old, tokens: new Set(tabs.map((tab) => tab.cookies.get(name))) }
        })
        assert.strictEqual(counts.tokens.size, 1)
        assert.isFalse(counts.tokens.has(counts.old))
      })
    )
  )

  it.live(
    "S6 a token that is due is renewed by an answer that takes its time, unless a login was answered meanwhile",
    () =>
      Effect.gen(function* () {
        for (const logsIn of [false, true]) {
          yield* withApp(({ advance, browser, gate, there }) =>
            Effect.gen(function* () {
              const [slow, other] = [browser(), browser()]
              yield* send(slow, "POST", "/login")
              for (let minutes = 0; minutes < 60; minutes += 20) {
                yield* send(slow, "GET", "/api/count")
                yield* advance("20 minutes")
              }
              const old = tokenOf(slow)
              other.cookies.set(name, slow.cookies.get(name) ?? "")
              const answering = yield* Effect.forkChild(send(slow, "GET", "/slow"))
              yield* Deferred.await(gate.reached)
              if (logsIn) yield* send(other, "POST", "/login")
              yield* Deferred.succeed(gate.open, undefined)
              const { cookie, text } = yield* Fiber.join(answering)
              assert.strictEqual(text, "alice")
              if (logsIn) assert.deepStrictEqual(cookie, [])
              else assert.notStrictEqual(slow.cookies.get(name), Redacted.value(old))
              assert.strictEqual(cookie.length, logsIn ? 0 : 1)
              const current = logsIn ? other : slow
              assert.strictEqual(yield* (yield* client(tokenOf(current)).on(there)).principal, "alice")
            }).pipe(Effect.scoped)
          )
        }
      })
  )

  it.live("a removal does not undo what a login or a first change brought meanwhile, on whatever instance", () =>
    Effect.gen(function* () {
      for (const path of ["/login", "/add"]) {
        yield* withApp(({ advance, browser, gate }) =>
          Effect.gen(function* () {
            const [slow, other, late] = [browser(), browser(), browser()]
            yield* send(slow, "POST", "/login")
            yield* advance("13 hours")
            for (const tab of [other, late]) tab.cookies.set(name, slow.cookies.get(name) ?? "")
            const answering = yield* Effect.forkChild(send(slow, "GET", "/slow"))
            yield* Deferred.await(gate.reached)
            assert.strictEqual((yield* send(other, "POST", path)).status, 200)
            yield* Deferred.succeed(gate.open, undefined)
            assert.deepInclude(yield* Fiber.join(answering), { text: "null", cookie: [] }, `begun before ${path}`)
            assert.deepInclude(yield* send(late, "GET", "/me"), { text: "null 0", cookie: [] }, `sent before ${path}`)
            assert.strictEqual(yield* body(other, "GET", "/me"), path === "/login" ? "alice 0" : "null 1")
            // What took its place is over as well: now nothing has brought a newer one.
            yield* send(other, "POST", "/logout")
            const [removed] = (yield* send(late, "GET", "/me")).cookie
            assert.include(removed, "Max-Age=0")
          })
        )
      }
    })
  )

  it.live("HttpApi: 401 without a session, the data with one, a login without, and the cookie in OpenAPI", () =>
    withApp(({ browser }) =>
      Effect.gen(function* () {
        const alice = browser()
        const refused = yield* alice.send("GET", "/api/count")
        assert.deepInclude(Browser.problemOf(refused), { status: 401, code: "SessionMissing" })
        assert.deepStrictEqual(refused.headers.getSetCookie(), [])
        assert.strictEqual((yield* send(alice, "POST", "/api/login")).status, 200)
        yield* send(alice, "POST", "/add")
        assert.deepStrictEqual((yield* alice.send("GET", "/api/count")).json, 1)
        const { components } = OpenApi.fromApi(Api)
        assert.deepStrictEqual(components.securitySchemes, {
          cookie: { type: "apiKey", in: "cookie", name: "__Host-holdfast" }
        } as never)
      })
    )
  )

  it.effect("an impossible cookie fails when the layers are built", () =>
    Effect.gen(function* () {
      const wrong = SessionMiddleware.make(Counter, { cookie: { name: "__Host-app", path: "/app" } })
      const sessions = Layer.succeed(Sessions, {} as Sessions["Service"])
      const fields = yield* Effect.all([
        Effect.flip(Effect.scoped(Layer.build(Layer.provide(wrong.layerRequired, sessions)))),
        Effect.flip(Effect.scoped(Layer.build(Layer.provide(wrong.middleware, sessions))))
      ])
      assert.deepStrictEqual(
        fields.map(({ field }) => field),
        ["path", "path"]
      )
    })
  )
})
