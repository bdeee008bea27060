/** What lies just on one side of a limit or a rule of outgoing HTTP, and just on the other. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Stream from "effect/Stream"
import { randomBytes } from "node:crypto"
import type * as Http from "node:http"
import * as Zlib from "node:zlib"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import * as ClientRetries from "../../src/client/internal/ClientRetries.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import * as Servers from "../support/httpServers.ts"

const client = (options: Options = {}) =>
  Effect.map(ClientSession.make({ retry: false, grace: 0, ...options }), ({ client }) => client)

const messageOf = (work: Effect.Effect<unknown, HttpClientError>) =>
  Effect.map(Effect.flip(work), (error) => ClientError.from(error).message)

/** Redirects everything but `/there`, and remembers what was asked there. */
const redirecting = (status: number, to: (request: Http.IncomingMessage) => string) =>
  Effect.gen(function* () {
    const seen: Array<Http.IncomingMessage> = []
    const server = yield* Servers.http((request, response) => {
      request.resume()
      if (request.url !== "/there") return void response.writeHead(status, { location: to(request) }).end()
      seen.push(request)
      response.end("there")
    })
    return { url: server.url, seen }
  })

describe("a redirect", () => {
  it.live("takes the name of the host from where it leads, though the request had one of its own", () =>
    Effect.gen(function* () {
      const { seen, url } = yield* redirecting(302, () => "/there")
      yield* (yield* client()).get(url, { headers: { host: "elsewhere.example" } })
      assert.strictEqual(seen[0]?.headers.host, new URL(url).host)
    })
  )

  it.live("that turns into a GET takes nothing along of what was said about the body", () =>
    Effect.gen(function* () {
      const { seen, url } = yield* redirecting(303, () => "/there")
      const headers = { "content-language": "de", "content-location": "/x", "content-encoding": "identity" }
      const request = HttpClientRequest.post(url, { body: HttpBody.text("body"), headers })
      assert.strictEqual(yield* Effect.flatMap((yield* client()).execute(request), ({ text }) => text), "there")
      const names = Object.keys(seen[0]?.headers ?? {})
      assert.deepStrictEqual(
        names.filter((name) => name.startsWith("content-")),
        []
      )
    })
  )

  it.live("of 303 leaves a HEAD one", () =>
    Effect.gen(function* () {
      const { seen, url } = yield* redirecting(303, () => "/there")
      yield* (yield* client()).head(url)
      assert.strictEqual(seen[0]?.method, "HEAD")
    })
  )

  it.live("gives no retries back", () =>
    Effect.gen(function* () {
      let asked = 0
      const server = yield* Servers.http((request, response) => {
        asked++
        // Fails before each step on the way.
        if (asked % 2 === 1) return void response.writeHead(503).end()
        response.writeHead(302, { location: `/${asked}` }).end()
      })
      const session = yield* client({ retry: { times: 2, delay: "1 millis" } })
      assert.strictEqual((yield* session.get(server.url)).status, 503)
      assert.strictEqual(asked, 5)
    })
  )
})

describe("a body", () => {
  it.live("of exactly as many bytes as allowed is let in", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((_, response) => void response.end(Buffer.alloc(1000)))
      const sized = (maxResponseBytes: number) =>
        Effect.flatMap(client({ maxResponseBytes }), (session) =>
          Effect.flatMap(session.get(server.url), ({ arrayBuffer }) => arrayBuffer)
        )
      assert.strictEqual((yield* sized(1000)).byteLength, 1000)
      assert.include(yield* messageOf(sized(999) as Effect.Effect<unknown, HttpClientError>), "999 bytes")
    })
  )

  it.live("that is compressed is counted by what it decodes to, though it came as more", () =>
    Effect.gen(function* () {
      const body = Zlib.gzipSync(randomBytes(1000))
      assert.isAbove(body.length, 1000)
      const server = yield* Servers.http((_, response) => {
        response.writeHead(200, { "content-encoding": "gzip", "content-length": body.length }).end(body)
      })
      const { arrayBuffer } = yield* (yield* client({ maxResponseBytes: 1000 })).get(server.url)
      assert.strictEqual((yield* arrayBuffer).byteLength, 1000)
    })
  )

  it.live("that is none is not decoded, whatever is said of it", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((_, response) => {
        response.writeHead(200, { "content-encoding": "compress", "content-length": 5 }).end()
      })
      const response = yield* (yield* client()).head(server.url)
      assert.strictEqual(response.headers["content-encoding"], "compress")
      assert.strictEqual(yield* response.text, "")
    })
  )

  it.live("in three codings is refused, and deflate in another is decoded", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((request, response) => {
        const isTwo = request.url === "/two"
        const body = isTwo ? Zlib.gzipSync(Zlib.deflateSync("two")) : "three"
        response.writeHead(200, { "content-encoding": isTwo ? "deflate, gzip" : "gzip, gzip, gzip" }).end(body)
      })
      const session = yield* client()
      assert.strictEqual(yield* Effect.flatMap(session.get(`${server.url}/two`), ({ text }) => text), "two")
      assert.include(yield* messageOf(session.get(server.url)), "not asked for")
    })
  )

  it.live("can be taken in as a stream once, and as a form whose first name begins with a question mark", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((_, response) => void response.end("?a=1&b=2"))
      const session = yield* client()
      const response = yield* session.get(server.url)
      yield* Stream.runDrain(response.stream)
      for (const again of [Stream.runDrain(response.stream), response.text]) {
        assert.match(yield* messageOf(again), /taken in .*before/)
      }
      const { urlParamsBody } = yield* session.get(server.url)
      const { params } = yield* urlParamsBody
      assert.deepStrictEqual(params, [
        ["?a", "1"],
        ["b", "2"]
      ])
    })
  )
})

it.live("a cookie of the jar goes beside the one that the request has", () =>
  Effect.gen(function* () {
    const server = yield* Servers.http(({ headers }, response) => void response.end(headers.cookie))
    const session = yield* client({ cookies: { cookieFor: () => "jar=1", keep: () => undefined } })
    const { text } = yield* session.get(server.url, { headers: { cookie: "own=2" } })
    assert.strictEqual(yield* text, "own=2; jar=1")
  })
)

it.live("an upgrade is refused with what to use instead", () =>
  Effect.gen(function* () {
    const asked = (yield* client()).get("http://127.0.0.1:1", { headers: { upgrade: "websocket" } })
    assert.include(yield* messageOf(asked), "NodeHttpClient")
  })
)

describe("retries", () => {
  it("follow 429, 502, 503 and 504, and no other status", () => {
    const statuses = [400, 408, 425, 429, 500, 501, 502, 503, 504, 505]
    assert.deepStrictEqual(statuses.filter(ClientRetries.isTransientStatus), [429, 502, 503, 504])
  })

  it("wait for no longer than the longest wait, and for no less than half of theirs", () => {
    const limits = { times: 2, delay: 100, maxDelay: 300, ratio: 0.1, burst: 10 }
    for (let n = 0; n < 200; n++) {
      for (const [retry, most] of [
        [1, 100],
        [2, 200],
        [3, 300],
        [9, 300]
      ] as const) {
        const millis = ClientRetries.delayMillis(limits, retry)
        assert.isTrue(millis > most / 2 - 1 && millis <= most, `${retry}: ${millis}`)
      }
    }
  })

  it("are paid for by requests, and good times save up no more than the burst", () => {
    const budget = ClientRetries.makeBudget({ times: 2, delay: 1, maxDelay: 1, ratio: 0.5, burst: 3 })
    const taken = () => {
      let count = 0
      while (budget.withdraw()) count++
      return count
    }
    assert.strictEqual(taken(), 3)
    for (let n = 0; n < 4; n++) budget.deposit()
    assert.strictEqual(taken(), 2)
    for (let n = 0; n < 100; n++) budget.deposit()
    assert.strictEqual(taken(), 3)
  })

  it.live("are paid for by the requests of a session, and wait as long as Retry-After asks", () =>
    Effect.gen(function* () {
      let asked = 0
      const server = yield* Servers.http(({ url }, response) => {
        asked++
        if (url === "/fine") response.end()
        else if (asked === 1) response.writeHead(503, { "retry-after": "1" }).end()
        else response.writeHead(503).end()
      })
      const session = yield* client({ retry: { times: 1, delay: "1 millis", burst: 1, ratio: 0.5 } })
      const began = performance.now()
      yield* session.get(server.url)
      assert.isAtLeast(performance.now() - began, 990)
      assert.strictEqual(asked, 2)
      yield* session.get(`${server.url}/fine`)
      yield* session.get(server.url)
      assert.strictEqual(asked, 5)
    })
  )
})
