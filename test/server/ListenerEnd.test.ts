/** What the end of the service is for requests that are under way to it, on a real listener. */
import { assert, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { once } from "node:events"
import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Worker } from "node:worker_threads"
import * as Listener from "../../src/server/Listener.ts"
import * as ListenerEnd from "../../src/server/ListenerEnd.ts"
import { eventually } from "../support/conditions.ts"
import type { Peers } from "../support/peersWorker.ts"
import * as RawHttp from "../support/rawHttp.ts"

const listener = Listener.layer({
  host: "127.0.0.1",
  port: 0,
  maxConnections: 1000,
  maxConnectionsPerAddress: 1000,
  trustedProxies: []
})

/** A server that closes gently, with connections that were answered once and are kept. */
const withKept = Effect.fnUntraced(function* (forKept: Duration.Duration, count = 1) {
  const server = createServer((_, response) => {
    isAnswered(response)
    response.end("ok")
  })
  const isAnswered = ListenerEnd.gently(server, forKept)
  yield* Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening"))
  const connect = Effect.gen(function* () {
    const kept = yield* RawHttp.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const cut = once(kept, "close")
    const ask = Effect.promise(async () => {
      const answered = Promise.race([once(kept, "data"), cut])
      kept.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      return String((await answered)[0])
    })
    assert.match(yield* ask, /^HTTP\/1.1 200 OK\r\n[^]*Connection: keep-alive\r\n[^]*ok/)
    return { ask, cut }
  })
  const kept = yield* Effect.replicateEffect(connect, count)
  const closed = Promise.all([once(server, "close"), ...kept.map(({ cut }) => cut)])
  server.close()
  yield* eventually(
    Effect.sync(() => server.listening),
    (isListening) => !isListening
  )
  return { asks: kept.map(({ ask }) => ask), closed: Effect.promise(() => closed) }
})

const lastAnswer = /^HTTP\/1.1 200 OK\r\n[^]*Connection: close\r\n[^]*ok/

it.live("a kept connection has one more answer after the listener has closed, and is closed with it", () =>
  Effect.gen(function* () {
    const { asks, closed } = yield* withKept(Duration.minutes(1))
    for (const ask of asks) assert.match(yield* ask, lastAnswer)
    yield* closed
  }).pipe(Effect.scoped)
)

it.live("while clients still ask on kept connections, none of the others is closed", () =>
  Effect.gen(function* () {
    const { asks, closed } = yield* withKept(Duration.seconds(2), 4)
    for (const ask of asks) {
      // Each in time after the one before, and the last one later than the first one had to be.
      yield* Effect.sleep("700 millis")
      assert.match(yield* ask, lastAnswer)
    }
    yield* closed
  }).pipe(Effect.scoped)
)

/** A server that closes gently while it answers a request, of whose answer it has sent `begun`. */
const whileAnswering = Effect.fnUntraced(function* (begun: string) {
  let answer: ServerResponse | undefined
  const server = createServer({ keepAliveTimeout: 0 }, (_, response) => {
    isAnswered(response)
    if (begun !== "") response.write(begun)
    answer = response
    server.close()
  })
  const closeIdle = server.closeIdleConnections.bind(server)
  let closings = 0
  server.closeIdleConnections = () => {
    closings++
    closeIdle()
  }
  const isAnswered = ListenerEnd.gently(server, Duration.millis(10))
  yield* Effect.promise(() => once(server.listen(0, "127.0.0.1"), "listening"))
  const client = yield* RawHttp.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  let text = ""
  client.on("data", (chunk: Buffer) => (text += chunk.toString()))
  const closed = Promise.all([once(server, "close"), once(client, "close")])
  client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
  yield* eventually(
    Effect.sync(() => closings),
    (count) => count > 0
  )
  answer?.end("ok")
  yield* Effect.promise(() => closed)
  return text
})

it.live("what is being answered when the listener closes is the last answer of its connection", () =>
  Effect.gen(function* () {
    assert.match(yield* whileAnswering(""), lastAnswer)
  }).pipe(Effect.scoped)
)

it.live("a connection whose answer had begun when the listener closed is closed after its end", () =>
  Effect.gen(function* () {
    assert.match(yield* whileAnswering("begun"), /^HTTP\/1.1 200 OK\r\n[^]*Connection: keep-alive\r\n[^]*begun[^]*ok/)
  }).pipe(Effect.scoped)
)

it.live("so it is where the client waited for 100 Continue", () =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const arrived = yield* Deferred.make<void>()
    const answer = yield* Deferred.make<void>()
    const route = HttpRouter.add(
      "POST",
      "/slow",
      Effect.gen(function* () {
        yield* HttpServerRequest.HttpServerRequest.pipe(Effect.flatMap(({ text }) => text))
        yield* Deferred.succeed(arrived, undefined)
        yield* Deferred.await(answer)
        return HttpServerResponse.text("ok")
      })
    )
    const services = yield* HttpRouter.serve(route, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provideMerge(listener),
      Layer.build,
      Scope.provide(scope)
    )
    const { address } = Context.get(services, HttpServer.HttpServer)
    const url = `http://127.0.0.1:${"port" in address ? address.port : 0}`
    const client = yield* RawHttp.connect(url)
    let text = ""
    client.on("data", (chunk: Buffer) => (text += chunk.toString()))
    const cut = once(client, "close")
    client.write("POST /slow HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na")
    yield* Deferred.await(arrived)
    const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
    yield* eventually(Effect.exit(Effect.scoped(RawHttp.connect(url))), (another) => Exit.isFailure(another))
    yield* Deferred.succeed(answer, undefined)
    yield* Effect.promise(() => cut)
    assert.match(text, /^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 OK\r\n[^]*Connection: close\r\n[^]*ok$/)
    yield* Fiber.join(closing)
  }).pipe(Effect.scoped)
)

it("a service that drains has a proxy in front, for which it keeps connections longer", () => {
  const drained = ListenerEnd.keptFor(Duration.seconds(5))
  assert.isAbove(Duration.toMillis(drained), Duration.toMillis(ListenerEnd.keptFor(Duration.zero)))
  // What is left then is cut.
  assert.isBelow(Duration.toMillis(drained), 2000)
})

it.live("a kept connection on which nobody asks is closed in time", () =>
  Effect.scoped(Effect.flatMap(withKept(Duration.millis(10)), ({ closed }) => closed))
)

it.live(
  "a request that has reached the machine when the listener closes is answered, on new connections and on kept ones",
  () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const services = yield* HttpRouter.serve(HttpRouter.add("GET", "/ok", HttpServerResponse.text("ok")), {
        disableLogger: true,
        disableListenLog: true
      }).pipe(Layer.provideMerge(listener), Layer.build, Scope.provide(scope))
      const { address } = Context.get(services, HttpServer.HttpServer)
      const sent = new Int32Array(new SharedArrayBuffer(4))
      const peers: Peers = {
        port: "port" in address ? address.port : 0,
        request: "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n",
        count: 10,
        sent
      }
      const worker = yield* Effect.acquireRelease(
        Effect.sync(() => new Worker(new URL("../support/peersWorker.ts", import.meta.url), { workerData: peers })),
        (it) => Effect.promise(() => it.terminate())
      )
      yield* Effect.promise(() => once(worker, "message"))
      const answers = once(worker, "message")
      yield* Effect.suspend(() => {
        worker.postMessage("go")
        // Nothing is accepted or read meanwhile, as on a machine that gives this process no processor.
        assert.notStrictEqual(Atomics.wait(sent, 0, 0, 30_000), "timed-out")
        return Scope.close(scope, Exit.void)
      })
      const [texts] = yield* Effect.promise(() => answers)
      assert.lengthOf(texts, 20)
      for (const text of texts) assert.match(String(text), /^HTTP\/1.1 200 OK\r\n[^]*ok$/)
    }).pipe(Effect.scoped)
)
