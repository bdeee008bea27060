import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClient from "effect/http/HttpClient"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import { AccessTokens } from "../../src/token/AccessTokens.ts"
import * as BearerClient from "../../src/token/BearerClient.ts"
import * as ClientSession from "../../src/client/ClientSession.ts"
import * as PgTokenRepository from "../../src/postgres/PgTokenRepository.ts"
import { eventually } from "../support/conditions.ts"
import {
  clientCredentials,
  keys,
  plainClient,
  refreshGrant,
  tokenDatabase,
  tokensOf,
  twoStep
} from "../support/tokens.ts"
import * as TokenServer from "../support/tokenServer.ts"

/** JSON knows no bigint, such as the time of a span. */
const plainly = (_: string, value: unknown) => (typeof value === "bigint" ? String(value) : value)

/** All that may be seen of a value. */
const seen = (value: unknown) =>
  [inspect(value, { depth: 12, showHidden: true }), JSON.stringify(value, plainly) ?? "", String(value)].join("\n")

/** What befalls tokens between two requests. */
const befalls: ReadonlyArray<(server: Effect.Success<typeof TokenServer.make>) => void> = [
  ({ state }) => (state.rejectsAll = false),
  ({ state }) => state.accessTokens.clear(),
  ({ state }) => state.refreshTokens.clear(),
  ({ state }) => (state.rejectsAll = true)
]

/** What requests and exchanges go out with, for the current scope. */
const clients = {
  "plain connections": plainClient,
  "a client session": Effect.map(ClientSession.make({ retry: false }), ({ client }) => client)
}

describe.each(Object.entries(clients))("secrets, with %s", (_, connections) => {
  it.live(
    "are in no log, span, error or inspection, whatever the servers do",
    () =>
      Effect.gen(function* () {
        const server = yield* TokenServer.make
        server.state.rotates = true
        const first = server.issue("refresh", server.state.refreshTokens)
        const url = yield* tokenDatabase
        const output: Array<string> = []
        const spans: Array<Tracer.NativeSpan> = []
        const tracer = Tracer.make({
          span: (options) => {
            const span = new Tracer.NativeSpan(options)
            spans.push(span)
            return span
          }
        })
        const logger = Logger.make((options) => {
          output.push(seen(options.message), Cause.pretty(options.cause), seen(options.cause))
          output.push(Logger.formatJson.log(options), Logger.formatLogFmt.log(options))
        })

        yield* Effect.gen(function* () {
          const plain = yield* connections
          const repository = yield* PgTokenRepository.make({ url, keys })
          const sources = {
            a: twoStep(server.url),
            b: clientCredentials(server.url),
            c: refreshGrant(server.url, first)
          }
          for (const [key, make] of Object.entries(sources)) {
            const source = yield* Effect.provideService(make, HttpClient.HttpClient, plain)
            const tokens = yield* tokensOf(source, repository, { key, pause: "1 millis", timeout: "300 millis" })
            const client = yield* BearerClient.make({ origins: [server.url] }).pipe(
              Effect.provideService(HttpClient.HttpClient, plain),
              Effect.provideService(AccessTokens, tokens)
            )
            output.push(seen([source, tokens, repository]))
            const moods: ReadonlyArray<TokenServer.Mood> = [
              "well",
              "silent",
              "resets",
              ...[200, 302, 400, 401, 429, 500].map((status) => ({ status, body: Array.from(server.secrets).join() }))
            ]
            for (const mood of [...moods, "well"] as const) {
              server.state.mood = mood
              const exit = yield* Effect.exit(Effect.withSpan(tokens.refresh, "asking"))
              output.push(seen(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")
              for (const befall of befalls) {
                befall(server)
                const answer = yield* Effect.exit(
                  Effect.flatMap(client.get(`${server.url}/api`), (response) =>
                    Effect.map(response.text, (text) => seen([response, text]))
                  )
                )
                output.push(seen(answer), Exit.isFailure(answer) ? Cause.pretty(answer.cause) : "")
                yield* Effect.sleep("2 millis")
              }
            }
            server.state.refreshTokens.add(first)
            const token = yield* eventually(Effect.exit(tokens.get), Exit.isSuccess)
            output.push(seen(token))
          }
        }).pipe(
          Effect.provideService(Tracer.Tracer, tracer),
          Effect.provideService(References.MinimumLogLevel, "Trace"),
          Effect.provide(Logger.layer([logger])),
          Effect.scoped
        )

        yield* server.allClosed
        for (const count of Object.values(server.counts)) assert.isAbove(count, 5)
        assert.isAbove(output.length, 300)
        assert.isAbove(spans.length, 50)
        for (const span of spans) output.push(seen([span.name, Array.from(span.attributes), span.events, span.status]))
        const everything = output.join("\n")
        assert.include(everything, "<redacted>")
        for (const secret of server.secrets) {
          for (const form of [secret, encodeURIComponent(secret), Buffer.from(secret).toString("base64")]) {
            const at = everything.indexOf(form)
            assert.strictEqual(at, -1, everything.slice(Math.max(at - 300, 0), at + 50))
          }
        }
      }).pipe(Effect.scoped),
    60_000
  )
})
