import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { createServer } from "node:http"
import * as Connection from "../../src/connection/Connection.ts"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as SessionMiddleware from "../../src/http/SessionMiddleware.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as PgSessions from "../../src/postgres/PgSessions.ts"
import * as Query from "../../src/query/Query.ts"
import type { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as Session from "../../src/session/Session.ts"
import { layer as sessionsLayer, Sessions } from "../../src/session/Sessions.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as Browser from "../support/browser.ts"
import { busyBackends, eventually } from "../support/conditions.ts"
import { freshDatabase, urlOf } from "../support/postgres.ts"

class AppSession extends Session.Service<AppSession>()("test/WorkSession", { data: Schema.Int, initial: 0 }) {}
const Http = SessionMiddleware.make(AppSession)
const Fresh = Http.Fresh({ within: "5 minutes" })

class Api extends HttpApi.make("api").add(
  HttpApiGroup.make("work").add(
    HttpApiEndpoint.get("sleep", "/api/sleep", { success: Schema.String }).middleware(Http.Required),
    HttpApiEndpoint.get("name", "/api/name", { success: Schema.String }).middleware(Http.LoggedIn),
    HttpApiEndpoint.get("fresh", "/api/fresh", { success: Schema.String }).middleware(Fresh.Fresh)
  )
) {}

const sleep = "select pg_sleep(8)"
const slept = Effect.as(
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(sleep)),
  HttpServerResponse.text("slept")
)
const query = Effect.flatMap(Query.Query, ({ rows }) => Stream.runDrain(rows)).pipe(
  Effect.as(HttpServerResponse.text("slept")),
  Effect.provide(Query.layer(sleep))
)
const handle = <A, E, R>(use: (session: Session.Session<number>) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(AppSession, use)
const answered = <A, E, R>(work: Effect.Effect<A, E, R>) =>
  Effect.map(work, (value) => HttpServerResponse.text(String(value)))

type Work = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  unknown,
  AppSession | SqlClient.SqlClient | ConnectionPool.ConnectionPool | QueryDriver | Scope.Scope
>

/** Kinds of routes that take long, and none of which has a line because of sessions. */
const kinds = {
  "a query, the session untouched": query,
  "a lease, the session untouched": slept.pipe(Effect.provide(Connection.layer)),
  "a lease in a transaction": Effect.flatMap(SqlClient.SqlClient, (sql) => sql.withTransaction(slept)).pipe(
    Effect.provide(Connection.layer)
  ),
  "the app's own client, the session read": Effect.andThen(
    handle(({ data }) => data),
    slept
  ),
  "a stream of a query": Effect.gen(function* () {
    const { rows } = yield* Query.make({ sql: sleep, params: [] })
    return HttpServerResponse.stream(
      Stream.concat(Stream.make("begun"), Stream.as(rows, "row")).pipe(Stream.encodeText)
    )
  }),
  "a stream that says nothing": handle(({ data }) => data).pipe(
    Effect.as(HttpServerResponse.stream(Stream.encodeText(Stream.concat(Stream.make("begun"), Stream.never))))
  )
} as const

const routes = (held: Deferred.Deferred<void>) => {
  const route = HttpRouter.route
  return Layer.mergeAll(
    HttpRouter.addAll(Object.values(kinds).map((work: Work, index) => route("GET", `/kinds/${index}`, work))),
    HttpRouter.addAll([
      route("POST", "/visit", answered(handle(({ modify }) => modify((visits) => visits + 1)))),
      route("POST", "/login", answered(handle(({ authenticate }) => authenticate("alice")))),
      route("POST", "/login-as-bob", answered(handle(({ authenticate }) => authenticate("bob")))),
      route("POST", "/logout", answered(handle(({ logout }) => Effect.as(logout, "bye")))),
      route(
        "POST",
        "/logout-and-sleep",
        Effect.andThen(
          handle(({ logout }) => logout),
          answered(
            Effect.as(
              Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe("select pg_sleep(0.1)")),
              "slept"
            )
          )
        )
      ),
      route(
        "POST",
        "/hold",
        Effect.andThen(
          handle(({ data }) => data),
          answered(
            Effect.uninterruptible(Effect.as(Effect.andThen(Deferred.await(held), Effect.void), "held to the end"))
          )
        )
      ),
      route("GET", "/strict", answered(handle(({ record }) => Effect.map(record, ({ id }) => id)))),
      route("GET", "/large", answered(handle(({ replace }) => replace(1, { version: 7 })))),
      route(
        "GET",
        "/socket",
        Effect.gen(function* () {
          yield* handle(({ data }) => data)
          const { upgrade } = yield* HttpServerRequest.HttpServerRequest
          const socket = yield* upgrade
          const { pull } = yield* socket.reader
          const { write } = yield* socket.writer
          yield* write("ready")
          yield* Effect.forever(pull)
          return HttpServerResponse.empty()
        }).pipe(Effect.scoped)
      )
    ]),
    HttpRouter.addAll(
      Effect.map(Sessions, ({ revokeAll }) => [
        route(
          "POST",
          "/revoke-all",
          Effect.andThen(
            handle(({ data }) => data),
            answered(Effect.as(revokeAll("alice"), "all"))
          )
        )
      ])
    ),
    HttpRouter.addAll([route("GET", "/required", HttpServerResponse.text("in"))]).pipe(Layer.provide(Http.required)),
    HttpRouter.addAll([
      route(
        "GET",
        "/name",
        Effect.map(SessionMiddleware.Principal, (name) => HttpServerResponse.text(name))
      )
    ]).pipe(Layer.provide(Http.loggedIn)),
    HttpRouter.addAll([route("GET", "/fresh", HttpServerResponse.text("in"))]).pipe(
      Layer.provide(Http.fresh({ within: "5 minutes" }))
    )
  )
}

const handlers = HttpApiBuilder.group(Api, "work", (handlers) =>
  handlers.handleAll({
    sleep: () => Effect.as(Effect.orDie(Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(sleep))), "slept"),
    name: () => SessionMiddleware.Principal,
    fresh: () => SessionMiddleware.Principal
  })
)

interface App {
  readonly browser: () => Browser.Browser
  readonly database: string
  /** Another instance over the same sessions. */
  readonly elsewhere: Sessions["Service"]
  readonly held: Deferred.Deferred<void>
}

const withApp = <A, E>(test: (app: App) => Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const { name, url } = yield* freshDatabase
    const held = yield* Deferred.make<void>()
    const api = HttpApiBuilder.layer(Api).pipe(Layer.provide(handlers), Layer.provide(Fresh.layer))
    const app = HttpRouter.serve(
      Layer.mergeAll(routes(held), api).pipe(
        Layer.provide(Layer.provideMerge(Http.layer, PgSessions.layer({ url, origin: "http://127.0.0.1" })))
      ),
      { disableListenLog: true, disableLogger: true }
    ).pipe(
      Layer.provide(PgQueryDriver.layer),
      Layer.provide(ConnectionPool.layer().pipe(Layer.provide(PgConnectionSource.layer({ url })))),
      Layer.provide(PgClient.layer({ url })),
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
    )
    yield* Effect.scoped(
      Effect.gen(function* () {
        const { address } = Context.get(yield* Layer.build(app), HttpServer.HttpServer)
        const formatted = HttpServer.formatAddress(address)
        const other = yield* Layer.build(
          Layer.fresh(sessionsLayer().pipe(Layer.provide(PgSessionStore.layer({ url }))))
        )
        const elsewhere = Context.get(other, Sessions)
        yield* test({ browser: () => Browser.make(formatted), database: name, elsewhere, held })
      })
    )
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.scoped, Effect.provide(Ledger.layer), Effect.provideService(References.MinimumLogLevel, "None"))

const copyOf = (browser: Browser.Browser) => {
  const copy = Browser.make(browser.url)
  for (const [name, value] of browser.cookies) copy.cookies.set(name, value)
  return copy
}
const send = (browser: Browser.Browser, method: string, path: string) =>
  Effect.map(browser.send(method, path), ({ status, text }) => [status, text] as const)
const codeOf = (browser: Browser.Browser, method: string, path: string) =>
  Effect.map(browser.send(method, path), ({ json, status }) => [status, Schema.is(Coded)(json) ? json.code : json])
const Coded = Schema.Struct({ code: Schema.String })
const runs = (database: string, count = 1) =>
  eventually(
    busyBackends(database),
    (busy) => busy.filter(({ query }) => String(query).includes("pg_sleep")).length === count
  )

/** Begins to read an answer: its first bytes, and then how it ended. */
const reading = (browser: Browser.Browser, path: string) =>
  Effect.promise(async () => {
    const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
    const { body } = await fetch(`${browser.url}${path}`, { headers: { cookie } })
    const reader = body?.getReader()
    await reader?.read()
    return Effect.promise(async () => {
      try {
        while ((await reader?.read())?.done === false);
        return "ended"
      } catch {
        return "cut"
      }
    })
  })

describe("S16 work that a request does for its session ends with the session", () => {
  Object.keys(kinds).forEach((kind, index) => {
    const path = `/kinds/${index}`
    const streams = kind.startsWith("a stream")
    for (const [where, end] of [
      ["by another request", (_: App, browser: Browser.Browser) => send(copyOf(browser), "POST", "/logout")],
      ["by another instance", ({ elsewhere }: App) => elsewhere.revokeAll("alice")]
    ] as const) {
      it.live(`${kind}, ended ${where}`, () =>
        withApp((app) =>
          Effect.gen(function* () {
            const alice = app.browser()
            yield* send(alice, "POST", "/login")
            const begun = streams
              ? yield* reading(alice, path)
              : Effect.flatten(Effect.map(Effect.forkChild(codeOf(alice, "GET", path)), Fiber.join))
            const answer = yield* Effect.forkChild(begun, { startImmediately: true })
            if (kind !== "a stream that says nothing") yield* runs(app.database)
            yield* end(app, alice)
            // The end waited in its own process; another hears of it.
            const gone = where === "by another request" ? "1 second" : "2 seconds"
            yield* eventually(busyBackends(app.database), (busy) => busy.length === 0, gone)
            const answered = yield* Fiber.join(answer)
            if (streams) assert.oneOf(String(answered), ["ended", "cut"])
            else assert.deepStrictEqual(answered, [401, "SessionRevoked"])
          })
        )
      )
    }
  })

  it.live("a logout returns when the statements are off the server, and their requests are answered", () =>
    withApp(({ browser, database }) =>
      Effect.gen(function* () {
        for (let round = 0; round < 5; round++) {
          const alice = browser()
          yield* send(alice, "POST", "/login")
          const paths = [
            ...Object.keys(kinds)
              .slice(0, 4)
              .map((_, index) => `/kinds/${index}`),
            "/api/sleep"
          ]
          const work = yield* Effect.forEach(paths, (path) => Effect.forkChild(codeOf(alice, "GET", path)))
          yield* runs(database, paths.length)
          assert.deepStrictEqual(yield* send(copyOf(alice), "POST", "/logout"), [200, "bye"])
          assert.deepStrictEqual(yield* busyBackends(database), [])
          for (const one of work) assert.deepStrictEqual(yield* Fiber.join(one), [401, "SessionRevoked"])
        }
      })
    )
  )

  it.live(
    "a request that ends its session itself goes on, however it does it, also when others do at the same time",
    () =>
      withApp(({ browser, database }) =>
        Effect.gen(function* () {
          const login = Effect.gen(function* () {
            const alice = browser()
            yield* send(alice, "POST", "/login")
            return alice
          })
          assert.deepStrictEqual(yield* send(yield* login, "POST", "/logout"), [200, "bye"])
          assert.deepStrictEqual(yield* send(yield* login, "POST", "/logout-and-sleep"), [200, "slept"])
          assert.deepStrictEqual(yield* send(yield* login, "POST", "/revoke-all"), [200, "all"])
          const bob = yield* login
          assert.strictEqual((yield* send(bob, "POST", "/login-as-bob"))[0], 200)
          assert.deepStrictEqual(yield* send(bob, "GET", "/name"), [200, "bob"])
          for (let round = 0; round < 20; round++) {
            const alice = yield* login
            const answers = yield* Effect.all(
              Array.from({ length: 4 }, () => send(copyOf(alice), "POST", "/logout")),
              { concurrency: "unbounded" }
            )
            for (const answer of answers) assert.deepStrictEqual(answer, [200, "bye"])
          }
          // Tied to the session that it logged in to, as any other.
          const again = yield* login
          yield* send(again, "POST", "/login-as-bob")
          const work = yield* Effect.forkChild(codeOf(again, "GET", "/kinds/0"))
          yield* runs(database)
          yield* send(copyOf(again), "POST", "/logout")
          assert.deepStrictEqual(yield* Fiber.join(work), [401, "SessionRevoked"])
        })
      )
  )

  it.live("the end waits for a request that cannot be interrupted yet", () =>
    withApp(({ browser, held }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        const holding = yield* Effect.forkChild(send(alice, "POST", "/hold"), { startImmediately: true })
        // Only a request that holds the session is waited for.
        yield* eventually(
          Effect.flatMap(Ledger.Ledger, (ledger) => ledger.held),
          (tree) => JSON.stringify(tree).includes('"handle"')
        )
        const logout = yield* Effect.forkChild(send(copyOf(alice), "POST", "/logout"), { startImmediately: true })
        yield* eventually(codeOf(alice, "GET", "/required"), ([status]) => status === 401)
        assert.isUndefined(logout.pollUnsafe())
        yield* Deferred.succeed(held, undefined)
        assert.strictEqual((yield* Fiber.join(holding))[0], 401)
        assert.deepStrictEqual(yield* Fiber.join(logout), [200, "bye"])
      })
    )
  )

  it.live("the end does not wait for ever for a request that can never be interrupted", () =>
    withApp(({ browser, held }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        const holding = yield* Effect.forkChild(send(alice, "POST", "/hold"), { startImmediately: true })
        yield* eventually(
          Effect.flatMap(Ledger.Ledger, (ledger) => ledger.held),
          (tree) => JSON.stringify(tree).includes('"handle"')
        )
        assert.deepStrictEqual(yield* send(copyOf(alice), "POST", "/logout"), [200, "bye"])
        assert.isUndefined(holding.pollUnsafe())
        yield* Deferred.succeed(held, undefined)
        yield* Fiber.join(holding)
      })
    )
  )

  it.live("a WebSocket is closed", () =>
    withApp(({ browser }) =>
      Effect.gen(function* () {
        const alice = browser()
        yield* send(alice, "POST", "/login")
        const cookie = Array.from(alice.cookies, ([name, value]) => `${name}=${value}`).join("; ")
        const Constructor = WebSocket as unknown as new (url: string, init: object) => WebSocket
        const socket = new Constructor(`${alice.url.replace("http", "ws")}/socket`, { headers: { cookie } })
        const story: Array<string> = []
        socket.addEventListener("message", () => story.push("ready"))
        socket.addEventListener("close", () => story.push("closed"))
        yield* eventually(
          Effect.sync(() => story.length),
          (length) => length === 1
        )
        yield* send(copyOf(alice), "POST", "/logout")
        yield* eventually(
          Effect.sync(() => story.slice()),
          (story) => story.includes("closed")
        )
      })
    )
  )
})

describe("gates", () => {
  it.live(
    "a visitor gets in where a session is required, and 401 LoginRequired where somebody has to be logged in",
    () =>
      withApp(({ browser }) =>
        Effect.gen(function* () {
          const someone = browser()
          for (const path of ["/required", "/name", "/fresh", "/api/name", "/api/fresh", "/api/sleep"]) {
            assert.deepStrictEqual(yield* codeOf(someone, "GET", path), [401, "SessionMissing"], path)
          }
          yield* send(someone, "POST", "/visit")
          assert.deepStrictEqual(yield* send(someone, "GET", "/required"), [200, "in"])
          for (const path of ["/name", "/fresh", "/api/name", "/api/fresh"]) {
            assert.deepStrictEqual(yield* codeOf(someone, "GET", path), [401, "LoginRequired"], path)
          }
          yield* send(someone, "POST", "/login")
          assert.deepStrictEqual(yield* send(someone, "GET", "/name"), [200, "alice"])
          assert.deepStrictEqual(yield* send(someone, "GET", "/api/name"), [200, `"alice"`])
          assert.deepStrictEqual(yield* send(someone, "GET", "/fresh"), [200, "in"])
          assert.deepStrictEqual(yield* send(someone, "GET", "/api/fresh"), [200, `"alice"`])
        })
      )
  )

  it.live(
    "a login that is too long ago by the store's clock gets 401 ReauthenticationRequired, until the next one",
    () =>
      withApp(({ browser, database }) =>
        Effect.gen(function* () {
          const alice = browser()
          yield* send(alice, "POST", "/login")
          const connection = yield* PgConnection.make({ url: urlOf(database) })
          yield* connection.query("update holdfast.sessions set created_at = created_at - interval '299 seconds'")
          assert.deepStrictEqual(yield* send(alice, "GET", "/fresh"), [200, "in"])
          yield* connection.query("update holdfast.sessions set created_at = created_at - interval '2 seconds'")
          for (const path of ["/fresh", "/api/fresh"]) {
            const { json, status } = yield* alice.send("GET", path)
            assert.strictEqual(status, 401)
            assert.deepInclude(json, { code: "ReauthenticationRequired", withinSeconds: 300 })
          }
          assert.deepStrictEqual(yield* send(alice, "GET", "/name"), [200, "alice"])
          yield* send(alice, "POST", "/login")
          assert.deepStrictEqual(yield* send(alice, "GET", "/fresh"), [200, "in"])
          // An operator who acts on somebody's behalf has not proved to be them.
          yield* connection.query("update holdfast.sessions set actor = 'olga'")
          assert.deepStrictEqual(yield* codeOf(alice, "GET", "/fresh"), [401, "ReauthenticationRequired"])
        }).pipe(Effect.scoped)
      )
  )

  it.live("a session error that leaves a route is its problem, never a 500", () =>
    withApp(({ browser }) =>
      Effect.gen(function* () {
        const someone = browser()
        assert.deepStrictEqual(yield* codeOf(someone, "GET", "/strict"), [401, "SessionMissing"])
        yield* send(someone, "POST", "/visit")
        assert.deepStrictEqual(yield* codeOf(someone, "GET", "/large"), [409, "SessionConflict"])
        const { headers } = yield* someone.send("GET", "/large")
        assert.include(headers.get("content-type") ?? "", "application/problem+json")
      })
    )
  )
})
