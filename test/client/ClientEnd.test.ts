/**
 * What holds until the very end of a session, and what the end itself is worth.
 */
import { Agent } from "@effect/platform-node/Undici"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/internal/ClientSessionOptions.ts"
import { closeErrors } from "../../src/client/internal/ClientSockets.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"

const get = (client: HttpClient.HttpClient, url: string) => Effect.flatMap(client.get(url), ({ text }) => text)

describe("while a session ends", () => {
  const limits: ReadonlyArray<
    readonly [string, Options, "http" | "https", Effect.Effect<Servers.TestServer, never, Scope.Scope>]
  > = [
    ["timeout", { timeout: "1 second" }, "http", Servers.silent],
    ["headersTimeout", { headersTimeout: "1 second" }, "http", Servers.silent],
    [
      "bodyTimeout",
      { bodyTimeout: "1 second" },
      "http",
      Servers.http((_, response) => response.writeHead(200).write("begun"))
    ],
    ["connectTimeout", { connectTimeout: "1 second" }, "https", Servers.silent]
  ]
  for (const [name, options, scheme, server] of limits) {
    it.live(`a running request still has its ${name}, and the end does not wait for longer`, () =>
      Effect.gen(function* () {
        const { allClosed, sockets, url } = yield* server
        const session = yield* ClientSession.make({ ...options, retry: false, grace: "10 seconds" })
        const running = yield* Effect.forkChild(Effect.flip(get(session.client, url.replace("http", scheme))), {
          startImmediately: true
        })
        yield* eventually(Effect.sync(sockets), (open) => open === 1)
        const [took] = yield* Effect.timed(session.end)
        const { reason } = ClientError.from(yield* Fiber.join(running))
        assert.strictEqual(reason._tag, "Timeout")
        assert.isBelow(Duration.toMillis(took), 5000)
        yield* allClosed
      })
    )
  }
})

describe("an error while a session closes", () => {
  /** No server makes a dispatcher fail to close, so it is made to. */
  const faults: ReadonlyArray<readonly [string, () => Promise<void>]> = [
    ["a dispatcher that fails", () => Promise.reject(new Error("cannot close"))],
    [
      "a dispatcher that throws",
      () => {
        throw new Error("cannot close")
      }
    ],
    ["a dispatcher that never says it is closed", () => new Promise(() => undefined)]
  ]
  for (const [name, fault] of faults) {
    it.live(
      `${name}: the result stands, every connection is closed, in time, and what failed is logged and counted`,
      () =>
        Effect.gen(function* () {
          const server = yield* Servers.good
          const silent = yield* Servers.silent
          const lines: Array<string> = []
          const logger = Logger.make(({ message }) => lines.push(String(message)))
          const before = (yield* Metric.value(closeErrors)).count
          const session = yield* ClientSession.make({ grace: "100 millis", idleTime: "1 minute" })
          yield* get(session.client, silent.url).pipe(Effect.ignore, Effect.forkDetach({ startImmediately: true }))
          const answer = yield* get(session.client, server.url)
          const { destroy } = Agent.prototype
          yield* Effect.acquireRelease(
            Effect.sync(() => (Agent.prototype.destroy = fault)),
            () => Effect.sync(() => (Agent.prototype.destroy = destroy))
          )
          const [took] = yield* Effect.timed(Effect.provide(session.end, Logger.layer([logger])))
          assert.strictEqual(answer, "GET /")
          // Before either side would close an idle one by itself.
          yield* eventually(
            Effect.sync(() => server.sockets() + silent.sockets()),
            (open) => open === 0,
            "1 second"
          )
          assert.isBelow(Duration.toMillis(took), inTimeOf(1000))
          const failed = name.includes("never") ? 0 : 1
          assert.strictEqual((yield* Metric.value(closeErrors)).count - before, failed)
          assert.lengthOf(
            lines.filter((line) => line.includes("Closing an HTTP dispatcher met a failure")),
            failed
          )
          assert.deepStrictEqual(yield* Effect.flatMap(Ledger.Ledger, (ledger) => ledger.holdings), [])
        }).pipe(Effect.scoped, Effect.provide(Ledger.layer))
    )
  }
})

describe("a connection without a request", () => {
  it.live("is closed after idleTime, where the server says nothing", () =>
    Effect.gen(function* () {
      const answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nkept"
      const server = yield* Servers.raw((socket) => void socket.on("data", () => socket.write(answer)))
      const { client } = yield* ClientSession.make({ idleTime: "200 millis" })
      assert.strictEqual(yield* get(client, server.url), "kept")
      yield* server.allClosed
    })
  )

  it.live("is closed after idleTime, though the server would keep it longer", () =>
    Effect.gen(function* () {
      const server = yield* Servers.http((_, response) => {
        response.writeHead(200, { connection: "keep-alive", "keep-alive": "timeout=600" }).end("kept")
      })
      const { client } = yield* ClientSession.make({ idleTime: "200 millis" })
      assert.strictEqual(yield* get(client, server.url), "kept")
      assert.isAtLeast(server.sockets(), 1)
      yield* server.allClosed
    })
  )
})

it.live("the ledger tells where each connection leads to", () =>
  Effect.gen(function* () {
    const servers = yield* Effect.all([Servers.good, Servers.https((_, response) => void response.end())])
    const session = yield* ClientSession.make({ retry: false, tls: { ca: Servers.ca() } })
    for (const { url } of servers) yield* get(session.client, `${url}/secret?token=secret`)
    const holdings = yield* (yield* Ledger.Ledger).holdings
    assert.deepStrictEqual(
      holdings.filter(({ kind }) => kind === "socket").map(({ attributes }) => attributes),
      servers.map(({ url }) => ({ origin: url }))
    )
  }).pipe(Effect.scoped, Effect.provide(Layer.fresh(Ledger.layer)))
)
