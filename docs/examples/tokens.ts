/**
 * A login in two steps at a market-data service, and requests that carry its token.
 *
 * Run it: `node --conditions=holdfast-source docs/examples/tokens.ts`. It brings a service of its own, so that it needs none.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as AccessTokens from "holdfast/token/AccessTokens"
import * as BearerClient from "holdfast/token/BearerClient"
import * as ClientSession from "holdfast/client/ClientSession"
import * as PgTokenRepository from "holdfast/postgres/PgTokenRepository"
import * as RedisTokenRepository from "holdfast/redis/RedisTokenRepository"
import * as TokenRepository from "holdfast/token/TokenRepository"
import * as TwoStepSource from "holdfast/token/TwoStepSource"
import { once } from "node:events"
import { createServer } from "node:http"

// #region client
/** An `HttpClient` whose requests to the service carry alice's id token. */
export const layerMarketData = (baseUrl: string, password: Redacted.Redacted) =>
  BearerClient.layer({ origins: [new URL(baseUrl).origin] }).pipe(
    Layer.provide(AccessTokens.layer({ key: "market-data/alice@example.com" })),
    // Logins have connections of their own, and never wait behind requests that wait for them.
    Layer.provide(
      TwoStepSource.layer({ baseUrl, mailAddress: "alice@example.com", password }).pipe(
        Layer.provide(ClientSession.layer({ maxRedirects: 0 }))
      )
    ),
    // Last, so that it closes last.
    Layer.provide(ClientSession.layer())
  )
// #endregion

// #region repository
/** All instances of the program use the same token. `key` comes from the configuration, never from the database. */
export const layerTokens = (url: Redacted.Redacted, key: Redacted.Redacted) =>
  PgTokenRepository.layer({ url, keys: [{ id: "2026-11", secret: key }] })
// #endregion

// #region redis
/** The same in Redis. */
export const layerTokensInRedis = (url: Redacted.Redacted, key: Redacted.Redacted) =>
  RedisTokenRepository.layer({ url, keys: [{ id: "2026-11", secret: key }] })
// #endregion

// #region use
const Prices = Schema.fromJsonString(Schema.Struct({ code: Schema.String, close: Schema.Finite }))

/** This code does not know about tokens. */
export const closingPrice = (baseUrl: string, code: string) =>
  Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const response = yield* client.get(`${baseUrl}/v1/prices`, { urlParams: { code } })
    const { close } = yield* Schema.decodeEffect(Prices)(yield* response.text)
    return close
  })
// #endregion

/** A service that wants what market-data services want, for the current scope. */
const service = Effect.acquireRelease(
  Effect.promise(async () => {
    const exchanges: Array<string> = []
    const server = createServer((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? "/", "http://localhost")
      const answer = (status: number, body: object) => response.writeHead(status).end(JSON.stringify(body))
      request.resume().on("end", () => {
        if (pathname === "/v1/prices") {
          return request.headers.authorization === "Bearer id-token"
            ? answer(200, { code: searchParams.get("code"), close: 2718.5 })
            : answer(401, { message: "The token is missing or over." })
        }
        exchanges.push(`${request.method} ${pathname}`)
        return pathname === "/v1/token/auth_user"
          ? answer(200, { refreshToken: "refresh-token" })
          : answer(200, { idToken: "id-token" })
      })
    })
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    return { server, exchanges, baseUrl: `http://127.0.0.1:${port}` }
  }),
  ({ server }) => Effect.sync(() => void server.close().closeAllConnections())
)

/** Asks for a hundred prices at once, and tells what the service saw. */
export const program = Effect.gen(function* () {
  const { baseUrl, exchanges } = yield* service
  const codes = Array.from({ length: 100 }, (_, index) => String(1300 + index))
  const prices = yield* Effect.forEach(codes, (code) => closingPrice(baseUrl, code), { concurrency: 10 }).pipe(
    Effect.provide(layerMarketData(baseUrl, Redacted.make("a password"))),
    Effect.provide(TokenRepository.layerMemory)
  )
  yield* Console.log(`${prices.length} prices, ${exchanges.length} exchanges: ${exchanges.join(", ")}`)
}).pipe(Effect.scoped)

if (import.meta.main) NodeRuntime.runMain(program)
