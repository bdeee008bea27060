/**
 * What the bytes of an answer mean: what fetch takes them for. Both are asked over a bare connection.
 */
import { assert, describe, it } from "@effect/vitest"
import { fetch as fetchOfUndici } from "@effect/platform-node/Undici"
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import * as Redacted from "effect/Redacted"
import type { Socket } from "node:net"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import * as Servers from "../support/httpServers.ts"

/** A string of a character for each byte. */
const bytes = (text: string) => Buffer.from(text, "utf8").toString("latin1")

const answer = (status: string, headers: ReadonlyArray<string>, body = "") =>
  Buffer.from(
    [`HTTP/1.1 ${status}`, ...headers, `content-length: ${body.length}`, "connection: close", "", body].join("\r\n"),
    "latin1"
  )

/** Answers a request for `/dir/from?now` with bytes, and all others with their first line. */
const server = (first: Buffer) =>
  Servers.raw((socket: Socket) =>
    socket.once("data", (request: Buffer) => {
      const [line = ""] = request.toString("latin1").split("\r\n")
      socket.end(line === "GET /dir/from?now HTTP/1.1" ? first : answer("200 OK", [], line))
    })
  )

interface Seen {
  readonly status: number
  readonly url: string
  readonly text: string
  readonly json: unknown
  readonly headers: ReadonlyArray<readonly [string, string]>
}

const failed = "failed"

const client = Effect.map(ClientSession.make({ retry: false, grace: 0, reuse: "none" }), ({ client }) => client)

const seenByUs = (response: HttpClientResponse) =>
  Effect.gen(function* () {
    const text = yield* response.text
    const json: unknown = yield* Effect.orElseSucceed(response.json, () => failed)
    const { headers, status, url } = response
    const seen: Seen = { status, url, text, json, headers: Object.entries(headers).toSorted() }
    return seen
  })

const jsonOf = (text: string): unknown => {
  try {
    // No body is null for every client of Effect.
    return text === "" ? null : JSON.parse(text)
  } catch {
    return failed
  }
}

const seenByFetch = async (url: string): Promise<Seen | typeof failed> => {
  try {
    const response = await fetchOfUndici(url)
    const text = await response.text()
    const { headers, status } = response
    return { status, url: response.url, text, json: jsonOf(text), headers: [...headers].toSorted() }
  } catch {
    return failed
  }
}

/** What both make of an answer. */
const both = (first: Buffer) =>
  Effect.gen(function* () {
    const { url } = yield* server(first)
    const session = yield* client
    const asked = `${url}/dir/from?now#part`
    const ours = yield* Effect.orElseSucceed(Effect.flatMap(session.get(asked), seenByUs), () => failed)
    return { ours, theirs: yield* Effect.promise(() => seenByFetch(asked)) }
  })

const textOf = (seen: Seen | string) => (typeof seen === "string" ? seen : seen.text)

describe("where a Location leads", () => {
  const places: ReadonlyArray<readonly [name: string, location: string, path: string]> = [
    ["UTF-8", bytes("/café"), "/caf%C3%A9"],
    ["UTF-8 beyond the basic plane", bytes("/😀"), "/%F0%9F%98%80"],
    ["what is no UTF-8", "/caf\xe9", "/caf%EF%BF%BD"],
    ["UTF-8 and what is none", `${bytes("/é")}\xe9`, "/%C3%A9%EF%BF%BD"],
    ["UTF-8 in a query", bytes("?q=é"), "/dir/from?q=%C3%A9"],
    ["a space that does not break, in UTF-8", bytes("/x\u00a0"), "/x%C2%A0"],
    ["a byte order mark", bytes("\ufeff/x"), "/dir/%EF%BB%BF/x"],
    ["what is encoded already", "/caf%C3%A9", "/caf%C3%A9"],
    ["what is encoded and is no UTF-8", "/%ff", "/%ff"],
    ["a tab", "/a\tb", "/ab"],
    ["a path without a slash", "there", "/dir/there"],
    ["a path upwards", "../there", "/there"],
    ["a backslash", "\\there", "/there"],
    ["a fragment", bytes("/there#é"), "/there"]
  ]
  for (const [name, location, path] of places) {
    it.live(`that is ${name}: where fetch goes`, () =>
      Effect.gen(function* () {
        const { ours, theirs } = yield* both(answer("302 Found", [`Location: ${location}`]))
        assert.strictEqual(textOf(ours), `GET ${path} HTTP/1.1`)
        assert.deepStrictEqual(ours, theirs)
      })
    )
  }

  it.live("that is a host in UTF-8: to the name that it has in DNS", () =>
    Effect.gen(function* () {
      const { url } = yield* server(answer("302 Found", [`Location: ${bytes("//bücher.invalid/")}`]))
      const error = yield* Effect.flip((yield* client).get(`${url}/dir/from?now`))
      assert.deepInclude(ClientError.from(error).reason, { phase: "resolve", origin: "http://xn--bcher-kva.invalid" })
    })
  )

  // To the same place once more, as fetch does; who goes round for ever is stopped by `maxRedirects`.
  it.live("that is empty, or the fragment of the same place: round, and no further than allowed", () =>
    Effect.gen(function* () {
      for (const location of ["", "#there"]) {
        const { ours, theirs } = yield* both(answer("302 Found", [`Location: ${location}`]))
        assert.deepStrictEqual([ours, theirs], [failed, failed])
      }
    })
  )

  it.live("that has spaces around it: to the place without them", () =>
    Effect.gen(function* () {
      const { ours } = yield* both(answer("302 Found", ["Location:   /a b \t"]))
      assert.strictEqual(textOf(ours), "GET /a%20b HTTP/1.1")
    })
  )

  it.live("that is not there, or of a status that is no redirect: nowhere", () =>
    Effect.gen(function* () {
      for (const head of [answer("302 Found", []), answer("300 Multiple Choices", ["Location: /there"])]) {
        const { ours, theirs } = yield* both(head)
        assert.strictEqual(textOf(ours), "")
        assert.deepStrictEqual(ours, theirs)
      }
    })
  )

  it.live("that is there twice: to the one place they agree on, and nowhere where they do not", () =>
    Effect.gen(function* () {
      const { ours } = yield* both(answer("302 Found", ["Location: /there", "Location: /there"]))
      assert.strictEqual(textOf(ours), "GET /there HTTP/1.1")
      const { url } = yield* server(answer("302 Found", ["Location: /there", "Location: /elsewhere"]))
      const { message } = ClientError.from(yield* Effect.flip((yield* client).get(`${url}/dir/from?now`)))
      assert.include(message, "it redirects to more than one place")
    })
  )
})

describe("what the headers and the body of an answer say", () => {
  const same = (name: string, headers: ReadonlyArray<string>, body = "") =>
    it.live(`${name}: what fetch takes them for`, () =>
      Effect.gen(function* () {
        const { ours, theirs } = yield* both(answer("200 OK", headers, body))
        assert.notStrictEqual(theirs, failed)
        assert.deepStrictEqual(ours, theirs)
      })
    )
  same("a header in UTF-8", [`X-A: ${bytes("café")}`])
  same("a header in Latin-1", ["X-A: caf\xe9"])
  same("a header twice, and an empty one", ["x-a: 1", "X-A: 2", "x-b:"])
  same("headers that are named as what objects have", ["constructor: 1", "hasownproperty: 2", "tostring: 3"])
  same("a header __proto__", ["__proto__: 1", "x-a: 2"])
  same("JSON behind a byte order mark", ["content-type: application/json"], bytes('\ufeff{"a":"é"}'))
  same("JSON whose type is in capitals", ["Content-Type: APPLICATION/JSON ; Charset=UTF-8"], bytes('{"a":"é"}'))
  same("JSON that is said to be Latin-1", ["content-type: application/json; charset=iso-8859-1"], '{"a":"\xe9"}')
  same("JSON that is UTF-16", ["content-type: application/json; charset=utf-16"], "\xff\xfe{\0}\0")
  same("JSON without a type, with white space around it", [], " \r\n\t[1] \n")
  same("half of a surrogate pair in a JSON text", ["content-type: application/json"], '"\\ud800"')
  same("half of a surrogate pair as bytes", ["content-type: application/json"], '"\xed\xa0\x80"')
})

describe("a Retry-After", () => {
  const outcome = (asked: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      let requests = 0
      const server = yield* Servers.raw((socket) =>
        socket.once("data", () => {
          requests++
          socket.end(answer("503 Service Unavailable", requests === 1 ? asked : []))
        })
      )
      // So many milliseconds as are too many for any wait but none.
      const retry = { times: 1, delay: "1 millis", maxDelay: "500 millis" } as const
      const { client } = yield* ClientSession.make({ retry, grace: 0 })
      yield* Effect.flatMap(client.get(server.url), ({ text }) => text)
      return requests === 2 ? "again" : "stands"
    }).pipe(Effect.scoped) satisfies Effect.Effect<string, HttpClientError | ClientError>

  const hour = 3_600_000
  const at = (millis: number) => new Date(Date.now() + millis)
  const cases: ReadonlyArray<readonly [name: string, headers: () => ReadonlyArray<string>, expected: string]> = [
    ["of seconds with a space behind them", () => ["Retry-After: 3600 "], "stands"],
    ["of more seconds than a number holds", () => [`Retry-After: ${"9".repeat(40)}`], "stands"],
    ["that is a date", () => [`Retry-After: ${at(hour).toUTCString()}`], "stands"],
    ["that is a date in the past", () => [`Retry-After: ${at(-hour).toUTCString()}`], "again"],
    // RFC 9110, 5.6.7: the obsolete forms are to be understood, too.
    ["that is a date as asctime has it", () => ["Retry-After: Sun Nov  6 08:49:37 2089"], "stands"],
    [
      "that is a date by the clock of a server that is behind",
      () => [`Retry-After: ${at(-hour).toUTCString()}`, `Date: ${at(-2 * hour).toUTCString()}`],
      "stands"
    ],
    [
      "that is a date by the clock of a server that is ahead",
      () => [`Retry-After: ${at(hour).toUTCString()}`, `Date: ${at(hour).toUTCString()}`],
      "again"
    ],
    ["that is a date as no HTTP has it", () => ["Retry-After: 2089-11-06"], "again"],
    ["that is less than nothing, or nothing", () => ["Retry-After: -5"], "again"],
    ["that is empty", () => ["Retry-After:"], "again"]
  ]
  for (const [name, headers, expected] of cases) {
    it.live(`${name}: the answer ${expected === "stands" ? "stands" : "is asked for again"}`, () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* outcome(headers()), expected)
      })
    )
  }
})

describe("text that cannot be sent as it is", () => {
  const half = "\ud800"
  const requests: ReadonlyArray<readonly [name: string, (url: string) => HttpClientRequest.HttpClientRequest]> = [
    ["in a path", (url) => HttpClientRequest.get(`${url}/${half}`)],
    ["in the name of a parameter", (url) => HttpClientRequest.get(url, { urlParams: { [half]: "1" } })],
    ["in the value of a parameter", (url) => HttpClientRequest.get(url, { urlParams: { q: `a${half}` } })],
    ["in a parameter that is redacted", (url) => HttpClientRequest.get(url, { urlParams: { q: Redacted.make(half) } })],
    ["in a header", (url) => HttpClientRequest.get(url, { headers: { "x-a": half } })],
    ["in a raw body", (url) => HttpClientRequest.post(url, { body: HttpBody.raw(`a${half}`) })]
  ]
  for (const [name, request] of requests) {
    it.live(`half of a surrogate pair ${name} is a BadRequest, and nothing is sent`, () =>
      Effect.gen(function* () {
        const server = yield* Servers.good
        const error = yield* Effect.flip((yield* client).execute(request(server.url)))
        assert.strictEqual(ClientError.from(error).reason._tag, "BadRequest")
        assert.notInclude(error.message, half)
        assert.strictEqual(server.accepted(), 0)
      })
    )
  }

  it.live("in JSON it is sent as JSON writes it, and what is no half is sent as it is", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((request, response) => {
        request.pipe(response.writeHead(200, { "x-url": request.url ?? "" }))
      })
      const session = yield* client
      const sent = (body: HttpBody.HttpBody) =>
        Effect.flatMap(session.post(server.url, { body, urlParams: { q: "😀" } }), (response) => {
          assert.strictEqual(response.headers["x-url"], "/?q=%F0%9F%98%80")
          return response.text
        })
      assert.strictEqual(yield* sent(HttpBody.jsonUnsafe({ a: half })), '{"a":"\\ud800"}')
      assert.strictEqual(yield* sent(HttpBody.raw("é😀")), "é😀")
    })
  )
})
