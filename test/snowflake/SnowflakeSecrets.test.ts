import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as TestClock from "effect/testing/TestClock"
import * as Tracer from "effect/Tracer"
import { generateKeyPairSync } from "node:crypto"
import { inspect } from "node:util"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import { QueryDriver } from "../../src/query/QueryDriver.ts"
import * as QueryId from "../../src/query/QueryId.ts"
import * as SnowflakeKeyPair from "../../src/snowflake/internal/SnowflakeKeyPair.ts"
import * as SnowflakeTokens from "../../src/snowflake/internal/SnowflakeTokens.ts"
import * as SnowflakeQueryDriver from "../../src/snowflake/SnowflakeQueryDriver.ts"
import type { Fault } from "../../src/testing/SnowflakeServer.ts"
import { eventually } from "../support/conditions.ts"
import { optionsOf, serverOf } from "../support/snowflake.ts"

const passphrase = "correct horse"
const { privateKey, publicKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase }
})
const user = { account: "myorg-account1", user: "Robot", publicKey }
const keyPair = {
  type: "KEYPAIR_JWT",
  account: user.account,
  user: user.user,
  privateKey: Redacted.make(privateKey),
  passphrase: Redacted.make(passphrase)
} as const

const run = Effect.fnUntraced(function* (sql: string) {
  const driver = yield* QueryDriver
  const rows: Array<unknown> = []
  const sink = {
    columns: () => Effect.void,
    rows: (some: ReadonlyArray<unknown>) => Effect.sync(() => void rows.push(...some))
  }
  const execution = { id: QueryId.make(), onDone: () => undefined, onGivenUp: () => undefined }
  yield* Effect.scoped(
    Effect.flatMap(driver.open, (connection) => connection.execute({ sql, params: [] }, sink, execution))
  )
  return rows
})

describe("a key pair", () => {
  it.live("signs tokens that the server takes, and no other key does", () =>
    Effect.gen(function* () {
      const { server } = yield* serverOf({ users: [user] })
      const layer = SnowflakeQueryDriver.layer({ ...optionsOf(server), token: keyPair })
      assert.deepStrictEqual(yield* run("select 1").pipe(Effect.provide(layer)), [["1"]])
      const other = generateKeyPairSync("rsa", {
        modulusLength: 2048,
        publicKeyEncoding: { type: "spki", format: "pem" },
        privateKeyEncoding: { type: "pkcs8", format: "pem" }
      })
      const token = { ...keyPair, privateKey: Redacted.make(other.privateKey), passphrase: undefined }
      const refused = yield* run("select 1").pipe(
        Effect.provide(SnowflakeQueryDriver.layer({ ...optionsOf(server), token })),
        Effect.flip
      )
      assert.match(refused.message, /401 \(390144\)/)
    }).pipe(Effect.scoped)
  )

  it.effect("signs a new token before the last one's hour is over", () =>
    Effect.gen(function* () {
      const tokens = yield* SnowflakeTokens.make("https://x.snowflakecomputing.com", keyPair)
      const text = Effect.map(tokens.get, ({ value }) => Redacted.value(value))
      const claimsOf = (jwt: string) => JSON.parse(Buffer.from(jwt.split(".")[1] ?? "", "base64url").toString())
      const first = yield* text
      assert.strictEqual(yield* text, first)
      yield* TestClock.adjust("50 minutes")
      assert.strictEqual(yield* text, first)
      yield* TestClock.adjust("6 minutes")
      yield* text
      yield* Effect.yieldNow
      const second = yield* eventually(text, (token) => token !== first).pipe(TestClock.withLive)
      const [{ exp, iat, iss, sub }, next] = [claimsOf(first), claimsOf(second)]
      assert.strictEqual(sub, "MYORG-ACCOUNT1.ROBOT")
      assert.match(iss, /^MYORG-ACCOUNT1\.ROBOT\.SHA256:[A-Za-z0-9+/]{43}=$/)
      assert.isAtMost(exp - iat, 3600)
      assert.isAbove(next.exp, exp)
    })
  )

  it("knows an account without its region", () => {
    for (const [given, account] of [
      ["xy12345.eu-central-1", "XY12345"],
      ["myorg-account1", "MYORG-ACCOUNT1"],
      ["acc-abc123.global", "ACC"]
    ] as const) {
      assert.strictEqual(SnowflakeKeyPair.accountOf(given), account)
    }
  })
})

describe("a configuration that makes no sense names its field", () => {
  const token = { type: "OAUTH", token: Redacted.make("t") } as const
  for (const [field, options] of [
    ["account", { token }],
    ["account", { token, account: "evil.example.com/" }],
    ["url", { token, url: "http://snowflake.example.com" }],
    ["url", { token, url: "https://user:hunter2@snowflake.example.com" }],
    ["url", { token, url: "https://snowflake.example.com/path" }],
    ["database", { token, account: "a", database: "" }],
    ["firstPoll", { token, account: "a", firstPoll: -1 }],
    ["cancelLimit", { token, account: "a", cancelLimit: "Infinity" }],
    ["application", { token, account: "a", application: "two words" }],
    ["token.privateKey", { account: "a", token: { ...keyPair, privateKey: Redacted.make("no key") } }],
    ["token.privateKey", { account: "a", token: { ...keyPair, passphrase: Redacted.make("wrong") } }]
  ] as ReadonlyArray<readonly [string, SnowflakeQueryDriver.Options]>) {
    it.effect(`${field}, as in ${inspect(options, { depth: 0 })}`, () =>
      Effect.gen(function* () {
        const exit = yield* Effect.exit(Effect.scoped(Layer.build(SnowflakeQueryDriver.layer(options))))
        const text = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : assert.fail("it made sense")
        assert.include(text, `Invalid client configuration: ${field} `)
        for (const secret of ["hunter2", privateKey.split("\n")[1] ?? "", passphrase]) assert.notInclude(text, secret)
      })
    )
  }

  it.effect("and what is in the environment is read with Config", () =>
    Effect.gen(function* () {
      const layer = SnowflakeQueryDriver.layerConfig({
        account: Config.String("ACCOUNT"),
        token: { type: Config.succeed("OAUTH" as const), token: Config.Redacted("TOKEN") }
      })
      const env = ConfigProvider.fromUnknown({ ACCOUNT: "myorg-account1", TOKEN: "t0ken" })
      yield* Effect.scoped(Layer.build(layer)).pipe(Effect.provideService(ConfigProvider.ConfigProvider, env))
    })
  )
})

/** All that somebody might print of it. */
const printed = (thing: unknown): string =>
  [inspect(thing, { depth: 12, showHidden: true }), Formatter.format(thing), String(thing)].join("\n")

it.live(
  "no credential is in a log line, a span, an error, the ledger or what is printed of them, whatever the server does",
  () =>
    Effect.gen(function* () {
      const { server } = yield* serverOf({ users: [user] })
      const output: Array<string> = []
      const spans: Array<Tracer.NativeSpan> = []
      const secrets = [Redacted.value(server.token), passphrase, ...privateKey.split("\n").slice(1, -2)]
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const logger = Logger.make((entry) => {
        output.push(Logger.formatLogFmt.log(entry), Logger.formatJson.log(entry), printed(entry.message))
      })
      const faults: ReadonlyArray<Fault> = [
        "pass",
        "reset",
        "lose",
        "hang",
        { status: 401 },
        { status: 503 },
        { status: 400 }
      ]
      const once = Effect.gen(function* () {
        const ledger = yield* Ledger.Ledger
        for (const fault of faults) {
          yield* server.decide(({ kind }) => (kind === "submit" ? fault : "pass"))
          const exit = yield* Effect.exit(Effect.timeout(run("select 1"), "2 seconds"))
          yield* Effect.logError("It ended", exit)
          output.push(printed(exit), Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "")
        }
        yield* server.decide(({ kind }) => (kind === "submit" ? "pass" : "hang"))
        const fiber = yield* Effect.forkChild(run("select pg_sleep(5)"))
        yield* eventually(server.running, (count) => count > 0)
        output.push(printed(yield* ledger.held), printed(yield* QueryDriver))
        yield* Fiber.interrupt(fiber)
        yield* server.decide(() => "pass")
      })
      const limits = { callTimeout: "200 millis", outageLimit: "100 millis", cancelLimit: "300 millis" } as const
      for (const token of [keyPair, optionsOf(server).token]) {
        const options = { ...optionsOf(server), ...limits, token }
        output.push(printed(SnowflakeQueryDriver.layer(options)))
        yield* once.pipe(
          Effect.scoped,
          Effect.provide(SnowflakeQueryDriver.layer(options)),
          Effect.withSpan("work"),
          Effect.provide([Logger.layer([logger]), Layer.fresh(Ledger.layer)]),
          Effect.provideService(References.MinimumLogLevel, "All"),
          Effect.provideService(Tracer.Tracer, tracer)
        )
      }
      for (const span of spans) {
        output.push(span.name, printed([...span.attributes]), printed(span.status))
        if (span.status._tag === "Ended" && Exit.isFailure(span.status.exit))
          output.push(Cause.pretty(span.status.exit.cause))
      }
      assert.isAbove(spans.length, 10)
      const all = output.join("\n")
      assert.include(all, "Check the token")
      // A JWT begins with the header of every one.
      for (const secret of [...secrets, "eyJhbGciOiJSUzI1NiI"]) {
        const at = all.indexOf(secret)
        assert.strictEqual(at, -1, all.slice(Math.max(0, at - 200), at + 50))
      }
    }).pipe(Effect.scoped)
)
