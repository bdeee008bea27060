import { NodeHttpClient, NodeHttpServer, NodeSocket } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcClient from "effect/rpc/RpcClient"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { createServer, type IncomingMessage, request } from "node:http"
import * as SameOrigin from "../../src/http/SameOrigin.ts"
import * as SessionCookie from "../../src/http/SessionCookie.ts"
import * as SessionRpc from "../../src/http/SessionRpc.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Lifetime from "../../src/lifetime/Lifetime.ts"
import * as Query from "../../src/query/Query.ts"
import * as Session from "../../src/session/Session.ts"
import { SessionError, SessionsUnavailable } from "../../src/session/SessionError.ts"
import type { CreatedSession } from "../../src/session/Sessions.ts"
import * as Sessions from "../../src/session/Sessions.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionToken from "../../src/session/SessionToken.ts"
import * as FaultProxy from "../../src/testing/FaultProxy.ts"
import * as LedgerRecorder from "../../src/testing/LedgerRecorder.ts"
import * as ScriptedQueryDriver from "../../src/testing/ScriptedQueryDriver.ts"
import { outcome } from "../session/sessionHandleLaws.ts"
import { unprunedStore } from "../support/sessions.ts"
import * as SkewedClock from "../../src/testing/SkewedClock.ts"
import { eventually } from "../support/conditions.ts"

class AppSession extends Session.Service<AppSession>()("test/RpcSession", {
  data: Schema.Struct({ count: Schema.Int }),
  initial: { count: 0 }
}) {}

const AppRpc = SessionRpc.make(AppSession)

class Rpcs extends RpcGroup.make(
  Rpc.make("Add", { success: Schema.Int }).middleware(AppRpc.Required),
  Rpc.make("Hang", { success: Schema.Void }).middleware(AppRpc.Required),
  Rpc.make("Later", { success: Schema.Void }).middleware(AppRpc.Required),
  Rpc.make("Report", { success: Schema.Int }).middleware(AppRpc.Required),
  Rpc.make("Ticks", { success: Schema.Int, stream: true }).middleware(AppRpc.Required),
  Rpc.make("Finish", { success: Schema.String }).middleware(AppRpc.Required),
  Rpc.make("Flood", { success: Schema.String, stream: true }).middleware(AppRpc.Required),
  Rpc.make("LateLogin", { success: Schema.String, stream: true }).middleware(AppRpc.Required),
  Rpc.make("Login", { success: Schema.String }).middleware(AppRpc.Required),
  Rpc.make("Logout", { success: Schema.String }).middleware(AppRpc.Required),
  Rpc.make("Public", { success: Schema.String })
) {}

/** Notes when work begins, and when it has released what it held, which takes a few turns. */
const noted = (story: Array<string>, name: string) =>
  Effect.acquireRelease(
    Effect.sync(() => story.push(`${name} runs`)),
    () =>
      Effect.andThen(
        Effect.repeat(Effect.yieldNow, { times: 20 }),
        Effect.sync(() => story.push(`${name} released`))
      )
  )

const handlers = (story: Array<string>) =>
  Rpcs.toLayer({
    Add: () =>
      Effect.orDie(
        Effect.gen(function* () {
          const { lifetime, modify } = yield* AppSession
          assert.strictEqual(yield* Effect.orDie(Lifetime.current), yield* lifetime)
          return (yield* modify(({ count }) => ({ count: count + 1 }))).count
        })
      ),
    Hang: () =>
      Effect.andThen(
        noted(story, "Hang"),
        Effect.onInterrupt(Effect.never, () => Effect.sync(() => story.push("Hang interrupted")))
      ),
    Later: () => {
      story.push("Later runs")
      return Deferred.make<void>()
    },
    Report: () =>
      Effect.gen(function* () {
        const { rows } = yield* Query.Query
        return (yield* Stream.runCollect(rows)).length
      }).pipe(Effect.provide(Query.layer("hang")), Effect.orDie),
    Ticks: () => Stream.unwrap(Effect.as(noted(story, "Ticks"), Stream.concat(Stream.make(1, 2), Stream.never))),
    Finish: () =>
      Rpc.uninterruptible(
        Effect.gen(function* () {
          story.push("Finish runs")
          yield* Effect.orDie(until(story, "go on"))
          story.push("Finish is done")
          return "done"
        })
      ),
    Flood: () => Stream.forever(Stream.make("x".repeat(65_536))),
    LateLogin: () =>
      Stream.concat(
        Stream.make("first"),
        Stream.fromEffect(
          Effect.gen(function* () {
            const { authenticate } = yield* AppSession
            yield* Effect.orDie(until(story, "go on"))
            return yield* outcome(authenticate("alice"))
          })
        )
      ),
    Login: () => Effect.flatMap(AppSession, ({ authenticate }) => outcome(authenticate("alice"))),
    Logout: () => Effect.flatMap(AppSession, ({ logout }) => outcome(logout)),
    Public: () => Effect.succeed("hello")
  })

interface App {
  readonly sessions: Sessions.Sessions["Service"]
  readonly store: SessionStore["Service"]
  /** Lets the time of day go on. */
  readonly forward: (by: Duration.Input) => Effect.Effect<void>
  /** Whether the store answers. */
  readonly setReachable: (is: boolean) => void
  readonly log: ScriptedQueryDriver.Log
  readonly story: Array<string>
  readonly port: number
  readonly login: (policy?: Session.Policy) => Effect.Effect<CreatedSession>
}

const origin = "https://example.org"

const unavailable = Effect.fail(
  new SessionError({ reason: new SessionsUnavailable({ cause: new Error("The cable is out") }) })
)

/** A real server with the same rpcs over each transport. Fails if it leaves anything held. */
const withApp = <A, E>(test: (app: App) => Effect.Effect<A, E, Scope.Scope>) =>
  SkewedClock.settable(({ forward }) => serve(forward, test)).pipe(
    Effect.provide(Ledger.layer),
    Effect.provideService(References.MinimumLogLevel, "None")
  )

const serve = <A, E>(forward: App["forward"], test: (app: App) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.gen(function* () {
    const story: Array<string> = []
    const { driver, log } = ScriptedQueryDriver.make({
      execute: (_, sink, execution) =>
        ScriptedQueryDriver.answer({ turns: Number.POSITIVE_INFINITY, cancelTurns: 20 }, sink, execution)
    })
    const store = Context.get(yield* Layer.build(Layer.fresh(unprunedStore)), SessionStore)
    let isReachable = true
    const connected = {
      ...store,
      load: (token) => (isReachable ? store.load(token) : unavailable)
    } satisfies SessionStore["Service"]
    const served = (path: "/http" | "/socket", serialization: Layer.Layer<RpcSerialization.RpcSerialization>) =>
      RpcServer.layerHttp({ group: Rpcs, path, protocol: path === "/http" ? "http" : "websocket" }).pipe(
        Layer.provide(serialization)
      )
    const json = RpcServer.layer(Rpcs).pipe(
      Layer.provide(RpcServer.layerProtocolHttp({ path: "/json" })),
      Layer.provide(RpcSerialization.layerJson)
    )
    const routes = Layer.mergeAll(
      served("/http", RpcSerialization.layerNdjson),
      // Under a prefix, where a route is given a modified request.
      served("/socket", RpcSerialization.layerNdjson).pipe(
        Layer.provide(
          Layer.effect(
            HttpRouter.HttpRouter,
            Effect.map(HttpRouter.HttpRouter, (router) => router.prefixed("/app"))
          )
        )
      ),
      json
    ).pipe(
      Layer.provide([handlers(story), AppRpc.layer, SameOrigin.layer(origin)]),
      Layer.provide(SessionCookie.layerOrigin(new URL("http://127.0.0.1")))
    )
    const layer = HttpRouter.serve(routes as Layer.Layer<never, never, never>, { disableListenLog: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
      Layer.provideMerge(Sessions.layer({ pollInterval: "20 millis" })),
      Layer.provideMerge(Layer.succeed(SessionStore, connected)),
      Layer.provide(ScriptedQueryDriver.layer(driver))
    )
    yield* Effect.gen(function* () {
      const context = yield* Layer.build(layer as Layer.Layer<HttpServer.HttpServer | Sessions.Sessions | SessionStore>)
      const { address } = Context.get(context, HttpServer.HttpServer)
      yield* Effect.scoped(
        test({
          sessions: Context.get(context, Sessions.Sessions),
          store,
          forward,
          setReachable: (is) => {
            isReachable = is
          },
          log,
          story,
          port: Number(new URL(HttpServer.formatAddress(address)).port),
          login: (policy) => Effect.provide(Effect.orDie(AppSession.create({ principal: "alice", policy })), context)
        })
      )
      yield* eventually(Effect.exit(LedgerRecorder.assertEmpty()), Exit.isSuccess)
    }).pipe(Effect.scoped)
    yield* LedgerRecorder.assertEmpty()
  }).pipe(Effect.scoped)

const name = "holdfast-dev"
const cookieOf = (token: SessionToken.SessionToken | undefined) =>
  token === undefined ? {} : { cookie: `${name}=${Redacted.value(token)}` }

const transports = ["http, ndjson", "http, json", "websocket"] as const
type Transport = (typeof transports)[number]

/** A client with the cookie of a session, and what it was told to set. */
const connect = (transport: Transport, port: number, token?: SessionToken.SessionToken) =>
  Effect.gen(function* () {
    const set: Array<string> = []
    const http = (path: string, serialization: Layer.Layer<RpcSerialization.RpcSerialization>) =>
      RpcClient.layerProtocolHttp({
        url: `http://127.0.0.1:${port}${path}`,
        transformClient: (client) =>
          client.pipe(
            HttpClient.mapRequest(HttpClientRequest.setHeaders(cookieOf(token))),
            HttpClient.tap(({ headers }) => Effect.sync(() => set.push(headers["set-cookie"] ?? "")))
          )
      }).pipe(Layer.provide([NodeHttpClient.layerUndici, serialization]))
    const protocol = {
      "http, ndjson": http("/http", RpcSerialization.layerNdjson),
      "http, json": http("/json", RpcSerialization.layerJson),
      websocket: RpcClient.layerProtocolSocket().pipe(
        Layer.provide([
          NodeSocket.layerWebSocket(`ws://127.0.0.1:${port}/app/socket`, { headers: cookieOf(token) }),
          RpcSerialization.layerNdjson
        ])
      )
    }[transport]
    const client = yield* RpcClient.make(Rpcs).pipe(Effect.provide(yield* Layer.build(protocol)))
    return Object.assign(client, { set })
  })

/** A bare WebSocket, as a page opens it. */
const open = (port: number, headers: Record<string, string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const Constructor = WebSocket as unknown as new (url: string, init: object) => WebSocket
      const socket = new Constructor(`ws://127.0.0.1:${port}/app/socket`, { headers })
      const story: Array<string> = []
      socket.addEventListener("open", () => story.push("open"))
      socket.addEventListener("message", ({ data }) => {
        story.push(...String(data).trim().split("\n"))
      })
      socket.addEventListener("error", () => story.push("error"))
      socket.addEventListener("close", ({ code, reason }) => story.push(`close ${code} ${reason}`))
      const call = (tag: string, id: string) =>
        Effect.sync(() => socket.send(`${JSON.stringify({ _tag: "Request", id, tag, payload: null, headers: [] })}\n`))
      return { socket, story, call }
    }),
    ({ socket }) => Effect.sync(() => socket.close())
  )

/** The tag of what a call failed with. */
const failure = <A, E extends { readonly _tag: string }, R>(call: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(call), ({ _tag }) => _tag)
const until = (story: ReadonlyArray<string>, ...events: ReadonlyArray<string>) =>
  eventually(
    Effect.sync(() => story.slice()),
    (known) => events.every((event) => known.some((line) => line.includes(event)))
  )

for (const transport of transports) {
  describe(`SessionRpc over ${transport}`, () => {
    it.live("a call has the session of the cookie, and its lifetime", () =>
      withApp(({ login, port, store }) =>
        Effect.gen(function* () {
          const { token } = yield* login()
          const alice = yield* connect(transport, port, token)
          assert.strictEqual(yield* alice.Add(), 1)
          assert.strictEqual(yield* alice.Add(), 2)
          assert.strictEqual(yield* alice.Public(), "hello")
          const { data } = yield* store.load(SessionToken.hash(token))
          assert.deepStrictEqual(data, { count: 2 })
        })
      )
    )

    it.live("each call counts as activity, a stream that runs does not", () =>
      withApp(({ forward, login, port, story }) =>
        Effect.gen(function* () {
          const { token } = yield* login({ idleTimeout: "30 minutes" })
          const alice = yield* connect(transport, port, token)
          const streaming = yield* Effect.forkScoped(failure(Stream.runDrain(alice.Ticks())))
          yield* until(story, "Ticks runs")
          for (let minutes = 0; minutes < 60; minutes += 20) {
            yield* forward("20 minutes")
            yield* alice.Add()
          }
          assert.strictEqual(streaming.pollUnsafe(), undefined, "the calls kept the session")
          yield* forward("40 minutes")
          assert.strictEqual(yield* Fiber.join(streaming), "SessionExpired")
        })
      )
    )

    it.live("a call without a session fails and says why, and rpcs that need none go on", () =>
      withApp(({ login, port, sessions }) =>
        Effect.gen(function* () {
          const visitor = yield* connect(transport, port)
          assert.strictEqual(yield* failure(visitor.Add()), "SessionMissing")
          assert.strictEqual(yield* failure(Stream.runDrain(visitor.Ticks())), "SessionMissing")
          const unknown = yield* connect(transport, port, SessionToken.make())
          assert.strictEqual(yield* failure(unknown.Add()), "SessionMissing")
          const { record, token } = yield* login()
          yield* sessions.end(record.id)
          const stale = yield* connect(transport, port, token)
          assert.strictEqual(yield* failure(stale.Add()), "SessionRevoked")
          for (const client of [visitor, unknown, stale]) assert.strictEqual(yield* client.Public(), "hello")
        })
      )
    )

    it.live(
      "S9 the end of a session interrupts a handler and a stream, and waits until they released what they held",
      () =>
        withApp(({ login, port, sessions, story }) =>
          Effect.gen(function* () {
            const { record, token } = yield* login()
            const alice = yield* connect(transport, port, token)
            const bob = yield* login()
            const other = yield* connect(transport, port, bob.token)
            const goesOn = yield* Effect.forkScoped(other.Hang())
            yield* until(story, "Hang runs")
            const hanging = yield* Effect.forkScoped(failure(alice.Hang()))
            const streaming = yield* Effect.forkScoped(failure(Stream.runDrain(alice.Ticks())))
            yield* until(story, "Ticks runs")
            yield* eventually(
              Effect.sync(() => story.length),
              (length) => length === 3
            )
            assert.isTrue(yield* sessions.end(record.id))
            story.push("ended")
            const end = story.slice(3)
            assert.deepStrictEqual(
              end.filter((event) => event !== "Ticks released"),
              ["Hang interrupted", "Hang released", "ended"]
            )
            assert.include(end.slice(0, -1), "Ticks released")
            assert.strictEqual(yield* Fiber.join(hanging), "SessionRevoked")
            assert.strictEqual(yield* Fiber.join(streaming), "SessionRevoked")
            // A client over WebSocket connects again first.
            yield* eventually(failure(alice.Add()), (tag) => tag === "SessionRevoked")
            assert.strictEqual(goesOn.pollUnsafe(), undefined, "nobody else's work is touched")
            yield* Fiber.interrupt(goesOn)
            yield* eventually(
              Effect.sync(() => story.filter((line) => line === "Hang released").length),
              (released) => released === 2
            )
          })
        )
    )

    it.live("a session revoked by another instance, and one that expires, end their calls", () =>
      withApp(({ forward, login, port, store, story }) =>
        Effect.gen(function* () {
          const revoked = yield* login()
          const alice = yield* connect(transport, port, revoked.token)
          const hanging = yield* Effect.forkScoped(failure(alice.Hang()))
          yield* until(story, "Hang runs")
          yield* store.revoke(revoked.record.id)
          assert.strictEqual(yield* Fiber.join(hanging), "SessionRevoked")
          story.length = 0
          const short = yield* login()
          const late = yield* connect(transport, port, short.token)
          const streaming = yield* Effect.forkScoped(failure(Stream.runDrain(late.Ticks())))
          yield* until(story, "Ticks runs")
          yield* forward("13 hours")
          assert.strictEqual(yield* Fiber.join(streaming), "SessionExpired")
          assert.deepStrictEqual(story, ["Ticks runs", "Ticks released"])
        })
      )
    )

    it.live("an answer that a handler gives later ends with the session, too", () =>
      withApp(({ login, port, sessions, story }) =>
        Effect.gen(function* () {
          const { record, token } = yield* login()
          const alice = yield* connect(transport, port, token)
          const waiting = yield* Effect.forkScoped(failure(alice.Later()))
          yield* until(story, "Later runs")
          yield* sessions.end(record.id)
          assert.strictEqual(yield* Fiber.join(waiting), "SessionRevoked")
        })
      )
    )

    it.live("a query that a handler runs is cancelled with the session, before the end returns", () =>
      withApp(({ log, login, port, sessions }) =>
        Effect.gen(function* () {
          const { record, token } = yield* login()
          const alice = yield* connect(transport, port, token)
          const reporting = yield* Effect.forkScoped(failure(alice.Report()))
          yield* eventually(
            Effect.sync(() => log.busy.size),
            (size) => size === 1
          )
          yield* sessions.end(record.id)
          assert.deepStrictEqual([log.busy.size, log.closed.get(1)], [0, 1])
          assert.strictEqual(yield* Fiber.join(reporting), "SessionRevoked")
        })
      )
    )

    it.live("a call that ends its own session goes on, and the next one has none", () =>
      withApp(({ login, port }) =>
        Effect.gen(function* () {
          const { token } = yield* login()
          const alice = yield* connect(transport, port, token)
          assert.strictEqual(yield* alice.Logout(), "ok")
          // The socket is closed after the answer, which a call can meet; the client connects again by itself.
          yield* eventually(failure(alice.Add()), (tag) => tag === "SessionRevoked")
        })
      )
    )

    it.live("a client that gives up, or whose connection is cut, leaves nothing behind", () =>
      withApp(({ log, login, port, story }) =>
        Effect.gen(function* () {
          const { token } = yield* login()
          const proxy = yield* FaultProxy.make({ host: "127.0.0.1", port })
          for (const give of ["up", "way"] as const) {
            story.length = 0
            const alice = yield* connect(transport, proxy.port, token)
            const running = yield* Effect.forkScoped(
              Effect.all([alice.Hang(), Stream.runDrain(alice.Ticks()), alice.Report()], { concurrency: "unbounded" })
            )
            yield* until(story, "Hang runs", "Ticks runs")
            yield* eventually(
              Effect.sync(() => log.busy.size),
              (size) => size === 1
            )
            yield* give === "up" ? Fiber.interrupt(running) : proxy.cut
            yield* until(story, "Hang released", "Ticks released")
            yield* eventually(
              Effect.sync(() => log.busy.size),
              (size) => size === 0
            )
            yield* Fiber.interrupt(running)
          }
        })
      )
    )
  })
}

describe("SessionRpc", () => {
  it.live("over HTTP a login and a renewal set the cookie, over WebSocket a login says that it cannot", () =>
    withApp(({ forward, login, port, sessions }) =>
      Effect.gen(function* () {
        for (const transport of transports) {
          const { record, token } = yield* login()
          const alice = yield* connect(transport, port, token)
          if (transport === "websocket") {
            assert.strictEqual(yield* alice.Login(), "SessionInvalid")
            assert.strictEqual(yield* alice.Add(), 1, "the token is what it was")
          } else {
            assert.strictEqual(yield* alice.Login(), "ok")
            const [, next = ""] = /holdfast-dev=([\w-]+);/.exec(alice.set.join()) ?? []
            assert.strictEqual((yield* sessions.load(Option.getOrThrow(SessionToken.parse(next)))).id, record.id)
            assert.strictEqual(yield* failure(alice.Add()), "SessionMissing", "the old token is dead")
          }
          const due = yield* login({ renewEvery: "1 minute" })
          const client = yield* connect(transport, port, due.token)
          yield* forward("2 minutes")
          assert.strictEqual(yield* client.Add(), 1)
          assert.strictEqual(client.set.join().includes(name), transport !== "websocket")
        }
      })
    )
  )

  it.live("a stream over HTTP cannot log in once its first chunk was sent", () =>
    withApp(({ login, port, story }) =>
      Effect.gen(function* () {
        const { token } = yield* login()
        const alice = yield* connect("http, ndjson", port, token)
        const answers = alice.LateLogin().pipe(
          Stream.tap((answer) => Effect.sync(() => (answer === "first" ? story.push("go on") : 0))),
          Stream.runCollect
        )
        assert.deepStrictEqual(yield* answers, ["first", "SessionInvalid"])
        assert.strictEqual(yield* alice.Add(), 1, "the token is what it was")
      })
    )
  )

  it.live("the end of a session waits for a handler that is uninterruptible, whose answer counts", () =>
    withApp(({ login, port, sessions, story }) =>
      Effect.gen(function* () {
        for (const transport of transports) {
          story.length = 0
          const { record, token } = yield* login()
          const alice = yield* connect(transport, port, token)
          const finishing = yield* Effect.forkScoped(alice.Finish())
          yield* until(story, "Finish runs")
          const ending = yield* Effect.forkScoped(
            Effect.andThen(
              sessions.end(record.id),
              Effect.sync(() => story.push("ended"))
            )
          )
          yield* eventually(Effect.exit(sessions.load(token)), Exit.isFailure)
          story.push("go on")
          yield* Fiber.join(ending)
          assert.deepStrictEqual(story, ["Finish runs", "go on", "Finish is done", "ended"])
          assert.strictEqual(yield* Fiber.join(finishing), "done")
        }
      })
    )
  )

  it.live("a session ends without waiting for a client that does not read what it asked for", () =>
    withApp(({ login, port, sessions }) =>
      Effect.gen(function* () {
        const { record, token } = yield* login()
        const call = { _tag: "Request", id: "1", tag: "Flood", payload: null, headers: [] }
        const response = yield* Effect.acquireRelease(
          Effect.callback<IncomingMessage>((resume) => {
            const headers = cookieOf(token)
            request({ port, host: "127.0.0.1", path: "/http", method: "POST", headers }, (response) =>
              resume(Effect.succeed(response))
            ).end(`${JSON.stringify(call)}\n`)
          }),
          (response) => Effect.sync(() => response.destroy())
        )
        // Nothing is read on, so what arrives in the end is what the buffers on the way hold.
        let before = -1
        yield* eventually(
          Effect.sync(() => {
            const hasStopped = before === response.socket.bytesRead
            before = response.socket.bytesRead
            return hasStopped
          }),
          (hasStopped) => hasStopped
        )
        assert.isTrue(yield* Effect.timeout(sessions.end(record.id), "5 seconds"))
      })
    )
  )

  it.live("the socket of a session is closed when it ends, after its calls were answered", () =>
    withApp(({ login, port, sessions, story }) =>
      Effect.gen(function* () {
        const { record, token } = yield* login()
        const idle = yield* open(port, cookieOf(token))
        yield* until(idle.story, "open")
        yield* idle.call("Add", "1")
        yield* until(idle.story, `"requestId":"1"`)
        const busy = yield* open(port, cookieOf(token))
        yield* until(busy.story, "open")
        yield* busy.call("Hang", "7")
        yield* busy.call("Ticks", "8")
        yield* until(story, "Hang runs", "Ticks runs")
        const unused = yield* open(port, cookieOf(token))
        yield* until(unused.story, "open")
        yield* sessions.end(record.id)
        for (const { story } of [idle, busy]) {
          yield* until(story, "close")
          assert.match(story.at(-1) ?? "", /^close 4401 The session is over/)
        }
        for (const id of ["7", "8"]) {
          const exit = busy.story.find((line) => line.includes(`"requestId":"${id}"`) && line.includes("Exit"))
          assert.include(exit, "SessionRevoked")
        }
        yield* unused.call("Public", "1")
        yield* until(unused.story, "hello")
        yield* unused.call("Add", "2")
        yield* until(unused.story, "SessionRevoked")
        yield* unused.call("Public", "3")
        yield* until(unused.story, `"requestId":"3"`)
        assert.notInclude(unused.story.join(), "close", "no session authenticated it")
      })
    )
  )

  it.live("a socket whose token was replaced is closed by the first call that finds it, after its answer", () =>
    withApp(({ login, port, sessions, story }) =>
      Effect.gen(function* () {
        const { token } = yield* login()
        const socket = yield* open(port, cookieOf(token))
        yield* until(socket.story, "open")
        yield* socket.call("Ticks", "1")
        yield* until(story, "Ticks runs")
        yield* sessions.authenticate(token, {
          principal: "alice",
          device: {},
          idleTimeout: Duration.hours(1),
          absoluteTimeout: Duration.hours(1),
          renewEvery: Duration.hours(1),
          maxPerPrincipal: 5
        })
        assert.notInclude(socket.story.join(), "close")
        yield* socket.call("Add", "2")
        yield* until(socket.story, "close")
        const answer = socket.story.findIndex((line) => line.includes(`"requestId":"2"`))
        assert.include(socket.story[answer], "SessionMissing")
        assert.include(socket.story.at(-1), "close 4401")
        yield* until(story, "Ticks released")
      })
    )
  )

  it.live("an rpc message cannot bring a cookie of its own", () =>
    withApp(({ login, port }) =>
      Effect.gen(function* () {
        const { token } = yield* login()
        for (const transport of transports) {
          const visitor = yield* connect(transport, port)
          const call = RpcClient.withHeaders(visitor.Add(), cookieOf(token))
          assert.strictEqual(yield* failure(call), "SessionMissing")
        }
      })
    )
  )

  it.live("a page of another origin opens no socket", () =>
    withApp(({ login, port }) =>
      Effect.gen(function* () {
        const { token } = yield* login()
        for (const foreign of ["https://evil.example", "https://app.example.org", "null"]) {
          const { story } = yield* open(port, { ...cookieOf(token), origin: foreign })
          yield* until(story, "close")
          assert.notInclude(story, "open", foreign)
        }
        const own = yield* open(port, { ...cookieOf(token), origin })
        yield* until(own.story, "open")
        yield* own.call("Add", "1")
        yield* until(own.story, "Exit")
      })
    )
  )

  it.live("a store that cannot be reached is no logout: what runs goes on, and the socket stays open", () =>
    withApp(({ login, port, setReachable, story }) =>
      Effect.gen(function* () {
        const { token } = yield* login()
        for (const transport of transports) {
          const alice = yield* connect(transport, port, token)
          const hanging = yield* Effect.forkScoped(alice.Hang())
          yield* until(story, "Hang runs")
          setReachable(false)
          assert.strictEqual(yield* failure(alice.Add()), "SessionsUnavailable")
          setReachable(true)
          yield* alice.Add()
          assert.strictEqual(hanging.pollUnsafe(), undefined)
          yield* Fiber.interrupt(hanging)
          yield* until(story, "Hang released")
          story.length = 0
        }
      })
    )
  )

  it.effect("an impossible cookie fails when the layer is built", () =>
    Effect.gen(function* () {
      const wrong = SessionRpc.make(AppSession, { cookie: { name: "__Host-app", path: "/app" } })
      const sessions = Layer.succeed(Sessions.Sessions, {} as Sessions.Sessions["Service"])
      const layer = Layer.provide(wrong.layer, [sessions, HttpRouter.layer])
      assert.strictEqual((yield* Effect.flip(Effect.scoped(Layer.build(layer)))).field, "path")
    })
  )
})
