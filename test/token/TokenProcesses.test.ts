/** Instances in processes of their own, over one PostgreSQL or Redis and one token server. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Redacted from "effect/Redacted"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { join } from "node:path"
import * as PgTokenRepository from "../../src/postgres/PgTokenRepository.ts"
import * as RedisTokenRepository from "../../src/redis/RedisTokenRepository.ts"
import type { TokenRepository } from "../../src/token/TokenRepository.ts"
import { eventually } from "../support/conditions.ts"
import { freshPrefix, redisUrl } from "../support/redis.ts"
import { keys, plainClient, tokenDatabase, tokensOf, twoStep } from "../support/tokens.ts"
import { credentials, make as makeServer } from "../support/tokenServer.ts"
import { replace, replacement } from "../../src/testing/internal/TokenSamples.ts"

const script = join(import.meta.dirname, "../support/tokensProgram.ts")

/** Where the tokens are; the prefix is that of keys in Redis. */
interface Place {
  readonly url: Redacted.Redacted
  readonly prefix: string
}

/** An instance that gives the token server so many milliseconds; gone with the scope. */
const launch = ({ prefix, url }: Place, server: string, timeout: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const env = {
        ...process.env,
        TOKENS_DATABASE: Redacted.value(url),
        TOKENS_PREFIX: prefix,
        TOKENS_SERVER: server,
        TOKENS_TIMEOUT: String(timeout),
        TOKENS_KEY: keys.map(({ secret }) => Redacted.value(secret)).join(""),
        TOKENS_PASSWORD: credentials.password
      }
      const child = spawn(process.execPath, [script], { env, stdio: "pipe" })
      let output = ""
      let errors = ""
      child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()))
      child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()))
      child.stdin.on("error", () => undefined)
      const gone = once(child, "close")
      /** The lines it wrote, once there are so many. */
      const lines = (count: number) =>
        eventually(
          Effect.sync(() => ({ lines: output.split("\n").slice(0, -1), errors })),
          ({ lines }) => lines.length >= count,
          "60 seconds"
        ).pipe(Effect.map(({ lines }) => lines))
      return {
        lines,
        said: () => output + errors,
        signal: (name: NodeJS.Signals) => Effect.sync(() => child.kill(name)),
        send: (count: number) => Effect.sync(() => child.stdin.write(`${count}\n`)),
        gone: Effect.promise(() => gone),
        end: Effect.sync(() => child.stdin.end())
      }
    }),
    ({ gone, signal }) => Effect.andThen(signal("SIGKILL"), gone)
  )

/** Keeps a token for alice that expires as it comes, or is good for an hour, with a refresh token that the server knows. */
const seed = Effect.fnUntraced(function* (
  server: Effect.Success<typeof makeServer>,
  repository: TokenRepository["Service"],
  lifetime: "0 millis" | "1 hour"
) {
  const refresh = server.issue("refresh", server.state.refreshTokens)
  yield* replace(repository, "alice", replacement("Secret-expired", refresh, lifetime))
})

const postgres = Effect.gen(function* () {
  const url = yield* tokenDatabase
  return { place: { url, prefix: "" }, repository: yield* PgTokenRepository.make({ url, keys }) }
})

const redis = Effect.gen(function* () {
  const place = { url: yield* redisUrl, prefix: yield* freshPrefix }
  return { place, repository: yield* RedisTokenRepository.make({ ...place, keys }) }
})

const told = (line: string | undefined): unknown => JSON.parse(line ?? "null")

const worldOf = (store: typeof postgres | typeof redis) =>
  Effect.gen(function* () {
    return { server: yield* makeServer, ...(yield* store) }
  })

describe("tokens of several processes", () => {
  for (const [name, lifetime, store] of [
    ["an expired token in PostgreSQL", "0 millis", postgres],
    ["an expired token in Redis", "0 millis", redis],
    ["a token that the API does not accept", "1 hour", postgres]
  ] as const) {
    it.live(
      `1,000 parallel requests with ${name}, from two processes: one refresh, no failure`,
      () =>
        Effect.gen(function* () {
          const { place, repository, server } = yield* worldOf(store)
          yield* seed(server, repository, lifetime)
          server.state.delay = 200
          const instance = launch(place, server.url, 30_000)
          const pair = yield* Effect.all([instance, instance])
          yield* Effect.forEach(pair, ({ lines }) => lines(1))
          yield* Effect.forEach(pair, ({ send }) => send(500))
          for (const { lines, said } of pair) {
            assert.deepStrictEqual(told((yield* lines(2))[1]), { "200": 500 }, said())
          }
          assert.deepStrictEqual([server.counts.refreshes, server.counts.logins], [1, 0])
          yield* Effect.forEach(pair, ({ end, gone }) => Effect.andThen(end, gone))
          for (const { said } of pair) assert.notInclude(said(), "Secret")
        }).pipe(Effect.scoped),
      120_000
    )
  }
})

// They wait for the end of a lock, each of its own.
describe("one of several processes stops in the middle", { concurrent: true }, () => {
  it.live(
    "a process that is killed in the middle of a refresh is followed by another when its lock is over",
    () =>
      Effect.gen(function* () {
        const { place, repository, server } = yield* worldOf(postgres)
        yield* seed(server, repository, "0 millis")
        server.state.mood = "silent"
        const victim = yield* launch(place, server.url, 3000)
        yield* victim.lines(1)
        yield* victim.send(10)
        yield* eventually(
          Effect.sync(() => server.counts.refreshes),
          (count) => count === 1
        )
        yield* victim.signal("SIGKILL")
        yield* victim.gone
        server.state.mood = "well"
        const plain = yield* plainClient
        const source = yield* Effect.provideService(twoStep(server.url), HttpClient.HttpClient, plain)
        const tokens = yield* tokensOf(source, repository)
        const { value } = yield* tokens.get
        assert.isTrue(server.state.accessTokens.has(Redacted.value(value)))
        assert.deepStrictEqual([server.counts.refreshes, server.counts.logins], [2, 0])
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "a process that was frozen in the middle of a refresh wakes up to the newer token, and does not overwrite it",
    () =>
      Effect.gen(function* () {
        const { place, repository, server } = yield* worldOf(postgres)
        yield* seed(server, repository, "0 millis")
        server.state.mood = "held"
        const frozen = yield* launch(place, server.url, 3000)
        yield* frozen.lines(1)
        yield* frozen.send(10)
        yield* eventually(
          Effect.sync(() => server.counts.refreshes),
          (count) => count === 1
        )
        yield* frozen.signal("SIGSTOP")
        server.state.mood = "well"
        const plain = yield* plainClient
        const source = yield* Effect.provideService(twoStep(server.url), HttpClient.HttpClient, plain)
        const tokens = yield* tokensOf(source, repository)
        const { value } = yield* tokens.get
        const { version } = yield* repository.get("alice")
        yield* server.release
        yield* frozen.signal("SIGCONT")
        assert.deepStrictEqual(told((yield* frozen.lines(2))[1]), { "200": 10 })
        const kept = yield* repository.get("alice")
        assert.strictEqual(kept.version, version)
        assert.strictEqual(kept.access && Redacted.value(kept.access.value), Redacted.value(value))
        assert.strictEqual(server.counts.refreshes, 2)
      }).pipe(Effect.scoped),
    120_000
  )
})
