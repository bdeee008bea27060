import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClient from "effect/http/HttpClient"
import { isTransientError } from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { AccessTokens } from "../../src/token/AccessTokens.ts"
import * as BearerClient from "../../src/token/BearerClient.ts"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import { makeMemory } from "../../src/token/TokenRepository.ts"
import * as Servers from "../support/httpServers.ts"
import { plainClient, tokensOf, twoStep } from "../support/tokens.ts"
import * as TokenServer from "../support/tokenServer.ts"

/** A client that carries alice's token and gets it with the same connections: its own, or plain ones. */
const clientOf = Effect.fnUntraced(function* (url: string, tokenServer = url, session?: Options) {
  const base = session === undefined ? yield* plainClient : (yield* ClientSession.make(session)).client
  const source = yield* Effect.provideService(twoStep(tokenServer), HttpClient.HttpClient, base)
  return yield* BearerClient.make({ origins: [url] }).pipe(
    Effect.provideService(HttpClient.HttpClient, base),
    Effect.provideService(AccessTokens, yield* tokensOf(source, yield* makeMemory))
  )
})

const world = Effect.gen(function* () {
  const server = yield* TokenServer.make
  return { server, client: yield* clientOf(server.url) }
})

const statusOf = <E>(response: Effect.Effect<{ readonly status: number }, E>) =>
  Effect.map(response, ({ status }) => status)

describe("BearerClient", () => {
  it.live("requests carry the token, which is got once", () =>
    Effect.gen(function* () {
      const { client, server } = yield* world
      const all = Array.from({ length: 100 }, (_, index) => statusOf(client.get(`${server.url}/api/${index}`)))
      const statuses = yield* Effect.all(all, { concurrency: "unbounded" })
      assert.deepStrictEqual(new Set(statuses), new Set([200]))
      assert.deepStrictEqual([server.counts.logins, server.counts.refreshes, server.counts.api], [1, 1, 100])
    }).pipe(Effect.scoped)
  )

  it.live("a thousand requests that meet a 401 cause one refresh, and each is sent once more", () =>
    Effect.gen(function* () {
      const { client, server } = yield* world
      yield* client.get(`${server.url}/api`)
      server.state.accessTokens.clear()
      const all = Array.from({ length: 1000 }, () => statusOf(client.post(`${server.url}/api`)))
      const statuses = yield* Effect.all(all, { concurrency: "unbounded" })
      assert.deepStrictEqual(new Set(statuses), new Set([200]))
      assert.strictEqual(server.counts.refreshes, 2)
      assert.isAtMost(server.counts.api, 2001)
    }).pipe(Effect.scoped)
  )

  it.live("a second 401 is the answer: never a loop", () =>
    Effect.gen(function* () {
      const { client, server } = yield* world
      server.state.rejectsAll = true
      assert.strictEqual(yield* statusOf(client.get(`${server.url}/api`)), 401)
      assert.strictEqual(server.counts.api, 2)
      assert.deepStrictEqual([server.counts.logins, server.counts.refreshes], [1, 2])
      for (const _ of Array.from({ length: 10 })) yield* client.get(`${server.url}/api`)
      assert.strictEqual(server.counts.refreshes, 2)
      assert.strictEqual(server.counts.api, 12)
    }).pipe(Effect.scoped)
  )

  it.live("nor is it one where each 401 may have a new token at once", () =>
    Effect.gen(function* () {
      const server = yield* TokenServer.make
      const base = yield* plainClient
      const source = yield* Effect.provideService(twoStep(server.url), HttpClient.HttpClient, base)
      const client = yield* BearerClient.make({ origins: [server.url] }).pipe(
        Effect.provideService(HttpClient.HttpClient, base),
        Effect.provideService(AccessTokens, yield* tokensOf(source, yield* makeMemory, { pause: 0 }))
      )
      server.state.rejectsAll = true
      assert.strictEqual(yield* statusOf(client.get(`${server.url}/api`)), 401)
      assert.deepStrictEqual([server.counts.api, server.counts.refreshes], [2, 2])
    }).pipe(Effect.scoped)
  )

  for (const [name, refusal] of [
    ["a short body", "no"],
    ["a long body", "n".repeat(300_000)],
    ["an endless body", undefined]
  ] as const) {
    it.live(`a 401 with ${name} holds no connection while another token is got over the same ones`, () =>
      Effect.gen(function* () {
        const server = yield* TokenServer.make
        const client = yield* clientOf(server.url, server.url, { connectionsPerOrigin: 1, retry: false })
        yield* Effect.flatMap(client.get(`${server.url}/api`), ({ text }) => text)
        server.state.accessTokens.clear()
        server.state.refusal = refusal
        const [took, status] = yield* Effect.timed(statusOf(client.get(`${server.url}/api`)))
        assert.strictEqual(status, 200)
        assert.isBelow(Duration.toMillis(took), 5000)
        assert.deepStrictEqual([server.counts.refreshes, server.counts.api], [2, 3])
      }).pipe(Effect.scoped)
    )
  }

  for (const reuse of ["none", "pooled"] as const) {
    it.live(
      `over a ${reuse} client session: one retry after a 401, never a loop, and no connection after its end`,
      () =>
        Effect.gen(function* () {
          const server = yield* TokenServer.make
          const scope = yield* Scope.make()
          const client = yield* Scope.provide(clientOf(server.url, server.url, { reuse, retry: false }), scope)
          const all = (path: string) =>
            Effect.all(
              Array.from({ length: 100 }, () => statusOf(client.get(`${server.url}/api/${path}`))),
              { concurrency: "unbounded" }
            )
          assert.deepStrictEqual(new Set(yield* all("good")), new Set([200]))
          assert.deepStrictEqual([server.counts.logins, server.counts.refreshes, server.counts.api], [1, 1, 100])
          server.state.accessTokens.clear()
          assert.deepStrictEqual(new Set(yield* all("withdrawn")), new Set([200]))
          assert.deepStrictEqual([server.counts.logins, server.counts.refreshes, server.counts.refused], [1, 2, 100])
          server.state.rejectsAll = true
          assert.deepStrictEqual(new Set(yield* all("refused")), new Set([401]))
          assert.deepStrictEqual([server.counts.logins, server.counts.refreshes], [1, 2])
          assert.isAtMost(server.counts.refused, 300)
          yield* Scope.close(scope, Exit.void)
          yield* server.allClosed
          const error = ClientError.from(yield* Effect.flip(client.get(`${server.url}/api`)))
          assert.strictEqual(error.reason._tag, "Closed")
        }).pipe(Effect.scoped)
    )
  }

  it.live("what the server says with the last 401 is there to be read, unless it is too long to be kept", () =>
    Effect.gen(function* () {
      const { client, server } = yield* world
      server.state.rejectsAll = true
      yield* client.get(`${server.url}/api`)
      // Now there is no other token, and the first answer is the last.
      const answer = client.get(`${server.url}/api?short`)
      const response = yield* answer
      assert.strictEqual(response.headers["content-type"], "application/json")
      assert.strictEqual(response.url, `${server.url}/api?short`)
      assert.deepStrictEqual(yield* response.json, { message: "no" })
      assert.strictEqual(server.counts.api, 3)
      server.state.refusal = "n".repeat(300_000)
      const long = yield* answer
      assert.strictEqual(long.status, 401)
      const error = yield* Effect.flip(long.text)
      assert.strictEqual(error.reason._tag, "DecodeError")
      assert.match(String(error.reason.cause), /401 is longer than 65536 bytes/)
    }).pipe(Effect.scoped)
  )

  it.live("where a rejected token cannot be replaced the error says why", () =>
    Effect.gen(function* () {
      const { client, server } = yield* world
      yield* client.get(`${server.url}/api`)
      server.state.accessTokens.clear()
      server.state.mood = { status: 503, body: "" }
      const error = ClientError.from(yield* Effect.flip(client.get(`${server.url}/api`)))
      assert.strictEqual(error.reason._tag, "RefreshFailed")
      assert.match(error.message, /it answered 503\. The last one, \d s old, is over since 0 s\. Try again later/)
      yield* Effect.flip(client.get(`${server.url}/api`))
      assert.deepStrictEqual([server.counts.api, server.counts.refreshes], [2, 2])
    }).pipe(Effect.scoped)
  )

  it.live("a body is sent again, a stream is not, and its token is replaced for the next one", () =>
    Effect.gen(function* () {
      const { client, server } = yield* world
      const post = HttpClientRequest.post(`${server.url}/api`)
      yield* client.execute(post)
      server.state.accessTokens.clear()
      const streamed = HttpClientRequest.bodyStream(post, Stream.succeed(new Uint8Array([1])))
      assert.strictEqual(yield* statusOf(client.execute(streamed)), 401)
      assert.strictEqual(yield* statusOf(client.execute(streamed)), 200)
      assert.strictEqual(yield* statusOf(client.execute(HttpClientRequest.bodyText(post, "again"))), 200)
      assert.strictEqual(server.counts.refreshes, 2)
    }).pipe(Effect.scoped)
  )

  it.live("other origins never see the token, and a request with credentials of its own keeps them", () =>
    Effect.gen(function* () {
      const { client, server } = yield* world
      const other = yield* TokenServer.make
      assert.strictEqual(yield* statusOf(client.get(`${other.url}/api`)), 401)
      assert.strictEqual(yield* statusOf(client.get(`${server.url.replace("127.0.0.1", "localhost")}/api`)), 401)
      const own = { headers: { authorization: "Bearer mine" } }
      assert.strictEqual(yield* statusOf(client.get(`${server.url}/api`, own)), 401)
      assert.strictEqual(server.counts.logins, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a 401 of a server that a redirect led to says nothing about the token, which did not go there", () =>
    Effect.gen(function* () {
      const [server, other] = [yield* TokenServer.make, yield* TokenServer.make]
      const client = yield* clientOf(server.url, server.url, { retry: false })
      const response = yield* client.get(`${server.url}/api?redirect=${encodeURIComponent(`${other.url}/api`)}`)
      assert.strictEqual(response.status, 401)
      assert.strictEqual(yield* statusOf(client.get(`${server.url}/api`)), 200)
      assert.deepStrictEqual([server.counts.refreshes, other.counts.refused], [1, 1])
    }).pipe(Effect.scoped)
  )

  it.live("nor does that of one that would get the token by itself", () =>
    Effect.gen(function* () {
      const [server, other] = [yield* TokenServer.make, yield* TokenServer.make]
      const { client: base } = yield* ClientSession.make({ retry: false })
      const source = yield* Effect.provideService(twoStep(server.url), HttpClient.HttpClient, base)
      const client = yield* BearerClient.make({ origins: [server.url, other.url] }).pipe(
        Effect.provideService(HttpClient.HttpClient, base),
        Effect.provideService(AccessTokens, yield* tokensOf(source, yield* makeMemory))
      )
      const response = yield* client.get(`${server.url}/api?redirect=${encodeURIComponent(`${other.url}/api`)}`)
      assert.strictEqual(response.status, 401)
      assert.deepStrictEqual([server.counts.refreshes, other.counts.refused], [1, 1])
    }).pipe(Effect.scoped)
  )

  it.live("a base URL may be put in front of what it is asked for", () =>
    Effect.gen(function* () {
      const { client, server } = yield* world
      const based = HttpClient.mapRequest(client, HttpClientRequest.prependUrl(server.url))
      assert.strictEqual(yield* statusOf(based.get("/api")), 200)
    }).pipe(Effect.scoped)
  )

  it.live("where there is no token nothing is sent, the cause says why, and only what may pass is retried", () =>
    Effect.gen(function* () {
      const server = yield* TokenServer.make
      for (const [status, tag, mayPass] of [
        [400, "TokenRefused", false],
        [503, "RefreshFailed", true]
      ] as const) {
        server.state.mood = { status, body: "" }
        const error = yield* Effect.flip((yield* clientOf(server.url)).get(`${server.url}/api?secret=x`))
        const { cause } = error
        assert.strictEqual(cause instanceof ClientError && cause.reason._tag, tag)
        assert.strictEqual(isTransientError(error), mayPass)
      }
      assert.strictEqual(server.counts.api, 0)
    }).pipe(Effect.scoped)
  )

  it.live("a 401 that is the answer, because there is no other token, still has the cookies it came with", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((_, response) => {
        const cookies = ["a=1; Expires=Sun, 06 Nov 2089 08:49:37 GMT", "b=2; HttpOnly"]
        response.writeHead(401, { "set-cookie": cookies }).end("no")
      })
      const token = { value: Redacted.make("t") }
      const tokens = AccessTokens.of({
        get: Effect.succeed(token),
        refresh: Effect.succeed(token),
        invalidate: () => Effect.void
      })
      const client = yield* BearerClient.make({ origins: [server.url] }).pipe(
        Effect.provideService(AccessTokens, tokens),
        Effect.provideService(HttpClient.HttpClient, yield* plainClient)
      )
      const response = yield* client.get(server.url)
      assert.deepStrictEqual([response.status, yield* response.text], [401, "no"])
      assert.deepStrictEqual(Object.keys(response.cookies.cookies), ["a", "b"])
    }).pipe(Effect.scoped)
  )

  it.live("an origin that is none is refused", () =>
    Effect.gen(function* () {
      for (const origin of ["example.com", "https://example.com/path", "mailto:x"]) {
        const error = yield* Effect.flip(clientOf(origin, "http://127.0.0.1:1"))
        assert.match(error.message, /origins must each be given as https:\/\/host/)
      }
    }).pipe(Effect.scoped)
  )
})
