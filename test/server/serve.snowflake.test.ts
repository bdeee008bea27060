import { generateKeyPairSync } from "node:crypto"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type { SnowflakeServer } from "../../src/testing/SnowflakeServer.ts"
import { page, problemOf, queriesOf, queryOf, rowsOf, run, settled, submit, submittedId } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"
import { awayOf, enginesOf, medianOf, shown, timesOf } from "../support/engines.ts"
import { serverOf } from "../support/snowflake.ts"

const { privateKey, publicKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  publicKeyEncoding: { type: "spki", format: "pem" },
  privateKeyEncoding: { type: "pkcs8", format: "pem" }
})
const robot = { account: "myorg-account1", user: "ROBOT", publicKey }

/** The lines of the key in the file, without its first and its last. */
const secretLines = privateKey.trim().split("\n").slice(1, -1)

const urlOf = ({ url }: SnowflakeServer["Service"]) =>
  `snowflake://${new URL(url).host}/TEST/PUBLIC?warehouse=SMALL&protocol=http`

interface Snowflake {
  readonly service: Service.Service
  readonly server: SnowflakeServer["Service"]
}

class World extends Context.Service<World, Snowflake>()("test/World") {}

const worldOf = (env: (server: SnowflakeServer["Service"]) => Service.Environment) =>
  Layer.effect(
    World,
    Effect.gen(function* () {
      const { server } = yield* serverOf({ partitionBytes: 20_000, users: [robot] })
      return { server, service: yield* Service.startService({ env: env(server) }) }
    })
  )

const options = { excludeTestServices: true, timeout: "60 seconds" } as const

/** Queries run on Snowflake and on nothing else. */
const only = worldOf((server) => ({
  HOLDFAST_QUERY_URL: urlOf(server),
  HOLDFAST_SNOWFLAKE_TOKEN: Redacted.value(server.token),
  HOLDFAST_SNOWFLAKE_TOKEN_TYPE: "PROGRAMMATIC_ACCESS_TOKEN"
}))

layer(only, options)("holdfast serve, with queries on Snowflake", (it) => {
  it.effect("the walk: log in, run SQL, read the rows page by page, log out", () =>
    Effect.gen(function* () {
      const { service } = yield* World
      yield* Service.addUser(service, "walker")
      const browser = service.browser()
      const credentials = { username: "walker", password: Service.demoPassword }
      assert.strictEqual((yield* browser.send("POST", "/login", { json: credentials })).status, 200)
      assert.deepStrictEqual(
        (yield* enginesOf(browser)).map(({ capabilities, kind, name, ready }) => [
          name,
          kind,
          ready,
          capabilities.cancel,
          capabilities.placeholder
        ]),
        [["default", "snowflake", true, "statement", "?"]]
      )

      const submitted = yield* browser.send("POST", "/queries", {
        json: { sql: "select n, n > ? as late from generate_series(1, 5) as n", params: [3] }
      })
      assert.strictEqual(submitted.status, 202, submitted.text)
      const id = submittedId(submitted)
      const query = yield* settled(browser, id)
      assert.deepInclude(query, { state: "Succeeded", rowCount: 5, error: null })
      const first = yield* page(browser, id, "?limit=3")
      assert.deepStrictEqual(
        first.columns.map(({ name }) => name),
        ["n", "late"]
      )
      const second = yield* page(browser, id, `?limit=3&cursor=${first.next}`)
      assert.deepStrictEqual(
        [...first.rows, ...second.rows].map(([n, late]) => [Number(n), late]),
        [1, 2, 3, 4, 5].map((n) => [n, n > 3])
      )
      assert.isNull(second.next)
      assert.deepStrictEqual(queriesOf(yield* browser.send("GET", "/queries")), [query])

      assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
      assert.strictEqual(problemOf(yield* browser.send("GET", `/queries/${id}`)).code, "SessionMissing")
    })
  )

  it.effect("rows of many partitions are all there, in order", () =>
    Effect.gen(function* () {
      const { service } = yield* World
      const browser = yield* service.login()
      const rows = yield* rowsOf(browser, "select n, repeat('x', 100) from generate_series(1, 1000) n")
      assert.deepStrictEqual(
        rows.map(([n]) => Number(n)),
        Array.from({ length: 1000 }, (_, index) => index + 1)
      )
    })
  )

  it.effect("Q2 cancelling a running query answers Canceled, with nothing left running at the server", () =>
    Effect.gen(function* () {
      const { server, service } = yield* World
      const browser = yield* service.login()
      const id = yield* submit(browser, "select pg_sleep(60)")
      yield* runsAt(server, "pg_sleep(60)", 1)
      const answer = yield* browser.send("DELETE", `/queries/${id}`)
      assert.strictEqual(answer.status, 200)
      const { error, state } = queryOf(answer)
      assert.deepStrictEqual([state, error?.code], ["Canceled", "QueryCanceled"])
      yield* runsAt(server, "pg_sleep(60)", 0)
    })
  )

  it.effect("S9 logging out ends what the session runs at the server, and answers after that", () =>
    Effect.gen(function* () {
      const { server, service } = yield* World
      const browser = yield* service.login()
      const ids = [yield* submit(browser, "select pg_sleep(61)"), yield* submit(browser, "select pg_sleep(62)")]
      yield* runsAt(server, "pg_sleep(6", 2)
      assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
      assert.strictEqual(yield* countAt(server, "pg_sleep(6"), 0)
      const again = yield* service.login()
      for (const id of ids) {
        const { error, state } = queryOf(yield* again.send("GET", `/queries/${id}`))
        assert.deepStrictEqual([state, error?.code], ["Canceled", "SessionEnded"])
      }
    })
  )

  it.effect("what the server refuses is said in its own words", () =>
    Effect.gen(function* () {
      const { service } = yield* World
      const { error, state } = yield* run(yield* service.login(), "select * from nowhere_to_be_found")
      assert.deepStrictEqual([state, error?.code, error?.sqlState], ["Failed", "StatementFailed", "42S02"])
      assert.include(error?.message, "nowhere_to_be_found")
    })
  )

  it.effect("S10 what it writes has no token, also when the token is refused", () =>
    Effect.gen(function* () {
      const { server, service } = yield* World
      const browser = yield* service.login()
      yield* server.refuse(server.token)
      yield* eventually(browser.send("GET", "/health/ready"), ({ status }) => status === 503, "30 seconds")
      const refused = yield* browser.send("POST", "/queries", { json: { sql: "select 1" } })
      assert.strictEqual(problemOf(refused).code, "QueriesUnavailable")
      yield* server.admit(server.token)
      yield* eventually(browser.send("GET", "/health/ready"), ({ status }) => status === 200, "30 seconds")
      assert.strictEqual((yield* run(browser, "select 1")).state, "Succeeded")
      const { text } = yield* browser.send("GET", "/holdings")
      assert.notInclude(service.stdout() + service.stderr() + text + refused.text, Redacted.value(server.token))
    })
  )
})

/** PostgreSQL by default, and Snowflake beside it, as a user with a key pair. */
const beside = Layer.unwrap(
  Effect.gen(function* () {
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-snowflake-"))),
      (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
    )
    const file = Path.join(directory, "key.pem")
    writeFileSync(file, privateKey, { mode: 0o600 })
    return worldOf((server) => ({
      HOLDFAST_ENGINES: `flake=${urlOf(server)}`,
      HOLDFAST_SNOWFLAKE_USER: robot.user,
      HOLDFAST_SNOWFLAKE_ACCOUNT: robot.account,
      HOLDFAST_SNOWFLAKE_PRIVATE_KEY_FILE: file
    }))
  })
)

layer(beside, options)("holdfast serve, with Snowflake beside PostgreSQL", (it) => {
  it.effect("a query runs on the engine that it names, as the user of the key pair", () =>
    Effect.gen(function* () {
      const { server, service } = yield* World
      const browser = yield* service.login()
      assert.deepStrictEqual(
        (yield* enginesOf(browser)).map(({ kind, name }) => [name, kind]),
        [
          ["default", "postgres"],
          ["flake", "snowflake"]
        ]
      )
      assert.deepStrictEqual(yield* rowsOf(browser, "select ?", { engine: "flake", params: ["there"] }), [["there"]])
      assert.deepStrictEqual(yield* rowsOf(browser, "select $1::text", { params: ["here"] }), [["here"]])
      assert.strictEqual(yield* server.executions("select ?"), 1)
    })
  )

  it.effect("I1 Snowflake does not answer: the other engine goes on as before, and it comes back by itself", () =>
    Effect.gen(function* () {
      const { server, service } = yield* World
      const browser = yield* service.login()
      const before = yield* timesOf(browser, 40)
      const stuck = yield* submit(browser, "select pg_sleep(60)", { engine: "flake" })
      yield* runsAt(server, "pg_sleep(60)", 1)

      yield* server.decide(() => "hang")
      const during = yield* timesOf(browser, 40)
      yield* eventually(awayOf(browser), (away) => away.join() === "flake", "30 seconds")
      const refused = yield* browser.send("POST", "/queries", { json: { sql: "select 1", engine: "flake" } })
      assert.strictEqual(problemOf(refused).code, "QueriesUnavailable")
      yield* Effect.logInfo(
        `median and slowest of 40 queries on PostgreSQL, in ms: ${shown(before)}, while Snowflake hangs ${shown(during)}`
      )
      assert.isBelow(medianOf(during), Math.max(10 * medianOf(before), 200))

      yield* server.decide(() => "pass")
      yield* eventually(awayOf(browser), (away) => away.length === 0, "30 seconds")
      assert.strictEqual((yield* run(browser, "select 1", { engine: "flake" })).state, "Succeeded")
      const { state } = queryOf(yield* browser.send("DELETE", `/queries/${stuck}`))
      assert.include(["Canceled", "Failed"], state)
      yield* runsAt(server, "pg_sleep(60)", 0)
    })
  )

  it.effect("S10 what it writes has nothing of the key", () =>
    Effect.gen(function* () {
      const { service } = yield* World
      const written = service.stdout() + service.stderr()
      for (const line of secretLines) assert.notInclude(written, line)
    })
  )
})

/** Statements at the server that run and contain a text. */
const countAt = (server: SnowflakeServer["Service"], text: string) =>
  Effect.map(
    server.statements,
    (all) => all.filter(({ sql, state }) => state === "running" && sql.includes(text)).length
  )
const runsAt = (server: SnowflakeServer["Service"], text: string, count: number) =>
  eventually(countAt(server, text), (found) => found === count)

describe("variables of Snowflake", () => {
  const secret = "s3cret-of-an-account"
  const base = { PORT: "0", DATABASE_URL: "postgres://a:b@127.0.0.1:1/own" }
  const there = "snowflake://myorg-account1.snowflakecomputing.com/SALES/PUBLIC?warehouse=REPORTS"
  it.live("what makes no sense is refused at start, by name and without what it holds", () =>
    Effect.forEach(
      [
        [{ HOLDFAST_QUERY_URL: there }, "HOLDFAST_QUERY_URL needs HOLDFAST_SNOWFLAKE_TOKEN, or"],
        [
          { HOLDFAST_QUERY_URL: `${there}&protocol=http`, HOLDFAST_SNOWFLAKE_TOKEN: secret },
          "HOLDFAST_QUERY_URL must have no protocol but https"
        ],
        [
          { HOLDFAST_QUERY_URL: there.replace("//", `//me:${secret}@`), HOLDFAST_SNOWFLAKE_TOKEN: secret },
          "HOLDFAST_QUERY_URL must be like snowflake:"
        ],
        [
          {
            HOLDFAST_QUERY_URL: there,
            HOLDFAST_SNOWFLAKE_USER: "ROBOT",
            HOLDFAST_SNOWFLAKE_ACCOUNT: "a",
            HOLDFAST_SNOWFLAKE_PRIVATE_KEY_FILE: import.meta.filename
          },
          "HOLDFAST_SNOWFLAKE_PRIVATE_KEY_FILE "
        ]
      ] as const,
      ([env, expected]) =>
        Effect.gen(function* () {
          const { code, stderr, stdout } = yield* Service.run({ args: ["serve"], env: { ...base, ...env } })
          assert.include(stderr, expected)
          assert.match(stderr, /^holdfast: [^\n]+\n$/)
          assert.notInclude(stderr + stdout, secret)
          assert.strictEqual(code, 1, expected)
        }),
      { concurrency: 2 }
    )
  )
})
