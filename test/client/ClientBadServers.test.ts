/**
 * Servers that break the protocol or make the worst of it, and input that cannot be sent: a typed error, nothing left, no hang.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpBody from "effect/http/HttpBody"
import type * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Stream from "effect/Stream"
import { once } from "node:events"
import * as Http from "node:http"
import type { AddressInfo, Socket } from "node:net"
import { Readable } from "node:stream"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import { eventually } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"

const client = (options: Options = {}) =>
  Effect.map(ClientSession.make({ retry: false, grace: 0, ...options }), ({ client }) => client)

const get = (client: HttpClient.HttpClient, url: string) => Effect.flatMap(client.get(url), ({ text }) => text)

const outcomeOf = <A>(work: Effect.Effect<A, HttpClientError>) =>
  Effect.match(work, {
    onSuccess: (value): unknown => value,
    onFailure: (error) => {
      const { reason } = ClientError.from(error)
      return "phase" in reason ? `${reason._tag} ${reason.phase}` : "problem" in reason ? reason._tag : reason._tag
    }
  })

const answers = (text: string) => (socket: Socket) => void socket.on("data", () => socket.write(text))
const four = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour"

describe("a server that breaks the protocol", () => {
  const bad = (name: string, connected: (socket: Socket) => void, expected: unknown, options: Options = {}) =>
    it.live(`${name}: ${String(expected)}`, () =>
      Effect.gen(function* () {
        const server = yield* Servers.raw(connected)
        const session = yield* client({ timeout: "5 seconds", ...options })
        assert.strictEqual(yield* outcomeOf(get(session, server.url)), expected)
        yield* server.allClosed
      })
    )
  const drops = (socket: Socket, piece: string) => {
    const more = setInterval(() => socket.write(piece), 2)
    socket.once("close", () => clearInterval(more))
  }
  bad(
    "floods with informational answers",
    (socket) => socket.once("data", () => drops(socket, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(100))),
    "Timeout headers",
    { headersTimeout: "200 millis" }
  )
  bad(
    "sends header lines without an end",
    (socket) =>
      socket.once("data", () =>
        drops(Object.assign(socket, socket.write("HTTP/1.1 200 OK\r\n")), "x: y\r\n".repeat(200))
      ),
    "BadResponse"
  )
  bad("sends a header that is too long", answers(`HTTP/1.1 200 OK\r\nx: ${"y".repeat(100_000)}`), "BadResponse")
  bad(
    "switches protocols unasked",
    answers("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nx"),
    "NetworkError headers"
  )
  bad(
    "tells two lengths",
    answers("HTTP/1.1 200 OK\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\nfour"),
    "BadResponse"
  )
  bad(
    "tells a length of chunks",
    answers("HTTP/1.1 200 OK\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n"),
    "BadResponse"
  )
  bad("tells a length that is none", answers("HTTP/1.1 200 OK\r\ncontent-length: four\r\n\r\nfour"), "BadResponse")
  bad(
    "sends chunks that are none",
    answers("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
    "BadResponse"
  )

  it.live("a second answer that nobody asked for is the answer to no request", () =>
    Effect.gen(function* () {
      const server = yield* Servers.raw(answers(four + four.replace(/four$/, "evil")))
      const session = yield* client()
      for (let n = 0; n < 5; n++) assert.strictEqual(yield* get(session, server.url), "four")
      assert.strictEqual(server.accepted(), 5)
    })
  )

  it.live("one that closes connections just when they are used again answers all who may ask twice", () =>
    Effect.gen(function* () {
      const server = yield* Servers.raw((socket) =>
        socket.on("data", () => socket.write(four, () => setImmediate(() => socket.destroy())))
      )
      const session = yield* client({ retry: { delay: "1 millis", burst: 200 } })
      for (let n = 0; n < 200; n++) assert.strictEqual(yield* get(session, server.url), "four")
    })
  )
})

describe("a body that is sent", () => {
  const bodies: ReadonlyArray<readonly [string, () => HttpBody.HttpBody]> = [
    ["a stream that fails", () => HttpBody.stream(Stream.concat(Stream.make(Buffer.from("a")), failing(Stream.fail)))],
    ["a stream that dies", () => HttpBody.stream(Stream.concat(Stream.make(Buffer.from("a")), failing(Stream.die)))]
  ]
  const failing = (how: (error: Error) => Stream.Stream<never, Error>) =>
    how(new Error("hunter2")) as Stream.Stream<never>
  for (const [name, body] of bodies) {
    it.live(`from ${name} is a BadRequest, not the network's fault, and its connection is closed`, () =>
      Effect.gen(function* () {
        const server = yield* Servers.http((request, response) => {
          request.resume().once("end", () => response.end("all"))
        })
        const session = yield* client()
        const error = yield* Effect.flip(session.execute(HttpClientRequest.post(server.url, { body: body() })))
        const { message, reason } = ClientError.from(error)
        assert.strictEqual(reason._tag, "BadRequest")
        assert.match(message, /its body, a stream, failed/)
        yield* server.allClosed
      })
    )
  }

  it.live("is let go of when the request is given up in line, also a Readable of Node", () =>
    Effect.gen(function* () {
      const server = yield* Servers.silent
      const { client, running } = yield* ClientSession.make({ retry: false, grace: 0, connectionsPerOrigin: 1 })
      yield* Effect.forkChild(Effect.ignore(get(client, server.url)), { startImmediately: true })
      yield* eventually(Effect.sync(server.sockets), (open) => open === 1)
      const body = Readable.from(["one", "two"])
      const post = HttpClientRequest.post(server.url, { body: HttpBody.raw(body) })
      const waiting = yield* Effect.forkChild(client.execute(post), { startImmediately: true })
      yield* eventually(Effect.sync(running), (count) => count === 2)
      yield* Fiber.interrupt(waiting)
      assert.isTrue(body.destroyed)
      assert.strictEqual(server.accepted(), 1)
    })
  )

  for (const status of [200, 303]) {
    it.live(`as a stream without an end is let go of when a ${status} comes first`, () =>
      Effect.gen(function* () {
        const server = yield* Servers.http((request, response) => {
          if (request.url === "/there") response.end("there")
          else response.writeHead(status, status === 303 ? { location: "/there" } : {}).end("here")
        })
        const session = yield* client()
        let isLetGo = false
        const pieces = Stream.mapEffect(Stream.range(1, 1e9), () => Effect.as(Effect.yieldNow, Buffer.from("x")))
        const body = HttpBody.stream(
          Stream.ensuring(
            pieces,
            Effect.sync(() => (isLetGo = true))
          )
        )
        const response = yield* session.execute(HttpClientRequest.post(server.url, { body }))
        assert.strictEqual(yield* response.text, status === 303 ? "there" : "here")
        yield* eventually(
          Effect.sync(() => isLetGo),
          (yes) => yes
        )
      })
    )
  }

  it.live("breaks off when the server resets: phase send", () =>
    Effect.gen(function* () {
      const server = yield* Servers.raw((socket) => socket.once("data", () => socket.resetAndDestroy()))
      const session = yield* client()
      const pieces = Stream.mapEffect(Stream.range(1, 1e9), () => Effect.as(Effect.yieldNow, Buffer.alloc(1000)))
      const post = HttpClientRequest.post(server.url, { body: HttpBody.stream(pieces) })
      assert.strictEqual(yield* outcomeOf(session.execute(post)), "NetworkError send")
      yield* server.allClosed
    })
  )
})

describe("an address", () => {
  it.live("of IPv6 is spoken to", () =>
    Effect.gen(function* () {
      const server = Http.createServer((_, response) => response.end("six"))
      server.listen(0, "::1")
      yield* Effect.promise(() => once(server, "listening"))
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close().closeAllConnections()))
      const { port } = server.address() as AddressInfo
      assert.strictEqual(yield* get(yield* client(), `http://[::1]:${port}/`), "six")
    })
  )

  it.live("that a redirect leads to with a password in it: the password is neither sent nor shown", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http(({ headers, url }, response) => {
        if (url === "/there") response.end(headers.authorization ?? "none")
        else response.writeHead(302, { location: `http://me:hunter2@${headers.host}/there` }).end()
      })
      const response = yield* (yield* client()).get(server.url)
      assert.strictEqual(response.url, `${server.url}/there`)
      assert.strictEqual(yield* response.text, "none")
    })
  )
})

describe("TLS that cannot be", () => {
  for (const [name, tls] of [
    ["a key that is none", { key: "hunter2" }],
    ["a certificate that is none", { cert: "hunter2" }]
  ] as const) {
    it.live(`${name}: refused when the session is made, without being repeated`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(client({ tls }))
        assert.deepInclude(error.reason, { _tag: "InvalidConfig", field: "tls" })
        assert.notInclude(error.message, "hunter2")
      })
    )
  }

  it.live("a server that speaks HTTP/2 only is told apart from one that is away", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http2Only
      assert.strictEqual(
        yield* outcomeOf(get(yield* client({ tls: { ca: Servers.ca() } }), server.url)),
        "NetworkError tls"
      )
      yield* server.allClosed
    })
  )
})
