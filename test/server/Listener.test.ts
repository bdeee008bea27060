/** What a client may do to the sockets of the service, on a real listener with short times. */
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import * as IpNetwork from "effect/net/IpNetwork"
import * as Scope from "effect/Scope"
import * as Exit from "effect/Exit"
import * as Stream from "effect/Stream"
import { once } from "node:events"
import { connect, type Socket } from "node:net"
import * as Problem from "../../src/http/Problem.ts"
import { HoldfastApi } from "../../src/server/HoldfastApi.ts"
import * as Listener from "../../src/server/Listener.ts"
import { eventually } from "../support/conditions.ts"

/** A socket of a peer's own, which reads, and never closes its side by itself. */
interface Peer {
  readonly socket: Socket
  readonly text: () => string
  /** Whether the service has closed it in both directions: it takes nothing more. */
  readonly isGone: () => boolean
}

/** A connection that stays half open for as long as its peer likes. */
const peer = (port: number, from = "127.0.0.1") =>
  Effect.acquireRelease(
    Effect.promise(async (): Promise<Peer> => {
      const socket = connect({ host: "127.0.0.1", port, localAddress: from, allowHalfOpen: true })
      let text = ""
      let gone = false
      socket.on("data", (chunk: Buffer) => (text += chunk.toString()))
      socket.on("error", () => (gone = true)).on("close", () => (gone = true))
      await once(socket, "connect")
      return { socket, text: () => text, isGone: () => gone }
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

/** Whether nothing more can be sent to the service: only a socket that it has closed for good refuses what comes. */
const isClosed = ({ isGone, socket }: Peer) => {
  if (!isGone()) socket.write("x")
  return isGone()
}

const isTimeout = (text: string) => /^HTTP\/1.1 408 Request Timeout\r\n[^]*"code":"RequestTimeout"/.test(text)

const post = "POST /echo HTTP/1.1\r\nHost: x\r\n"
const get = "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"

const routes = (onHandled: () => void) =>
  Layer.mergeAll(
    HttpRouter.add("GET", "/ok", HttpServerResponse.text("ok")),
    HttpRouter.add(
      "POST",
      "/echo",
      Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
        Effect.map(request.text, (text) => {
          onHandled()
          return HttpServerResponse.text(text)
        })
      )
    ),
    HttpRouter.add(
      "GET",
      "/events",
      HttpServerResponse.stream(Stream.encodeText(Stream.as(Stream.tick("20 millis"), ":\n\n")))
    ),
    HttpRouter.add(
      "GET",
      "/flood",
      HttpServerResponse.stream(Stream.encodeText(Stream.forever(Stream.make("x".repeat(65_536)))))
    ),
    Problem.layerEverywhere(HoldfastApi)
  )

const numberOf = (state: object) => ("count" in state ? state.count : "value" in state ? state.value : undefined)

/** The server's side of it: its port, its connections by the account, and what it logged. */
const start = Effect.fnUntraced(function* (options: Partial<Listener.Options> = {}) {
  const scope = yield* Scope.fork(yield* Effect.scope)
  const lines: Array<string> = []
  let handled = 0
  const logger = Logger.make(({ message }) => void lines.push(String(message)))
  const listener = Listener.layer({
    host: "127.0.0.1",
    port: 0,
    maxConnections: 1000,
    maxConnectionsPerAddress: 1000,
    trustedProxies: [],
    timeouts: { headers: "300 millis", request: "600 millis", idle: "1 second", checkEvery: "50 millis" },
    ...options
  })
  const registry = new Map()
  const services = yield* HttpRouter.serve(
    routes(() => handled++),
    { disableLogger: true, disableListenLog: true }
  ).pipe(
    Layer.provideMerge(listener),
    Layer.provide([Logger.layer([logger]), Layer.succeed(Metric.MetricRegistry, registry)]),
    Layer.build,
    Scope.provide(scope)
  )
  const { address } = Context.get(services, HttpServer.HttpServer)
  const counted = (name: string) =>
    Effect.map(Effect.provideService(Metric.snapshot, Metric.MetricRegistry, registry), (all) =>
      all.filter(({ id }) => id === name).map(({ attributes, state }) => [attributes?.["limit"], numberOf(state)])
    )
  return {
    port: "port" in address ? address.port : 0,
    lines,
    counted,
    handled: () => handled,
    close: Scope.close(scope, Exit.void)
  }
})

layer(Layer.empty, { excludeTestServices: true })("the sockets of the service", (it) => {
  it.effect("two hundred silent sockets get 408 and are gone, although their peers never close them", () =>
    Effect.gen(function* () {
      const { port } = yield* start()
      const peers = yield* Effect.forEach(Array.from({ length: 200 }), () => peer(port), { concurrency: 20 })
      yield* eventually(
        Effect.sync(() => peers.filter(({ text }) => isTimeout(text())).length),
        (count) => count === 200,
        "20 seconds"
      )
      yield* eventually(
        Effect.sync(() => peers.filter((each) => !isClosed(each)).length),
        (left) => left === 0,
        "20 seconds"
      )
    })
  )

  it.effect(
    "a request that takes too long is answered 408 once, never reaches its handler, and its socket is gone",
    () =>
      Effect.gen(function* () {
        const { handled, port } = yield* start()
        const slow = [
          [`${post}Content-Length: 10\r\n\r\nabc`, "d"],
          [`${post}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`, "1\r\nd\r\n"],
          [`${post}Expect: 100-continue\r\nContent-Length: 10\r\n\r\n`, "d"],
          [`${get}${post}Content-Length: 10\r\n\r\nabc`, "d"],
          ["POST /echo HTTP/1.1\r\nHo", "s"]
        ] as const
        yield* Effect.forEach(
          slow,
          ([begin, more]) =>
            Effect.gen(function* () {
              const slow = yield* peer(port)
              slow.socket.write(begin)
              const answer = () => slow.text().replace(/^HTTP\/1.1 100[^]*?\r\n\r\n|^HTTP\/1.1 200[^]*?\r\n\r\nok/, "")
              yield* eventually(
                Effect.andThen(
                  Effect.sync(() => slow.socket.write(more)),
                  Effect.sync(answer)
                ).pipe(Effect.delay("150 millis")),
                (said) => said !== ""
              )
              // What would complete it comes too late.
              slow.socket.write(more.repeat(20))
              assert.isTrue(isTimeout(answer()), begin)
              yield* eventually(
                Effect.sync(() => isClosed(slow)),
                (closed) => closed
              )
              assert.strictEqual(answer().match(/HTTP\/1.1/g)?.length, 1, slow.text())
            }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(handled(), 0)
      })
  )

  it.effect("who takes nothing of an answer is cut; who listens to a long one is not", () =>
    Effect.gen(function* () {
      const { counted, port } = yield* start({ timeouts: { idle: "1 second" } })
      const listening = yield* peer(port)
      listening.socket.write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
      const stuck = yield* peer(port)
      stuck.socket.pause()
      stuck.socket.write("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
      const open = Effect.map(counted("holdfast_http_connections"), (found) => found[0]?.[1])
      yield* eventually(open, (count) => count === 2)
      yield* eventually(open, (count) => count === 1, "20 seconds")
      const heard = listening.text().length
      yield* eventually(
        Effect.sync(() => listening.text().length),
        (length) => length > heard
      )
    })
  )

  it.effect("a connection that is kept outlives those of proxies, and is closed in the end", () =>
    Effect.gen(function* () {
      const answered = Effect.fnUntraced(function* (options: Partial<Listener.Options>) {
        const client = yield* peer((yield* start({ timeouts: {}, ...options })).port)
        client.socket.write(get)
        yield* eventually(Effect.sync(client.text), (text) => text.endsWith("ok"))
        return client
      })
      assert.match((yield* answered({})).text(), /\r\nKeep-Alive: timeout=130\r\n/)
      const short = yield* answered({ keepAlive: Duration.millis(100) })
      yield* eventually(
        Effect.sync(() => isClosed(short)),
        (closed) => closed
      )
    })
  )

  it.effect("a request that came before there were routes is answered by them, and counts once", () =>
    Effect.gen(function* () {
      const seen: Array<string | undefined> = []
      const services = yield* Layer.build(
        Listener.layer({
          host: "127.0.0.1",
          port: 0,
          maxConnections: 10,
          maxConnectionsPerAddress: 10,
          trustedProxies: [],
          watch: ({ method }) => void seen.push(method)
        })
      )
      const { address } = Context.get(services, HttpServer.HttpServer)
      const port = "port" in address ? address.port : 0
      const [asks, waits] = yield* Effect.all([peer(port), peer(port)])
      asks.socket.write(get)
      waits.socket.write(`${post}Expect: 100-continue\r\nContent-Length: 1\r\n\r\n`)
      yield* eventually(Effect.sync(waits.text), (text) => text === "HTTP/1.1 100 Continue\r\n\r\n")
      yield* eventually(
        Effect.sync(() => seen.length),
        (count) => count > 1
      )
      waits.socket.write("a")
      yield* HttpRouter.serve(
        routes(() => undefined),
        { disableLogger: true, disableListenLog: true }
      ).pipe(Layer.build, Effect.provide(services))
      yield* eventually(Effect.sync(asks.text), (text) => /^HTTP\/1.1 200 OK\r\n[^]*ok$/.test(text))
      yield* eventually(Effect.sync(waits.text), (text) => /^[^]*HTTP\/1.1 200 OK\r\n[^]*a$/.test(text))
      assert.sameMembers(seen, ["GET", "POST"])
    })
  )

  it.effect("I3 one address that takes all it may keeps out nobody else, and is told so", () =>
    Effect.gen(function* () {
      const { counted, lines, port } = yield* start({ maxConnections: 100, maxConnectionsPerAddress: 20, timeouts: {} })
      const greedy = yield* Effect.forEach(Array.from({ length: 60 }), () => peer(port, "127.0.0.2"))
      for (const { socket } of greedy) socket.write(get)
      yield* eventually(
        Effect.sync(() => greedy.filter(({ text }) => text().includes("TooManyConnections")).length),
        (count) => count === 40
      )
      const refused = greedy.find(({ text }) => text().startsWith("HTTP/1.1 503"))
      assert.match(refused?.text() ?? "", /retry-after: 10\r\n/)
      assert.match(refused?.text() ?? "", /application\/problem\+json/)
      const turnedAway = greedy.filter(({ text }) => text().startsWith("HTTP/1.1 503"))
      yield* eventually(
        Effect.sync(() => turnedAway.every(isClosed)),
        (closed) => closed
      )
      const other = yield* peer(port)
      other.socket.write(get)
      yield* eventually(Effect.sync(other.text), (text) => text.endsWith("ok"))
      assert.deepStrictEqual(yield* counted("holdfast_http_connections_refused_total"), [["address", 40]])
      assert.deepStrictEqual(yield* counted("holdfast_http_connections"), [[undefined, 21]])
      assert.lengthOf(lines, 1)
      assert.match(lines[0] ?? "", /Connections of 127.0.0.2 are refused: 20 are open, which is HOLDFAST_MAX_CONN/)
      for (const { socket } of greedy) socket.destroy()
      yield* eventually(
        Effect.sync(() => lines.length),
        (count) => count === 2
      )
      assert.match(lines[1] ?? "", /every address are accepted again. 40 were refused/)
      const again = yield* peer(port, "127.0.0.2")
      again.socket.write(get)
      yield* eventually(Effect.sync(again.text), (text) => text.endsWith("ok"))
    })
  )

  it.effect("so many connections are open in all; a stream goes on, and who says nothing is told, too", () =>
    Effect.gen(function* () {
      const trustedProxies = [IpNetwork.fromStringUnsafe("127.0.0.0/8")]
      const { counted, lines, port } = yield* start({
        maxConnections: 10,
        maxConnectionsPerAddress: 2,
        trustedProxies,
        timeouts: {}
      })
      const stream = yield* peer(port)
      stream.socket.write("GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
      // A proxy speaks for many: it has no bound of its own.
      const open = yield* Effect.forEach(Array.from({ length: 9 }), () => peer(port))
      for (const { socket } of open) socket.write(get)
      yield* eventually(
        Effect.sync(() => open.every(({ text }) => text().endsWith("ok"))),
        (all) => all
      )
      const silent = yield* peer(port)
      yield* eventually(Effect.sync(silent.text), (text) => text.startsWith("HTTP/1.1 503 Service Unavailable"))
      assert.include(silent.text(), "The service has as many connections open as there may be, 10.")
      const heard = stream.text().length
      yield* eventually(
        Effect.sync(() => stream.text().length),
        (length) => length > heard
      )
      assert.deepStrictEqual(yield* counted("holdfast_http_connections_refused_total"), [["all", 1]])
      for (const { socket } of open) socket.destroy()
      yield* eventually(
        Effect.sync(() => lines.length),
        (count) => count === 2
      )
      assert.match(
        lines.join("\n"),
        /^Connections are refused: 10 .*\nConnections are accepted again. 1 were refused.$/
      )
    })
  )

  it.effect("a listener that closes waits for no peer that was refused", () =>
    Effect.gen(function* () {
      const { close, port } = yield* start({ maxConnections: 1, timeouts: {} })
      const peers = yield* Effect.forEach(Array.from({ length: 20 }), () => peer(port))
      yield* eventually(
        Effect.sync(() => peers.filter(({ text }) => text().includes("503")).length),
        (count) => count === 19
      )
      const [took] = yield* Effect.timed(close)
      assert.isBelow(Duration.toMillis(took), 5000)
    })
  )
})
