/**
 * An instance of a program whose requests carry alice's token: `TOKENS_DATABASE` (PostgreSQL or Redis), `TOKENS_SERVER`. It says `ready`, and with
 * each line of its input sends that many requests at once and tells in a line of JSON what came of them. `TOKENS_TIMEOUT`,
 * in milliseconds, is what it gives the token server.
 */
import { NodeHttpClient } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { createInterface } from "node:readline"
import * as AccessTokens from "../../src/token/AccessTokens.ts"
import * as BearerClient from "../../src/token/BearerClient.ts"
import * as PgTokenRepository from "../../src/postgres/PgTokenRepository.ts"
import * as RedisTokenRepository from "../../src/redis/RedisTokenRepository.ts"
import * as TwoStepSource from "../../src/token/TwoStepSource.ts"

const { TOKENS_DATABASE: database = "", TOKENS_SERVER: server = "", TOKENS_KEY: secret = "" } = process.env

const source = TwoStepSource.layer({
  baseUrl: server,
  mailAddress: "alice@example.com",
  password: Redacted.make(process.env["TOKENS_PASSWORD"] ?? "")
})
const options = {
  url: Redacted.make(database),
  keys: [{ id: "k1", secret: Redacted.make(secret) }],
  operationTimeout: "20 seconds"
} as const
const repository = database.startsWith("redis")
  ? RedisTokenRepository.layer({ ...options, prefix: process.env["TOKENS_PREFIX"] })
  : PgTokenRepository.layer(options)
const connections = NodeHttpClient.layerUndiciOptions({ connections: 64 })
const program = BearerClient.layer({ origins: [server] }).pipe(
  Layer.provide(AccessTokens.layer({ key: "alice", timeout: Number(process.env["TOKENS_TIMEOUT"]) })),
  // Exchanges do not queue behind the requests that wait for them.
  Layer.provide(Layer.provide(source, Layer.fresh(connections))),
  Layer.provide([repository, connections])
)

const requests = Effect.fnUntraced(function* (client: HttpClient.HttpClient, count: number) {
  const one = client.get(`${server}/api`).pipe(
    Effect.flatMap((response) => Effect.as(response.text, String(response.status))),
    Effect.catch((error) => Effect.succeed(error.message))
  )
  const told: Record<string, number> = {}
  for (const answer of yield* Effect.all(
    Array.from({ length: count }, () => one),
    { concurrency: "unbounded" }
  )) {
    told[answer] = (told[answer] ?? 0) + 1
  }
  return told
})

await Effect.gen(function* () {
  const client = yield* HttpClient.HttpClient
  console.log("ready")
  yield* Stream.fromAsyncIterable(createInterface({ input: process.stdin }), (cause) => cause).pipe(
    Stream.runForEach((line) => Effect.map(requests(client, Number(line)), (told) => console.log(JSON.stringify(told))))
  )
}).pipe(
  Effect.provide(program),
  // What it tells goes to its output, and its log elsewhere.
  Effect.provide(Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])),
  Effect.runPromise
)
