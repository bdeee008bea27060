/**
 * What holds until the very end of a session, and what the end itself is worth.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as HttpClient from "effect/http/HttpClient"
import type * as Scope from "effect/Scope"
import { ClientError } from "../../src/client/ClientError.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import type { Options } from "../../src/client/ClientSessionOptions.ts"
import { eventually } from "../support/conditions.ts"
import * as Servers from "../support/httpServers.ts"

const get = (client: HttpClient.HttpClient, url: string) => Effect.flatMap(client.get(url), ({ text }) => text)

describe("while a session ends", () => {
  const limits: ReadonlyArray<
    readonly [string, Options, "http" | "https", Effect.Effect<Servers.TestServer, never, Scope.Scope>]
  > = [
    ["timeout", { timeout: "200 millis" }, "http", Servers.silent],
    ["headersTimeout", { headersTimeout: "200 millis" }, "http", Servers.silent],
    [
      "bodyTimeout",
      { bodyTimeout: "200 millis" },
      "http",
      Servers.http((_, response) => response.writeHead(200).write("begun"))
    ],
    ["connectTimeout", { connectTimeout: "200 millis" }, "https", Servers.silent]
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
