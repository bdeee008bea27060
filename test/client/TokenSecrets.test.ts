import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as HttpClient from "effect/http/HttpClient"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"
import { inspect } from "node:util"
import { AccessTokens } from "../../src/client/AccessTokens.ts"
import * as BearerClient from "../../src/client/BearerClient.ts"
import * as PgTokenRepository from "../../src/client/PgTokenRepository.ts"
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

describe("secrets", () => {
  it.live(
    "are in no log, span, error or inspection, whatever the server does",
    () =>
      Effect.gen(function* () {
        const server = yield* TokenServer.make
        server.state.rotates = true
        const first = server.issue("refresh", server.state.refreshTokens)
        const url = yield* tokenDatabase
        const output: Array<string> = []
        const spans: Array<Tracer.Span> = []
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
          const plain = yield* plainClient
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
              const answer = yield* Effect.exit(client.get(`${server.url}/api`))
              output.push(seen(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")
              output.push(Exit.isFailure(answer) ? seen(answer) + Cause.pretty(answer.cause) : "")
              yield* Effect.sleep("2 millis")
            }
            const token = yield* eventually(Effect.exit(tokens.get), Exit.isSuccess)
            output.push(seen(token))
          }
        }).pipe(
          Effect.provideService(Tracer.Tracer, tracer),
          Effect.provideService(References.MinimumLogLevel, "Trace"),
          Effect.provide(Logger.layer([logger])),
          Effect.scoped
        )

        assert.isAbove(output.length, 100)
        assert.isAbove(spans.length, 30)
        for (const span of spans) output.push(seen([span.name, Array.from(span.attributes), span.status]))
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
