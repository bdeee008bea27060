import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { subscribe, unsubscribe } from "node:diagnostics_channel"
import type { Socket } from "node:net"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import { eventually } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"

const reasonOf = (error: HttpClientError) => ClientError.from(error).reason

/**
 * An end that tells its milliseconds takes no longer than its grace and a tenth of a second. A machine that runs other tests
 * beside may keep it waiting now and then, but not five times in a row.
 */
const inTime =
  (grace: number) =>
  <E, R>(end: Effect.Effect<number, E, R>): Effect.Effect<void, E, R> =>
    Effect.map(Effect.repeat(end, { until: (millis) => millis <= grace + 100, times: 4 }), (millis) =>
      assert.isAtMost(millis, grace + 100)
    )

/** Runs work with a session of its own and ends it; tells how long the end took. */
const withSession = <A, E>(
  options: Options,
  work: (client: HttpClient.HttpClient, session: ClientSession.ClientSession["Service"]) => Effect.Effect<A, E>
) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const shared = yield* Layer.buildWithScope(ClientSession.layerShared(options), scope)
    const { connectTimeout: _, connectionsPerOrigin: __, idleTime: ___, tls: ____, ...own } = options
    const session = yield* ClientSession.make(options.reuse === "shared" ? own : options).pipe(
      Scope.provide(scope),
      Effect.provideContext(shared)
    )
    const exit = yield* Effect.exit(work(session.client, session))
    const [took] = yield* Effect.timed(session.end)
    yield* Scope.close(scope, Exit.void)
    return { exit, endMillis: Duration.toMillis(took) }
  })

/** As a program runs that has no scope around its requests. */
const withoutScope = <A, E>(work: Effect.Effect<A, E>) =>
  Effect.updateContext(work, (context: Context.Context<never>) => Context.omit(Scope.Scope)(context))

const failureOf = (exit: Exit.Exit<unknown, HttpClientError>) =>
  Option.map(Exit.findErrorOption(exit), (error) => reasonOf(error))

const held = Effect.map(
  Effect.flatMap(Ledger.Ledger, (ledger) => ledger.holdings),
  (holdings) => holdings.map(({ kind }) => kind)
)

/** Waits until a connection is open. */
const connected = eventually(held, (kinds) => kinds.includes("socket")).pipe(Effect.orDie)

const get = (client: HttpClient.HttpClient, url: string) => Effect.flatMap(client.get(url), ({ text }) => text)

type Kinds = (typeof Servers.over)["http" | "https"]

for (const reuse of ["none", "pooled", "shared"] as const) {
  for (const scheme of ["http", "https"] as const) {
    describe(`a ${reuse} session over ${scheme}: no connection is left after its end`, () => {
      const tls = scheme === "https" ? { ca: Servers.ca() } : undefined
      const options: Options = { reuse, retry: false, grace: "100 millis", tls }

      const ends = (
        name: string,
        server: (kinds: Kinds) => Effect.Effect<Servers.TestServer, never, Scope.Scope>,
        more: Options,
        work: (client: HttpClient.HttpClient, url: string) => Effect.Effect<unknown, HttpClientError>,
        expected: string
      ) =>
        it.live(name, () =>
          Effect.gen(function* () {
            const { allClosed, url } = yield* server(Servers.over[scheme])
            const { endMillis, exit } = yield* withSession({ ...options, ...more }, (client) => work(client, url))
            yield* allClosed
            const reason = Option.getOrUndefined(failureOf(exit))
            const phase = reason !== undefined && "phase" in reason ? ` ${reason.phase}` : ""
            const outcome = Exit.isSuccess(exit)
              ? "success"
              : reason === undefined
                ? "interrupted"
                : reason._tag + phase
            assert.strictEqual(outcome, expected)
            assert.deepStrictEqual(yield* held, [])
            return endMillis
          }).pipe(Effect.scoped, Effect.provide(Ledger.layer), inTime(100))
        )

      ends("success", ({ good }) => good, {}, get, "success")
      ends(
        "many at once",
        ({ good }) => good,
        {},
        (client, url) =>
          Effect.forEach(Array.from({ length: 50 }), () => get(client, url), { concurrency: "unbounded" }),
        "success"
      )
      ends(
        "nobody reads the body",
        ({ good }) => good,
        {},
        (client, url) => client.get(url),
        "success"
      )
      ends(
        "nobody listens there",
        ({ good }) => good,
        {},
        (client) => get(client, `${scheme}://127.0.0.1:1`),
        "NetworkError connect"
      )
      ends(
        "no such name",
        ({ good }) => good,
        {},
        (client) => get(client, `${scheme}://nobody.invalid`),
        "NetworkError resolve"
      )
      if (scheme === "http") {
        ends(
          "no TLS",
          ({ good }) => good,
          {},
          (client, url) => get(client, url.replace("http", "https")),
          "NetworkError tls"
        )
        ends(
          "TLS that is never answered",
          ({ silent }) => silent,
          { connectTimeout: "50 millis" },
          (client, url) => get(client, url.replace("http", "https")),
          "Timeout connect"
        )
      } else {
        ends(
          "no HTTPS",
          ({ good }) => good,
          {},
          (client, url) => get(client, url.replace("https", "http")),
          "NetworkError headers"
        )
      }
      ends("accepts and never answers", ({ silent }) => silent, { headersTimeout: "50 millis" }, get, "Timeout headers")
      ends(
        "accepts and never answers, in total",
        ({ silent }) => silent,
        { timeout: "50 millis" },
        get,
        "Timeout total"
      )
      ends("drips bytes", ({ dripping }) => dripping, { timeout: "50 millis" }, get, "Timeout total")
      ends("stops in the body", ({ stopping }) => stopping, { bodyTimeout: "50 millis" }, get, "Timeout body")
      ends("breaks off in the head", ({ resetting }) => resetting("head"), {}, get, "NetworkError headers")
      ends("breaks off in the body", ({ resetting }) => resetting("body"), {}, get, "NetworkError body")
      ends("redirects for ever", ({ redirecting }) => redirecting, {}, get, "BadResponse")
      ends(
        "interrupted while it waits",
        ({ silent }) => silent,
        {},
        (client, url) =>
          Effect.flatMap(Effect.forkChild(get(client, url), { startImmediately: true }), (fiber) =>
            Effect.andThen(connected, Effect.andThen(Fiber.interrupt(fiber), Fiber.join(fiber)))
          ),
        "interrupted"
      )
      ends(
        "left running",
        ({ silent }) => silent,
        {},
        (client, url) => Effect.andThen(Effect.forkDetach(get(client, url), { startImmediately: true }), connected),
        "success"
      )
      ends(
        "100 ended in the middle",
        ({ dripping }) => dripping,
        { connectionsPerOrigin: 40 },
        (client, url) =>
          Effect.gen(function* () {
            const reading = yield* Effect.forEach(Array.from({ length: 40 }), () => client.get(url), {
              concurrency: "unbounded"
            })
            for (const { text } of reading) yield* Effect.forkDetach(text, { startImmediately: true })
            for (let n = 0; n < 60; n++) yield* Effect.forkDetach(get(client, url), { startImmediately: true })
          }),
        "success"
      )
    })
  }
}

describe("a client session", () => {
  it.live("speaks HTTPS to whom it is told to trust, and to nobody else", () =>
    Effect.gen(function* () {
      const server = yield* Servers.https((_, response) => response.end("secret"))
      const trusted = yield* withSession({ tls: { ca: server.ca } }, (client) => get(client, server.url))
      assert.deepStrictEqual(trusted.exit, Exit.succeed("secret"))
      const stranger = yield* withSession({ retry: false }, (client) => get(client, server.url))
      const reason = Option.getOrThrow(failureOf(stranger.exit))
      assert.deepInclude(reason, { _tag: "NetworkError", phase: "tls", code: "DEPTH_ZERO_SELF_SIGNED_CERT" })
      yield* server.allClosed
    })
  )

  it.live("100 parallel requests ended in the middle: each fails with Closed, no connection is left", () =>
    Effect.gen(function* () {
      const server = yield* Servers.silent
      const { endMillis, exit } = yield* withSession(
        { grace: "50 millis", connectionsPerOrigin: 40 },
        (client, session) =>
          Effect.gen(function* () {
            const running = yield* Effect.forEach(Array.from({ length: 100 }), () =>
              Effect.forkDetach(Effect.flip(get(client, server.url)), { startImmediately: true })
            )
            yield* eventually(Effect.sync(server.sockets), (open) => open === 40)
            const [took] = yield* Effect.timed(session.end)
            const reasons = yield* Effect.forEach(running, (fiber) =>
              Effect.map(Fiber.join(fiber), (e) => reasonOf(e)._tag)
            )
            return { took: Duration.toMillis(took), reasons }
          })
      )
      yield* server.allClosed
      if (Exit.isFailure(exit)) return assert.fail(String(exit))
      assert.deepStrictEqual(new Set(exit.value.reasons), new Set(["Closed"]))
      return Math.max(exit.value.took, endMillis)
    }).pipe(Effect.scoped, inTime(50))
  )

  it.live("waits for running requests up to its grace, and refuses new ones meanwhile", () =>
    Effect.gen(function* () {
      let finish: (() => void) | undefined
      const server = yield* Servers.http((_, response) => {
        finish = () => response.end("late")
      })
      const { exit } = yield* withSession({ grace: "5 seconds" }, (client, session) =>
        Effect.gen(function* () {
          const running = yield* Effect.forkChild(get(client, server.url), { startImmediately: true })
          const answer = yield* eventually(
            Effect.sync(() => finish),
            (finish) => finish !== undefined
          )
          const ending = yield* Effect.forkChild(session.end, { startImmediately: true })
          const refused = yield* Effect.flip(get(client, server.url))
          assert.strictEqual(reasonOf(refused)._tag, "Closed")
          assert.include(reasonOf(refused).message, "Use it within the lifetime")
          assert.isUndefined(ending.pollUnsafe())
          answer?.()
          yield* Fiber.join(ending)
          return yield* Fiber.join(running)
        })
      )
      assert.deepStrictEqual(exit, Exit.succeed("late"))
      yield* server.allClosed
    })
  )

  it.live("an interrupted request closes its connection at once, also in the middle of a body", () =>
    Effect.gen(function* () {
      let drips = 0
      const server = yield* Servers.http((_, response) => {
        response.writeHead(200)
        const drip = setInterval(() => response.write(".", () => drips++), 5)
        response.on("close", () => clearInterval(drip))
      })
      const interrupted = (work: (client: HttpClient.HttpClient) => Effect.Effect<unknown, unknown>) =>
        withSession({ timeout: "1 minute", grace: "1 minute" }, (client, session) =>
          Effect.gen(function* () {
            const fiber = yield* Effect.forkChild(work(client), { startImmediately: true })
            const before = drips
            // In the middle of the body.
            yield* eventually(
              Effect.sync(() => drips - before),
              (count) => count >= 2
            )
            yield* Fiber.interrupt(fiber)
            yield* server.allClosed
            assert.strictEqual(session.running(), 0)
          })
        )
      // Where there is a scope, Effect looks after a request, too.
      const bare = (work: (client: HttpClient.HttpClient) => Effect.Effect<unknown, unknown>) =>
        interrupted((client) => withoutScope(work(client)))
      for (const alone of [interrupted, bare]) {
        const exits = [
          yield* alone((client) => get(client, server.url)),
          yield* alone((client) => Effect.flatMap(client.get(server.url), ({ stream }) => Stream.runDrain(stream))),
          yield* alone((client) =>
            Effect.flatMap(client.get(server.url), ({ stream }) => Stream.runDrain(Stream.take(stream, 2)))
          ),
          yield* alone((client) => Effect.andThen(client.get(server.url), Effect.never))
        ]
        for (const { exit } of exits) assert.isTrue(Exit.isSuccess(exit), String(exit))
      }
      const scoped = yield* interrupted((client) =>
        Effect.scoped(Effect.andThen(HttpClient.withScope(client).get(server.url), Effect.never))
      )
      assert.isTrue(Exit.isSuccess(scoped.exit), String(scoped.exit))
    })
  )

  for (const reuse of ["none", "pooled", "shared"] as const) {
    it.live(
      `a ${reuse} request interrupted while its connection is opened leaves none, and takes none from the next`,
      () =>
        Effect.gen(function* () {
          const server = yield* Servers.silent
          const url = server.url.replace("http", "https")
          const options: Options = { reuse, connectTimeout: "1 minute", timeout: "1 minute", connectionsPerOrigin: 1 }
          const { exit } = yield* withSession(options, (client) =>
            Effect.gen(function* () {
              const begin = Effect.forkChild(get(client, url), { startImmediately: true })
              const opening = (accepted: number) =>
                eventually(Effect.sync(server.accepted), (seen) => seen === accepted && server.sockets() === 1)
              const first = yield* begin
              yield* opening(1)
              const second = yield* begin
              yield* Fiber.interrupt(first)
              yield* opening(2)
              assert.isUndefined(second.pollUnsafe())
              yield* Fiber.interrupt(second)
              yield* server.allClosed
              yield* eventually(held, (kinds) => !kinds.includes("socket"), "5 seconds")
            })
          )
          assert.isTrue(Exit.isSuccess(exit), String(exit))
        }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
    )
  }

  it.live("a pooled session uses a connection again, none does not", () =>
    Effect.gen(function* () {
      const twenty = (client: HttpClient.HttpClient, url: string) =>
        Effect.forEach(Array.from({ length: 20 }), () => get(client, url))
      const pooled = yield* Servers.good
      yield* withSession({}, (client) => twenty(client, pooled.url))
      assert.isAtMost(pooled.accepted(), 2)
      const none = yield* Servers.good
      yield* withSession({ reuse: "none" }, (client) => Effect.andThen(twenty(client, none.url), none.allClosed))
      assert.strictEqual(none.accepted(), 20)
    })
  )

  it.live("the end of a shared session leaves the connections of its neighbours alone", () =>
    Effect.gen(function* () {
      const server = yield* Servers.good
      const scope = yield* Effect.scope
      const memo = yield* Layer.makeMemoMap
      const session = (own: Scope.Scope) =>
        Effect.map(
          Layer.buildWithMemoMap(ClientSession.layer({ reuse: "shared" }), memo, own),
          Context.get(ClientSession.ClientSession)
        )
      const first = yield* Scope.fork(scope)
      const { client } = yield* session(first)
      const second = yield* session(yield* Scope.fork(scope))
      // One may be opened while another is not yet free again.
      for (let n = 0; n < 5; n++) yield* get(client, server.url)
      const before = server.accepted()
      yield* Scope.close(first, Exit.void)
      yield* get(second.client, server.url)
      assert.strictEqual(server.accepted(), before)
      assert.isAtLeast(server.sockets(), 1)
      assert.strictEqual(reasonOf(yield* Effect.flip(get(client, server.url)))._tag, "Closed")
    })
  )

  it.live("the same layer provided twice is two sessions", () =>
    Effect.gen(function* () {
      const layer = ClientSession.layer()
      const id = Effect.map(ClientSession.ClientSession, ({ id }) => id)
      const [one, other] = yield* Effect.all([Effect.provide(id, layer), Effect.provide(id, layer)])
      assert.notStrictEqual(one, other)
    })
  )

  it.live("so it is within one graph of layers", () =>
    Effect.gen(function* () {
      const layer = ClientSession.layer()
      const ids: Array<string> = []
      const user = Layer.effectDiscard(Effect.map(ClientSession.ClientSession, ({ id }) => void ids.push(id)))
      yield* Layer.build(Layer.mergeAll(Layer.provide(user, layer), Layer.provide(Layer.fresh(user), layer)))
      assert.strictEqual(new Set(ids).size, 2)
    })
  )

  for (const reuse of ["none", "pooled", "shared"] as const) {
    it.live(`when the end of a ${reuse} session returns, each of its sockets is closed, not about to be`, () =>
      Effect.gen(function* () {
        const server = yield* Servers.dripping
        const sockets: Array<Socket> = []
        const note = (message: unknown) => {
          const { connectParams, socket } = message as { connectParams: { host: string }; socket: Socket }
          if (server.url.endsWith(connectParams.host)) sockets.push(socket)
        }
        yield* Effect.acquireRelease(
          Effect.sync(() => subscribe("undici:client:connected", note)),
          () => Effect.sync(() => unsubscribe("undici:client:connected", note))
        )
        const { exit } = yield* withSession({ reuse, grace: 0 }, (client, session) =>
          Effect.gen(function* () {
            for (let n = 0; n < 20; n++) yield* Effect.forkDetach(get(client, server.url), { startImmediately: true })
            yield* eventually(
              Effect.sync(() => sockets.length),
              (count) => count === 20
            )
            yield* session.end
            return sockets.filter((socket) => !socket.closed).length
          })
        )
        assert.deepStrictEqual(exit, Exit.succeed(0))
      })
    )
  }
})

describe("what makes no sense is refused", () => {
  const refused = (name: string, options: unknown, field: string) =>
    it.live(name, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(ClientSession.make(options as Options))
        assert.deepInclude(error.reason, { _tag: "InvalidConfig", field })
      })
    )
  refused("a negative timeout", { timeout: -1 }, "timeout")
  refused("a timeout that is no time", { timeout: "soon" }, "timeout")
  refused("an endless connect", { connectTimeout: "Infinity" }, "connectTimeout")
  refused("an idle time beyond what a timer can wait", { idleTime: "25 days" }, "idleTime")
  refused("half a connection", { connectionsPerOrigin: 0.5 }, "connectionsPerOrigin")
  refused("another mode", { reuse: "sometimes" }, "reuse")
  refused("more retries than requests", { retry: { ratio: 2 } }, "retry.ratio")
  refused("nothing to share", { reuse: "shared" }, "reuse")
  refused("what is not its own", { reuse: "shared", connectionsPerOrigin: 1 }, "connectionsPerOrigin")

  const bad = (name: string, request: (url: string) => HttpClientRequest.HttpClientRequest) =>
    it.live(`${name}: nothing is sent`, () =>
      Effect.gen(function* () {
        const server = yield* Servers.good
        const { exit } = yield* withSession({}, (client) => client.execute(request(server.url)))
        const reason = Option.getOrThrow(failureOf(exit))
        assert.strictEqual(reason._tag, "BadRequest")
        assert.notInclude(reason.message, "hunter2")
        assert.strictEqual(server.accepted(), 0)
      })
    )
  bad("no URL", () => HttpClientRequest.get("http://[hunter2"))
  bad("another scheme", () => HttpClientRequest.get("file:///etc/hunter2"))
  bad("a password in the URL", (url) => HttpClientRequest.get(url.replace("//", "//me:hunter2@")))
  bad("a line break in a header", (url) =>
    HttpClientRequest.setHeader(HttpClientRequest.get(url), "x-evil", "hunter2\r\nhost: other")
  )
  bad("a line break in a header's name", (url) =>
    HttpClientRequest.setHeader(HttpClientRequest.get(url), "x-evil\r\nhunter2", "1")
  )
  bad("an upgrade", (url) => HttpClientRequest.setHeader(HttpClientRequest.get(url), "upgrade", "websocket"))
})
