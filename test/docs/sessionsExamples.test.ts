import { NodeHttpServer } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import { createServer } from "node:http"
import * as MemoryApp from "../../docs/examples/memory-app.ts"
import * as Shop from "../../docs/examples/sessions.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as Browser from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"

const started = <E>(app: Layer.Layer<never, E, Layer.Success<ReturnType<typeof NodeHttpServer.layer>>>) =>
  Effect.gen(function* () {
    const server = Layer.provideMerge(app, NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
    const { address } = Context.get(yield* Layer.build(server), HttpServer.HttpServer)
    return () => {
      const browser = Browser.make(HttpServer.formatAddress(address))
      const answer = (method: string, path: string, json?: unknown) =>
        Effect.map(browser.send(method, path, { json }), ({ json, status, text }) => [status, json ?? text] as const)
      return { browser, answer }
    }
  })

/** Runs a test against an app, and finds nothing held afterwards. */
const withApp = <E, A, E2>(
  app: Layer.Layer<never, E, Layer.Success<ReturnType<typeof NodeHttpServer.layer>>>,
  test: (client: Effect.Success<ReturnType<typeof started>>) => Effect.Effect<A, E2>
) =>
  Effect.gen(function* () {
    yield* Effect.scoped(Effect.flatMap(started(app), test))
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.provide(Ledger.layer), Effect.provideService(References.MinimumLogLevel, "None"))

const codeOf = (json: unknown) => Schema.decodeUnknownSync(Schema.Struct({ code: Schema.String }))(json).code
const held = Effect.flatMap(Ledger.Ledger, (ledger) => ledger.holdings)
const alice = { username: "alice", password: "wonderland" }
const olga = { username: "olga", password: "helpdesk" }
const apple = { sku: "apple", count: 1 }

describe("docs/examples/memory-app.ts", () => {
  it.live("counts visits, lets members in, and ends a report with the session", () =>
    withApp(MemoryApp.app, (client) =>
      Effect.gen(function* () {
        const { answer } = client()
        assert.deepStrictEqual(yield* answer("GET", "/"), [200, "Visit 1\n"])
        assert.strictEqual((yield* answer("GET", "/report"))[0], 401)
        assert.strictEqual((yield* answer("POST", "/login", { ...alice, password: "?" }))[0], 401)
        assert.deepStrictEqual(yield* answer("POST", "/login", alice), [200, "Hello alice\n"])
        const report = yield* Effect.forkChild(answer("GET", "/report"), { startImmediately: true })
        yield* eventually(held, (all) => all.some(({ kind }) => kind === "handle"))
        assert.deepStrictEqual(yield* answer("POST", "/logout"), [200, "Bye\n"])
        const [status, json] = yield* Fiber.join(report)
        assert.deepStrictEqual([status, codeOf(json)], [401, "SessionRevoked"])
        assert.deepStrictEqual(yield* answer("GET", "/"), [200, "Visit 1\n"])
      })
    )
  )
})

describe("docs/examples/sessions.ts", () => {
  it("the cart of version 1 becomes one of version 2", () => {
    assert.deepStrictEqual(Shop.cartOfNames({ cart: ["apple"] }), { cart: [apple] })
    assert.throws(() => Shop.cartOfNames({ cart: 7 }))
  })

  it.live("a visitor's cart is stored with its first item, told by versions, and goes on after the login", () =>
    withApp(Shop.app, (client) =>
      Effect.gen(function* () {
        const { answer, browser } = client()
        const [status, missing] = yield* answer("GET", "/cart")
        assert.deepStrictEqual([status, codeOf(missing)], [401, "SessionMissing"])
        assert.strictEqual(browser.cookies.size, 0)
        assert.deepStrictEqual(yield* answer("POST", "/cart", apple), [200, "1 in the cart\n"])
        assert.strictEqual(browser.cookies.size, 1)
        assert.deepStrictEqual(yield* answer("GET", "/cart"), [200, { data: { cart: [apple] }, version: 1 }])
        yield* Effect.all([answer("POST", "/cart", apple), answer("POST", "/cart", apple)], { concurrency: 2 })
        const [conflict] = yield* answer("PUT", "/cart", { version: 1, data: { cart: [] } })
        assert.strictEqual(conflict, 409)
        const saved = yield* answer("PUT", "/cart", { version: 3, data: { cart: [apple] } })
        assert.deepStrictEqual(saved, [200, { data: { cart: [apple] }, version: 4 }])
        const [, visitor] = yield* answer("GET", "/whoami")
        assert.strictEqual(codeOf(visitor), "LoginRequired")
        assert.strictEqual((yield* answer("POST", "/login", { ...alice, password: "?" }))[0], 401)
        assert.deepStrictEqual(yield* answer("POST", "/login", alice), [200, "Hello alice\n"])
        assert.deepStrictEqual(yield* answer("GET", "/cart"), [200, { data: { cart: [apple] }, version: 5 }])
        assert.deepStrictEqual(yield* answer("GET", "/whoami"), [200, "alice\n"])
      })
    )
  )

  it.live("who wants to be remembered lives longer, in the store and in the cookie", () =>
    withApp(Shop.app, (client) =>
      Effect.gen(function* () {
        const [brief, long, later] = [client(), client(), client()]
        const days = (header: string | null) =>
          Math.round((Date.parse(/Expires=([^;]+)/i.exec(header ?? "")?.[1] ?? "") - Date.now()) / 86_400_000)
        const login = (one: typeof brief, remember: boolean) =>
          Effect.map(one.browser.send("POST", "/login", { json: { ...alice, remember } }), ({ headers }) =>
            days(headers.get("set-cookie"))
          )
        assert.isAtMost(yield* login(brief, false), 1)
        assert.strictEqual(yield* login(long, true), 30)
        yield* login(later, false)
        const { headers, status } = yield* later.browser.send("POST", "/keep")
        assert.deepStrictEqual([status, days(headers.get("set-cookie"))], [200, 30])
      })
    )
  )

  it.live("devices are listed and ended, and a change of the password ends the others", () =>
    withApp(Shop.app, (client) =>
      Effect.gen(function* () {
        const [laptop, phone, tablet] = [client(), client(), client()]
        for (const { answer } of [laptop, phone, tablet]) yield* answer("POST", "/login", alice)
        const [, json] = yield* laptop.answer("GET", "/devices")
        const Devices = Schema.Array(Schema.Struct({ id: Schema.String, current: Schema.Boolean }))
        const [newest, ...others] = Schema.decodeUnknownSync(Devices)(json)
        assert.deepStrictEqual([newest?.current, others.map(({ current }) => current)], [false, [false, true]])
        assert.strictEqual((yield* laptop.answer("DELETE", `/devices/${newest?.id}`))[0], 204)
        assert.strictEqual((yield* laptop.answer("DELETE", `/devices/${newest?.id}`))[0], 404)
        assert.strictEqual(codeOf((yield* tablet.answer("GET", "/whoami"))[1]), "SessionRevoked")
        assert.deepStrictEqual(yield* laptop.answer("POST", "/confirm", { password: alice.password }), [
          200,
          "Thank you\n"
        ])
        const changed = yield* laptop.answer("PUT", "/password", { password: alice.password })
        assert.deepStrictEqual(changed, [200, "1 other sessions ended\n"])
        assert.strictEqual((yield* phone.answer("GET", "/whoami"))[0], 401)
        assert.strictEqual((yield* laptop.answer("GET", "/whoami"))[0], 200)
      })
    )
  )

  it.live("a rotation kills the old token, and the browser has the new one", () =>
    withApp(Shop.app, (client) =>
      Effect.gen(function* () {
        const [one, stolen] = [client(), client()]
        yield* one.answer("POST", "/login", alice)
        for (const [name, value] of one.browser.cookies) stolen.browser.cookies.set(name, value)
        assert.strictEqual((yield* stolen.answer("GET", "/whoami"))[0], 200)
        assert.strictEqual((yield* one.answer("POST", "/upgrade"))[0], 200)
        assert.strictEqual((yield* stolen.answer("GET", "/whoami"))[0], 401)
        assert.strictEqual((yield* one.answer("GET", "/whoami"))[0], 200)
      })
    )
  )

  it.live("an operator acts on somebody's behalf in a marked session, and proves nobody's identity", () =>
    withApp(Shop.app, (client) =>
      Effect.gen(function* () {
        const [hers, support] = [client(), client()]
        yield* hers.answer("POST", "/login", alice)
        assert.strictEqual((yield* hers.answer("POST", "/act-as/olga"))[0], 403)
        yield* support.answer("POST", "/login", olga)
        assert.deepStrictEqual(yield* support.answer("POST", "/act-as/alice"), [200, "You act for alice\n"])
        assert.deepStrictEqual(yield* support.answer("GET", "/whoami"), [200, "olga for alice\n"])
        const [, refused] = yield* support.answer("PUT", "/password", { password: "mine" })
        assert.strictEqual(codeOf(refused), "ReauthenticationRequired")
        assert.deepStrictEqual(yield* hers.answer("GET", "/whoami"), [200, "alice\n"])
      })
    )
  )

  it.live("an operator sees the visitors and ends their sessions", () =>
    withApp(Shop.app, (client) =>
      Effect.gen(function* () {
        const [visitor, support] = [client(), client()]
        yield* visitor.answer("POST", "/cart", apple)
        yield* support.answer("POST", "/login", olga)
        const [, json] = yield* support.answer("GET", "/visitors")
        const Carts = Schema.Array(Schema.Struct({ data: Schema.Unknown }))
        assert.deepStrictEqual(
          Schema.decodeUnknownSync(Carts)(json).map(({ data }) => data),
          [{ cart: [apple] }]
        )
        assert.deepStrictEqual(yield* support.answer("DELETE", "/visitors"), [200, "1 sessions ended\n"])
        assert.strictEqual(codeOf((yield* visitor.answer("GET", "/cart"))[1]), "SessionRevoked")
      })
    )
  )

  it.live("work that goes on after the response ends with the session", () =>
    withApp(Shop.app, (client) =>
      Effect.gen(function* () {
        const { answer } = client()
        yield* answer("POST", "/login", alice)
        assert.strictEqual((yield* answer("POST", "/watch"))[0], 200)
        yield* eventually(held, (all) => all.some(({ kind }) => kind === "session"))
        yield* answer("POST", "/logout")
        assert.isFalse((yield* held).some(({ kind }) => kind === "session"))
      })
    )
  )
})
