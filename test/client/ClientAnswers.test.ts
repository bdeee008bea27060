import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpBody from "effect/http/HttpBody"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as Stream from "effect/Stream"
import type * as Http from "node:http"
import * as Zlib from "node:zlib"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { CookieJar, Options } from "../../src/client/internal/ClientSessionOptions.ts"
import * as Servers from "../support/httpServers.ts"

const client = (options: Options = {}) =>
  Effect.map(ClientSession.make({ retry: false, grace: 0, ...options }), ({ client }) => client)

const text = (client: HttpClient.HttpClient, url: string | HttpClientRequest.HttpClientRequest) =>
  Effect.flatMap(typeof url === "string" ? client.get(url) : client.execute(url), ({ text }) => text)

const problemOf = (work: Effect.Effect<unknown, HttpClientError>) =>
  Effect.map(Effect.flip(work), (error) => {
    const { reason } = ClientError.from(error)
    return "problem" in reason ? `${reason._tag}: ${reason.problem}` : reason._tag
  })

const echo = Servers.http((request, response) => {
  const pieces: Array<Buffer> = []
  request.on("data", (piece: Buffer) => pieces.push(piece))
  request.on("end", () => {
    const { headers, method, url } = request
    response.setHeader("content-type", "application/json")
    response.end(JSON.stringify({ method, url, headers, body: Buffer.concat(pieces).toString() }))
  })
})

const echoed = (client: HttpClient.HttpClient, request: HttpClientRequest.HttpClientRequest) =>
  Effect.map(text(client, request), (text): Echo => JSON.parse(text))

interface Echo {
  readonly method: string
  readonly url: string
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

const codings = {
  gzip: Zlib.gzipSync,
  deflate: Zlib.deflateSync,
  br: Zlib.brotliCompressSync,
  zstd: Zlib.zstdCompressSync
}

describe("a body", () => {
  for (const [coding, compress] of [...Object.entries(codings), ["deflate", Zlib.deflateRawSync] as const]) {
    it.live(`in ${coding} (${compress.name}) is decompressed, whole and as a stream`, () =>
      Effect.gen(function* () {
        const plain = "holdfast ".repeat(50_000)
        const server = yield* Servers.http((_, response) => {
          response.writeHead(200, { "content-encoding": coding }).end(compress(plain))
        })
        const session = yield* client()
        const response = yield* session.get(server.url)
        assert.strictEqual(yield* response.text, plain)
        assert.strictEqual(yield* response.text, plain)
        assert.isUndefined(response.headers["content-encoding"])
        const streamed = yield* Stream.mkString(Stream.decodeText((yield* session.get(server.url)).stream))
        assert.strictEqual(streamed, plain)
      })
    )

    it.live(`in ${coding} (${compress.name}) that is cut short or no such thing is refused`, () =>
      Effect.gen(function* () {
        const whole = compress("holdfast ".repeat(50))
        const server = yield* Servers.http((request, response) => {
          const body = request.url === "/short" ? whole.subarray(0, -5) : Buffer.from("\x0f\x0fno such thing")
          response.writeHead(200, { "content-encoding": coding }).end(body)
        })
        const session = yield* client()
        for (const path of ["/short", "/wrong"]) {
          const problem = yield* problemOf(text(session, server.url + path))
          assert.strictEqual(problem, `BadResponse: its body is not valid ${coding}`)
        }
      })
    )

    it.live(`in ${coding} (${compress.name}) that is a bomb is refused, and its connection closed`, () =>
      Effect.gen(function* () {
        const bomb = compress(Buffer.alloc(20_000_000))
        const server = yield* Servers.http((_, response) => {
          response.writeHead(200, { "content-encoding": coding }).end(bomb)
        })
        const session = yield* client({ maxResponseBytes: 1_000_000 })
        assert.include(yield* problemOf(text(session, server.url)), "more than the 1000000 bytes")
        const drained = Effect.flatMap(session.get(server.url), ({ stream }) => Stream.runDrain(stream))
        assert.include(yield* problemOf(drained), "more than the 1000000 bytes")
      })
    )
  }

  it.live("in two codings is decompressed; in one that was not asked for it is refused", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((request, response) => {
        const coding = request.url === "/two" ? "gzip, br" : "compress"
        response.writeHead(200, { "content-encoding": coding }).end(Zlib.brotliCompressSync(Zlib.gzipSync("two")))
      })
      const session = yield* client()
      assert.strictEqual(yield* text(session, `${server.url}/two`), "two")
      assert.include(yield* problemOf(text(session, server.url)), "not asked for")
    })
  )

  it.live("that is too large is refused by its length, or as it comes", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((request, response) => {
        if (request.url === "/told") response.setHeader("content-length", 1001)
        response.write(Buffer.alloc(500))
        response.end(Buffer.alloc(501))
      })
      const session = yield* client({ maxResponseBytes: 1000 })
      for (const path of ["/told", "/untold"]) {
        assert.include(yield* problemOf(text(session, server.url + path)), "more than the 1000 bytes")
      }
      assert.strictEqual((yield* (yield* client()).get(`${server.url}/told`)).status, 200)
    })
  )

  it.live("that nobody reads waits in the network", () =>
    Effect.gen(function* () {
      let written = 0
      const server = yield* Servers.http((_, response) => {
        const more = () => {
          do written += 65_536
          while (response.write(Buffer.alloc(65_536)))
        }
        response.on("drain", more)
        more()
      })
      const session = yield* client({ bodyTimeout: "1 second" })
      const response = yield* session.get(server.url)
      // A body that the server keeps waiting is late in the meantime, one that the reader keeps waiting is not.
      const stalled = yield* Servers.http((_, stall) => stall.writeHead(200).write("begun"))
      assert.include(yield* problemOf(text(session, stalled.url)), "Timeout")
      const before = written
      assert.isAtMost(before, 20_000_000)
      const taken = yield* Stream.runFold(
        Stream.take(response.stream, 1000),
        () => 0,
        (sum, piece) => sum + piece.length
      )
      assert.isAtLeast(taken, 1000)
      yield* server.allClosed
    })
  )

  it.live("that is no HTTP, or shorter than it said, is told apart", () =>
    Effect.gen(function* () {
      const garbage = yield* Servers.raw((socket) => socket.once("data", () => socket.end("SSH-2.0-OpenSSH\r\n")))
      const short = yield* Servers.raw((socket) =>
        socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfour"))
      )
      const session = yield* client()
      assert.include(yield* problemOf(text(session, garbage.url)), "BadResponse: it is not valid HTTP")
      assert.strictEqual(yield* problemOf(text(session, short.url)), "NetworkError")
    })
  )

  it.live("that is not JSON is refused without being repeated", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((_, response) => response.end("hunter2"))
      const session = yield* client()
      const problem = yield* problemOf(Effect.flatMap(session.get(server.url), ({ json }) => json))
      assert.strictEqual(problem, "BadResponse: its body is not JSON")
    })
  )

  it.live("is sent as text, as bytes, as a form and as a stream", () =>
    Effect.gen(function* () {
      const server = yield* echo
      const session = yield* client()
      const post = HttpClientRequest.post(server.url)
      const sent = (request: HttpClientRequest.HttpClientRequest) =>
        Effect.map(echoed(session, request), ({ body }) => body)
      assert.strictEqual(yield* sent(HttpClientRequest.bodyText(post, "text")), "text")
      assert.strictEqual(yield* sent(HttpClientRequest.bodyUint8Array(post, Buffer.from("bytes"))), "bytes")
      const form = new FormData()
      form.append("field", "value")
      assert.include(yield* sent(HttpClientRequest.bodyFormData(post, form)), "value")
      const stream = Stream.make(Buffer.from("one "), Buffer.from("two"))
      assert.strictEqual(yield* sent(HttpClientRequest.setBody(post, HttpBody.stream(stream))), "one two")
    })
  )
})

describe("a redirect", () => {
  const redirecting = (status: number, to: () => string) =>
    Servers.http((_, response) => {
      response.writeHead(status, { location: to() }).end()
    })

  const after = (status: number, method: "GET" | "POST" | "PUT" | "HEAD") =>
    Effect.gen(function* () {
      const target = yield* echo
      const server = yield* redirecting(status, () => `${target.url}/there`)
      const session = yield* client()
      const request = HttpClientRequest.make(method)(server.url, {
        headers: { authorization: "Bearer hunter2", cookie: "a=b", "x-mine": "1" },
        body: method === "POST" || method === "PUT" ? HttpBody.text("body") : HttpBody.empty
      })
      return yield* echoed(session, request)
    })

  it.live("turns a POST into a GET for 301, 302 and 303, and nothing for 307 and 308", () =>
    Effect.gen(function* () {
      for (const status of [301, 302, 303]) {
        assert.deepInclude(yield* after(status, "POST"), { method: "GET", url: "/there", body: "" })
      }
      for (const status of [307, 308]) {
        assert.deepInclude(yield* after(status, "POST"), { method: "POST", url: "/there", body: "body" })
      }
      assert.deepInclude(yield* after(302, "PUT"), { method: "PUT", body: "body" })
      const { headers } = yield* after(303, "PUT")
      assert.isUndefined(headers["content-length"])
    })
  )

  it.live("to another origin takes no credentials along", () =>
    Effect.gen(function* () {
      const { headers } = yield* after(302, "GET")
      assert.isUndefined(headers.authorization)
      assert.isUndefined(headers.cookie)
      assert.strictEqual(headers["x-mine"], "1")
    })
  )

  it.live("from https to http on the same host and port takes none along, and back neither", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const server = yield* Servers.both((request, response) => {
        const isSecure = "encrypted" in request.socket
        seen.push(
          `${isSecure ? "https" : "http"} ${request.headers.authorization ?? ""}${request.headers.cookie ?? ""}`
        )
        const { host } = request.headers
        if (request.url === "/there") response.end("there")
        else response.writeHead(302, { location: `${isSecure ? "http" : "https"}://${host}/there` }).end()
      })
      const session = yield* client({ tls: { ca: Servers.ca() } })
      for (const scheme of ["https", "http"]) {
        const url = server.url.replace(/^http/, scheme)
        const request = HttpClientRequest.get(url, { headers: { authorization: "Bearer hunter2", cookie: "a=b" } })
        assert.strictEqual(yield* text(session, request), "there")
      }
      assert.deepStrictEqual(seen, ["https Bearer hunter2a=b", "http ", "http Bearer hunter2a=b", "https "])
    })
  )

  it.live("to the same origin does", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((request, response) => {
        if (request.url === "/there") response.end(request.headers.authorization)
        else response.writeHead(302, { location: "/there#part" }).end("gone")
      })
      const session = yield* client()
      const request = HttpClientRequest.get(server.url, { headers: { authorization: "Bearer mine" } })
      const response = yield* session.execute(request)
      assert.strictEqual(yield* response.text, "Bearer mine")
      assert.strictEqual(response.url, `${server.url}/there`)
    })
  )

  it.live("whose own body never ends is let go of with the call", () =>
    Effect.gen(function* () {
      const target = yield* Servers.good
      const server = yield* Servers.http((_, response) => {
        response.writeHead(302, { location: target.url, "content-length": 10 }).write("half")
      })
      const session = yield* client()
      assert.strictEqual(yield* text(session, server.url), "GET /")
      yield* server.allClosed
    })
  )

  for (const [name, headers] of [
    ["of more than 64 KiB", { "content-length": 64 * 1024 + 1 }],
    ["of a length that nobody knows", {}]
  ] as const) {
    it.live(`whose own body is one ${name} has its connection closed, though the call goes on`, () =>
      Effect.gen(function* () {
        const target = yield* Servers.http((_, response) => {
          response.writeHead(200).write("begun")
        })
        const server = yield* Servers.http((_, response) => {
          response.writeHead(302, { location: target.url, ...headers }).write("begun")
        })
        const session = yield* ClientSession.make({ retry: false, grace: 0 })
        yield* session.client.get(server.url)
        yield* server.allClosed
        assert.strictEqual(session.running(), 1)
      })
    )
  }

  it.live("whose own body is a shorter one leaves its connection to the next", () =>
    Effect.gen(function* () {
      const body = "x".repeat(64 * 1024)
      const server = yield* Servers.http((request, response) => {
        if (request.url === "/there") response.end("there")
        else response.writeHead(302, { location: "/there", "content-length": body.length }).end(body)
      })
      const session = yield* client({ connectionsPerOrigin: 1 })
      assert.strictEqual(yield* text(session, server.url), "there")
      assert.strictEqual(server.accepted(), 1)
    })
  )

  it.live("for ever, to nowhere or of a stream is refused; with none allowed it is handed on", () =>
    Effect.gen(function* () {
      const endless = yield* Servers.redirecting
      const session = yield* client({ maxRedirects: 3 })
      assert.include(yield* problemOf(text(session, endless.url)), "after 3 redirects")
      assert.isAtMost(endless.accepted(), 5)
      for (const to of ["ftp://there/", "http://[", "javascript:alert(1)"]) {
        const server = yield* redirecting(302, () => to)
        assert.include(yield* problemOf(text(session, server.url)), "no http or https URL")
      }
      const server = yield* redirecting(307, () => "/")
      const stream = HttpBody.stream(Stream.make(Buffer.from("once")))
      const post = HttpClientRequest.setBody(HttpClientRequest.post(server.url), stream)
      assert.include(yield* problemOf(text(session, post)), "cannot be sent again")
      assert.strictEqual((yield* (yield* client({ maxRedirects: 0 })).get(endless.url)).status, 302)
    })
  )
})

describe("a retry", () => {
  const flaky = (failures: number, fail: (response: Http.ServerResponse) => void) =>
    Effect.gen(function* () {
      let asked = 0
      const server = yield* Servers.http((_, response) =>
        ++asked <= failures ? fail(response) : response.end("at last")
      )
      return { ...server, asked: () => asked }
    })
  const soon = { delay: "5 millis", maxDelay: "1 second" } as const
  const reset = (response: Http.ServerResponse) => void response.socket?.destroy()
  const busy = (response: Http.ServerResponse) => void response.writeHead(503, { "retry-after": "0" }).end("busy")

  it.live("follows a broken connection and a busy server, twice", () =>
    Effect.gen(function* () {
      const session = yield* client({ retry: soon })
      for (const fail of [reset, busy]) {
        const server = yield* flaky(2, fail)
        assert.strictEqual(yield* text(session, server.url), "at last")
        assert.strictEqual(server.asked(), 3)
      }
      const dead = yield* flaky(9, reset)
      assert.strictEqual(yield* problemOf(text(session, dead.url)), "NetworkError")
      assert.strictEqual(dead.asked(), 3)
    })
  )

  it.live("does not follow a POST, a stream, or a Retry-After beyond the longest wait", () =>
    Effect.gen(function* () {
      const session = yield* client({ retry: soon })
      const post = yield* flaky(9, reset)
      yield* problemOf(text(session, HttpClientRequest.post(post.url)))
      assert.strictEqual(post.asked(), 1)
      const put = yield* flaky(9, reset)
      const stream = HttpBody.stream(Stream.make(Buffer.from("once")))
      yield* problemOf(text(session, HttpClientRequest.setBody(HttpClientRequest.put(put.url), stream)))
      assert.strictEqual(put.asked(), 1)
      const later = yield* flaky(9, (response) => void response.writeHead(503, { "retry-after": "3600" }).end("later"))
      assert.strictEqual((yield* session.get(later.url)).status, 503)
      assert.strictEqual(later.asked(), 1)
    })
  )

  it.live("is part of the total time, and ends with the session", () =>
    Effect.gen(function* () {
      const server = yield* flaky(9, (response) => void response.writeHead(503, { "retry-after": "1" }).end())
      const session = yield* client({ retry: { maxDelay: "10 seconds" }, timeout: "50 millis" })
      assert.strictEqual(yield* problemOf(text(session, server.url)), "Timeout")
    })
  )

  it.live("a server in trouble gets few of them: the budget of the session", () =>
    Effect.gen(function* () {
      const server = yield* flaky(Infinity, busy)
      const session = yield* client({ retry: { ...soon, burst: 5, ratio: 0.1 } })
      yield* Effect.forEach(Array.from({ length: 50 }), () => text(session, server.url), { concurrency: 10 })
      assert.isAtLeast(server.asked(), 55)
      assert.isAtMost(server.asked(), 60)
    })
  )
})

describe("cookies", () => {
  it.live("go through the jar of the session, on redirects too, to the origin they are for", () =>
    Effect.gen(function* () {
      const kept = new Map<string, string>()
      const jar: CookieJar = {
        cookieFor: (url) => kept.get(url.origin),
        keep: (url, [first]) => void kept.set(url.origin, first?.split(";")[0] ?? "")
      }
      const target = yield* echo
      const server = yield* Servers.http((request, response) => {
        const location = request.url === "/1" ? "/2" : target.url
        response.writeHead(302, { location, "set-cookie": `at=${request.headers.cookie ?? "first"}; Path=/` }).end()
      })
      const session = yield* client({ cookies: jar })
      const { headers } = yield* echoed(session, HttpClientRequest.get(`${server.url}/1`))
      assert.isUndefined(headers.cookie)
      assert.deepStrictEqual([...kept], [[server.url, "at=at=first"]])
    })
  )
})
