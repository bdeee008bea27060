/**
 * Redis and Valkey in many versions, and over TLS with a private authority.
 */
import { promises as Fs } from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { createClient } from "redis"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as TestRedis from "../../src/testing/TestRedis.ts"
import * as Certificate from "../support/certificate.ts"
import * as Programs from "./programs.ts"
import * as Suites from "./suites.ts"
import type { Running, Target } from "./target.ts"

const redis = (suite: string): Programs.Packaged => ({
  suite,
  name: "redis-tools",
  file: "usr/bin/redis-check-rdb",
  as: "redis-server"
})
const valkey = (suite: string): Programs.Packaged => ({
  suite,
  name: "valkey-tools",
  file: "usr/bin/valkey-check-rdb",
  as: "valkey-server"
})

/** Sessions need Redis 7; these do not. */
const withoutSessions = [
  "test/redis/RedisConnection.test.ts",
  "test/redis/RedisTokenRepository.test.ts",
  "test/server/FailureCounts.test.ts"
]

const all = () =>
  Suites.thatUse("redis.ts", ["test/{redis,testing,token}/*.test.ts", "test/server/FailureCounts.test.ts"])

/** Those that reach the server by its URL alone: others look at the bytes, which TLS hides. */
const laws = [
  "test/redis/RedisSessionChanges.test.ts",
  "test/redis/RedisSessionEnds.test.ts",
  "test/redis/RedisTokenRepository.test.ts",
  "test/server/FailureCounts.test.ts"
]

/** The version that a server says it has; Valkey says it beside the version of Redis it is compatible with. */
const versionOf = (url: Redacted.Redacted<string>) =>
  Programs.attempt("INFO", async () => {
    const client = createClient({ url: Redacted.value(url) })
    await client.connect()
    const said = String(await client.sendCommand(["INFO", "server"]))
    client.destroy()
    const [, fork] = /^valkey_version:(\S+)/m.exec(said) ?? []
    const [, version = "?"] = /^redis_version:(\S+)/m.exec(said) ?? []
    return fork === undefined ? `Redis ${version}` : `Valkey ${fork}`
  })

/** The server is the one found first, for this process and those it starts. */
const onPath = (bin: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const { PATH } = process.env
      process.env.PATH = `${bin}${Path.delimiter}${PATH}`
      return PATH
    }),
    (before) => Effect.sync(() => void (process.env.PATH = before))
  )

const databases = Effect.gen(function* () {
  const { url, superuserUrl: witness } = yield* TestPostgres.make()
  return {
    DATABASE_URL: Redacted.value(url()),
    HOLDFAST_QUERY_URL: Redacted.value(url("template1")),
    HOLDFAST_QUERY_SUPERUSER: "allow",
    witness
  }
})

const version = (
  name: string,
  packaged: Programs.Packaged,
  { leftOut = [], ...more }: Partial<Pick<Running, "suites" | "leftOut" | "refusal">> = {}
): Target => ({
  name,
  start: Effect.gen(function* () {
    yield* onPath(yield* Programs.debian(packaged))
    const { url } = yield* TestRedis.make()
    const { witness, ...service } = yield* databases
    return {
      version: yield* versionOf(url),
      suites: { files: all(), env: {} },
      leftOut,
      ...more,
      service: { ...service, HOLDFAST_SESSION_STORE: "redis", REDIS_URL: Redacted.value(url) },
      witness
    }
  })
})

const tls: Target = {
  name: "redis-tls",
  start: Effect.gen(function* () {
    yield* onPath(yield* Programs.debian(redis("bookworm")))
    const files = yield* Effect.acquireRelease(
      Effect.promise(() => Fs.mkdtemp("/tmp/holdfast-redis-tls-")),
      (directory) => Effect.promise(() => Fs.rm(directory, { recursive: true, force: true }))
    )
    const { authority, cert, key } = Certificate.issued()
    const file = (name: string) => Path.join(files, name)
    yield* Effect.promise(async () => {
      await Fs.writeFile(file("authority.pem"), authority)
      await Fs.writeFile(file("server.crt"), cert)
      await Fs.writeFile(file("server.key"), key, { mode: 0o600 })
    })
    const port = yield* freePort
    const config = [
      `tls-port ${port}`,
      `tls-ca-cert-file ${file("authority.pem")}`,
      `tls-cert-file ${file("server.crt")}`,
      `tls-key-file ${file("server.key")}`,
      "tls-auth-clients no"
    ]
    const server = yield* TestRedis.make({ config })
    const url = `rediss://127.0.0.1:${port}`
    const { witness, ...service } = yield* databases
    const trust = { NODE_EXTRA_CA_CERTS: file("authority.pem") }
    return {
      version: `${yield* versionOf(server.url)}, TLS`,
      suites: { files: laws, env: { HOLDFAST_TEST_REDIS_URL: url, ...trust } },
      leftOut: [],
      service: { ...service, ...trust, HOLDFAST_SESSION_STORE: "redis", REDIS_URL: url },
      witness
    }
  })
}

export const targets: ReadonlyArray<Target> = [
  version("redis-6", redis("bullseye"), {
    suites: { files: withoutSessions, env: {} },
    refusal: "need version 7 or newer",
    leftOut: [
      { test: "what was moved to another tenant", why: "the test itself needs COPY, which Redis has since 6.2" },
      { test: "a user with the rights that the README names can count", why: "Redis has rights to channels since 6.2" }
    ]
  }),
  version("redis-7", redis("bookworm")),
  version("redis-8", redis("sid")),
  version("valkey-8", valkey("trixie")),
  version("valkey-9", valkey("sid")),
  tls
]
