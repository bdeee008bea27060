/**
 * What the operator is told when a server cannot be used: why, where, once, and when it can again.
 */
import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import { ownServer } from "../support/redis.ts"
import * as Browser from "../support/browser.ts"
import * as Service from "../support/service.ts"
import { tlsServer } from "../support/tlsServer.ts"

const tells = (program: Service.Program, what: string) =>
  program.messages().filter((line) => /cannot be (?:used|opened)/.test(line) && line.includes(what))
const recovers = (program: Service.Program) => program.messages().filter((line) => line.includes("can be used again"))

const told = (program: Service.Program, what: string) =>
  eventually(
    Effect.sync(() => tells(program, what)),
    (lines) => lines.length > 0,
    "20 seconds"
  )

const as = (url: Redacted.Redacted, user: string, password: string, database?: string) => {
  const changed = new URL(Redacted.value(url))
  changed.username = user
  changed.password = password
  if (database !== undefined) changed.pathname = `/${database}`
  return changed
}

const world = Effect.gen(function* () {
  const server = yield* TestPostgres.make({ maxConnections: 60 })
  const admin = yield* PgConnection.make({ url: server.superuserUrl, applicationName: "admin" })
  yield* admin.query("create role app login password 'first secret'")
  yield* admin.query("create database app")
  return { server, admin, url: as(server.superuserUrl, "app", "first secret", "app") }
})

describe("a server that cannot be used", { concurrent: true, timeout: 90_000 }, () => {
  it.live("the log says why, once for each cause, and once that it can be used again", () =>
    Effect.gen(function* () {
      const { admin, server } = yield* world
      const where = `127.0.0.1:${server.port}`
      const wrong = as(server.superuserUrl, "app", "wrong secret", "app")
      const service = yield* Service.launch({
        args: ["serve"],
        env: { PORT: "0", DATABASE_URL: wrong.href, HOLDFAST_DEMO_PASSWORD: Service.demoPassword }
      })
      const address = yield* Service.listening(service)
      const ask = Browser.make(address).send("GET", "/health/ready")
      const expected = [
        [Effect.void, `password authentication failed for user "app" (28P01)`],
        [admin.query("alter role app nologin password 'wrong secret'"), `is not permitted to log in (28000)`],
        [admin.query("alter role app login"), `permission denied for database app (42501)`],
        [server.stop, "ECONNREFUSED"]
      ] as const
      for (const [change, reason] of expected) {
        yield* change
        yield* told(service, reason)
        // As often as it is tried meanwhile.
        for (let times = 0; times < 3; times++) yield* Effect.andThen(ask, Effect.sleep("400 millis"))
        const lines = tells(service, reason)
        assert.lengthOf(lines, 1, service.stdout())
        assert.match(
          lines[0] ?? "",
          new RegExp(
            `The database of \\w+ \\(${where.replaceAll(".", "\\.")}/app\\) cannot be used: .*Holdfast keeps trying\\.$`
          )
        )
      }
      yield* server.start
      const again = yield* PgConnection.make({ url: server.superuserUrl, applicationName: "admin" })
      yield* again.query("grant create on database app to app")
      yield* eventually(ask, ({ status }) => status === 200, "20 seconds")
      yield* eventually(
        Effect.andThen(
          ask,
          Effect.sync(() => recovers(service))
        ),
        (lines) => lines.length === 1,
        "20 seconds"
      )
      assert.notInclude(service.stdout() + service.stderr(), "secret")
      // Of all the entries, none has a stack.
      assert.notMatch(service.stdout() + service.stderr(), /\n\s+at /)
    })
  )

  it.live("the log says why users' SQL cannot be run, and why sessions in Redis cannot be used", () =>
    Effect.gen(function* () {
      const { server } = yield* world
      const redis = yield* ownServer({ config: ["requirepass right"] })
      const redisUrl = new URL(Redacted.value(redis.url))
      redisUrl.password = "wrong-secret"
      const queries = as(server.superuserUrl, "app", "first secret", "nowhere")
      const service = yield* Service.launch({
        args: ["serve"],
        env: {
          PORT: "0",
          DATABASE_URL: Redacted.value(server.superuserUrl),
          HOLDFAST_QUERY_URL: queries.href,
          HOLDFAST_SESSION_STORE: "redis",
          REDIS_URL: redisUrl.href
        }
      })
      const ask = Browser.make(yield* Service.listening(service)).send("GET", "/health/ready")
      yield* eventually(
        Effect.andThen(
          ask,
          Effect.sync(() => tells(service, "nowhere"))
        ),
        (lines) => lines.length > 0
      )
      yield* told(service, "WRONGPASS")
      for (let times = 0; times < 5; times++) yield* Effect.andThen(ask, Effect.sleep("500 millis"))
      assert.lengthOf(tells(service, `database "nowhere" does not exist (3D000)`), 1, service.stdout())
      assert.lengthOf(tells(service, "Redis at"), 1, service.stdout())
      assert.notInclude(service.stdout() + service.stderr(), "secret")
    })
  )

  it.live("SIGTERM ends a service whose database is gone for good, and what waited for an answer of it", () =>
    Effect.gen(function* () {
      const { admin, server, url } = yield* world
      const DATABASE_URL = Redacted.value(server.superuserUrl)
      const password = "a password of hers"
      yield* Service.run({ args: ["user", "add", "alice"], env: { DATABASE_URL, HOLDFAST_PASSWORD: password } })
      const service = yield* Service.launch({
        args: ["serve"],
        env: { PORT: "0", DATABASE_URL, HOLDFAST_QUERY_URL: url.href }
      })
      const browser = Browser.make(yield* Service.listening(service))
      const login = Browser.login(browser, { username: "alice", password })
      yield* login
      yield* Browser.submit(browser, "select pg_sleep(60)")
      // The statements of those that log in run until the server is gone.
      yield* admin.query("begin")
      yield* admin.query("lock table holdfast.users")
      yield* Effect.forEach(Array.from({ length: 8 }), () => Effect.forkChild(Effect.exit(login)))
      yield* eventually(
        admin.query("select from pg_stat_activity where wait_event_type = 'Lock'"),
        ({ rows }) => rows.length > 0
      )
      yield* server.kill
      yield* told(service, "ECONNREFUSED")
      yield* service.signal("SIGTERM")
      const { code } = yield* Effect.timeout(service.exited, inTimeOf(10_000))
      assert.strictEqual(code, 0, service.stderr())
    })
  )

  it.live("a certificate that is refused is named in the log", () =>
    Effect.gen(function* () {
      const { server } = yield* tlsServer
      const url = new URL(Redacted.value(server.superuserUrl))
      url.searchParams.set("sslmode", "verify-full")
      const service = yield* Service.launch({ args: ["serve"], env: { PORT: "0", DATABASE_URL: url.href } })
      yield* Service.listening(service)
      const [line] = yield* told(service, "certificate")
      assert.include(line ?? "", "(DEPTH_ZERO_SELF_SIGNED_CERT)")
    })
  )

  it.live("`holdfast user add` says why in one line", () =>
    Effect.gen(function* () {
      const { server, url } = yield* world
      const add = (databaseUrl: string, more: Service.Environment = {}) =>
        Service.run({
          args: ["user", "add", "alice"],
          env: { DATABASE_URL: databaseUrl, HOLDFAST_PASSWORD: "a password of hers", ...more }
        })
      const at = `127\\.0\\.0\\.1:${server.port}`
      const cases = [
        [
          as(server.superuserUrl, "app", "wrong secret", "app").href,
          `${at}/app\\) cannot be used: password authentication failed for user "app" \\(28P01\\)`
        ],
        [
          as(server.superuserUrl, "nobody", "wrong secret", "app").href,
          `password authentication failed for user "nobody" \\(28P01\\)`
        ],
        [
          as(server.superuserUrl, "app", "first secret", "nowhere").href,
          `database "nowhere" does not exist \\(3D000\\)`
        ],
        [url.href, `permission denied for database app \\(42501\\)`],
        [
          "postgres://app:secret@127.0.0.1:1/app",
          `127\\.0\\.0\\.1:1/app\\) cannot be used: connect ECONNREFUSED 127\\.0\\.0\\.1:1`
        ]
      ] as const
      for (const [href, reason] of cases) {
        const { code, stderr, stdout } = yield* add(href)
        assert.deepStrictEqual([code, stdout], [1, ""])
        assert.match(stderr, new RegExp(`^holdfast: The database of \\w+ \\(.*${reason}\\.\\n$`))
        assert.notInclude(stderr, "secret")
      }
      const { code, stderr } = yield* add(Redacted.value(server.superuserUrl), {
        HOLDFAST_SESSION_STORE: "redis",
        REDIS_URL: "redis://:secret@127.0.0.1:1"
      })
      assert.strictEqual(code, 1)
      assert.match(
        stderr,
        /^holdfast: Redis at 127\.0\.0\.1:1 cannot be used: connect ECONNREFUSED 127\.0\.0\.1:1\.\n$/
      )
    })
  )
})
