/** The service when the Redis of its sessions goes away and comes back, and commands beside it. */
import { assert, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import { cookieName, type Browser, inTime, make as makeBrowser, rowsOf } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as RedisService from "../support/redisService.ts"
import { client, ownServer } from "../support/redis.ts"
import * as Service from "../support/service.ts"

const credentials = { username: "demo", password: Service.demoPassword }
const unavailable = [503, "SessionsUnavailable"] as const

const login = (browser: Browser) => browser.send("POST", "/login", { json: credentials })

const NotReady = Schema.Struct({ waitingFor: Schema.Array(Schema.String) })

/** What the service waits for; nothing: it is ready. */
const waitingFor = (browser: Browser) =>
  Effect.map(browser.send("GET", "/health/ready"), ({ json, status }) =>
    status === 200 ? [] : Schema.decodeUnknownSync(NotReady)(json).waitingFor
  )

const becomesReady = (browser: Browser) => eventually(waitingFor(browser), (names) => names.length === 0)

/** What needs a session answers that it cannot be looked up; nobody is told that they are logged out. */
const allUnavailable = Effect.fnUntraced(function* (browser: Browser) {
  for (const [method, path] of [
    ["GET", "/session"],
    ["PATCH", "/session/data"],
    ["GET", "/sessions"],
    ["POST", "/logout"],
    ["GET", "/queries"]
  ] as const) {
    const answer = browser.send(method, path, method === "PATCH" ? { json: { a: 1 } } : {})
    assert.deepStrictEqual(yield* inTime(answer), unavailable, `${method} ${path}`)
  }
  assert.deepStrictEqual(yield* inTime(login(browser)), unavailable)
  assert.deepStrictEqual(yield* inTime(browser.send("GET", "/health/live")), [200, ""])
})

/** The session is there again within the time that is promised, and logins are. */
const isBack = (browser: Browser) =>
  Effect.all(
    [browser.send("GET", "/session"), login(makeBrowser(browser.url))].map((answer) =>
      eventually(answer, ({ status }) => status === 200, "5 seconds")
    ),
    { concurrency: "unbounded" }
  )

it.live(
  "the service starts without Redis, is live and not ready, and is ready by itself; without users sessions go on",
  () =>
    Effect.gen(function* () {
      const server = yield* ownServer()
      yield* server.stop
      const { env, own } = yield* Service.startService()
      const service = yield* Service.launch({
        args: ["serve"],
        env: { ...env, ...RedisService.sessionsIn(server.url) }
      })
      const browser = makeBrowser(yield* Service.listening(service))
      yield* eventually(waitingFor(browser), (names) => String(names) === "sessions", "30 seconds")
      browser.cookies.set(cookieName(browser.url), "a".repeat(43))
      yield* allUnavailable(browser)
      yield* server.start
      yield* becomesReady(browser)
      browser.cookies.clear()
      assert.deepStrictEqual(yield* inTime(login(browser)), [200, ""])

      yield* Service.administer(`alter database ${own.name} with allow_connections false`)
      yield* Service.administer(`select pg_terminate_backend(pid) from pg_stat_activity where datname = '${own.name}'`)
      yield* eventually(waitingFor(browser), (names) => String(names) === "users,lease,results")
      assert.deepStrictEqual(yield* inTime(browser.send("GET", "/session")), [200, ""])
      assert.deepStrictEqual(yield* inTime(browser.send("PATCH", "/session/data", { json: { a: 1 } })), [200, ""])
      assert.deepStrictEqual(yield* inTime(login(makeBrowser(browser.url))), unavailable)
      yield* Service.administer(`alter database ${own.name} with allow_connections true`)
      yield* becomesReady(browser)
      assert.deepStrictEqual(yield* inTime(login(makeBrowser(browser.url))), [200, ""])
    }).pipe(Effect.scoped),
  60_000
)

class OnRedis extends Context.Service<OnRedis, Effect.Success<ReturnType<typeof RedisService.start>>>()(
  "test/OnRedis"
) {}

const layerOnRedis = Layer.effect(OnRedis, RedisService.start())

layer(layerOnRedis, { excludeTestServices: true, timeout: "60 seconds" })(
  "sessions in a Redis that goes away",
  (it) => {
    it.effect("S11 a server that was killed is 503 and never 401, and its sessions are there again by themselves", () =>
      Effect.gen(function* () {
        const { server, service } = yield* OnRedis
        const browser = yield* service.login()
        yield* browser.send("PATCH", "/session/data", { json: { kept: true } })
        yield* server.kill
        yield* allUnavailable(browser)
        yield* eventually(waitingFor(browser), (names) => String(names) === "sessions")
        yield* server.start
        yield* isBack(browser)
        assert.strictEqual((yield* browser.send("GET", "/session/data")).text, '{"kept":true}')
        yield* becomesReady(browser)
        assert.deepStrictEqual(yield* rowsOf(browser, "select 1"), [[1]])
      })
    )

    it.effect("S11 a server that stands still is 503 within five seconds, and is there when it goes on", () =>
      Effect.gen(function* () {
        const { server, service } = yield* OnRedis
        const browser = yield* service.login()
        yield* Effect.acquireUseRelease(
          server.pause,
          () => Effect.all([allUnavailable(browser), allUnavailable(browser)], { concurrency: "unbounded" }),
          () => server.resume
        )
        yield* isBack(browser)
      })
    )

    it.effect("S11 killed and restarted under load, it answers 200 or 503, and 200 alone within five seconds", () =>
      Effect.gen(function* () {
        const { server, service } = yield* OnRedis
        const browser = yield* service.login()
        const seen = new Map<number, number>()
        const request = Effect.tap(browser.send("GET", "/session"), ({ status }) =>
          Effect.sync(() => seen.set(status, (seen.get(status) ?? 0) + 1))
        )
        const load = yield* Effect.forkChild(
          Effect.all(
            Array.from({ length: 16 }, () => Effect.forever(request)),
            { concurrency: "unbounded" }
          )
        )
        const more = (status: number) => {
          const before = seen.get(status) ?? 0
          return eventually(
            Effect.sync(() => seen.get(status) ?? 0),
            (count) => count > before + 50,
            "5 seconds"
          )
        }
        for (let round = 0; round < 2; round++) {
          yield* more(200)
          yield* server.kill
          yield* more(503)
          yield* server.start
          yield* more(200)
        }
        yield* Fiber.interrupt(load)
        assert.sameMembers(Array.from(seen.keys()), [200, 503])
        yield* isBack(browser)
      })
    )

    it.effect("a user of Redis that may not count failed logins keeps the service from being ready", () =>
      Effect.gen(function* () {
        const { server, service } = yield* OnRedis
        const redis = yield* client(Effect.succeed(server.url))
        const browser = yield* service.login()
        yield* becomesReady(browser)
        yield* Effect.acquireUseRelease(
          redis.send("ACL", "SETUSER", "default", "-zremrangebyscore"),
          () =>
            Effect.gen(function* () {
              assert.deepStrictEqual(yield* inTime(login(makeBrowser(browser.url))), unavailable)
              yield* eventually(waitingFor(browser), (names) => String(names) === "sessions")
            }),
          () => Effect.orDie(redis.send("ACL", "SETUSER", "default", "+@all"))
        )
        yield* becomesReady(browser)
      })
    )

    it.effect("S11 a full memory is 503 for what has to be written, and is over when there is room", () =>
      Effect.gen(function* () {
        const { server, service } = yield* OnRedis
        const redis = yield* client(Effect.succeed(server.url))
        const browser = yield* service.login()
        const patch = browser.send("PATCH", "/session/data", { json: { more: 1 } })
        yield* Effect.acquireUseRelease(
          redis.send("CONFIG", "SET", "maxmemory", "1mb"),
          () =>
            Effect.gen(function* () {
              assert.deepStrictEqual(yield* inTime(patch), unavailable)
              assert.deepStrictEqual(yield* inTime(login(service.browser())), unavailable)
              assert.notStrictEqual((yield* browser.send("GET", "/session")).status, 401)
            }),
          () => Effect.orDie(redis.send("CONFIG", "SET", "maxmemory", "0"))
        )
        assert.deepStrictEqual(yield* inTime(patch), [200, ""])
      }).pipe(Effect.scoped)
    )

    it.effect("S7 holdfast user ends the sessions that are in Redis, and changes nobody while it is away", () =>
      Effect.gen(function* () {
        const { server, service } = yield* OnRedis
        const user = (args: ReadonlyArray<string>, password = "") =>
          Service.run({ args: ["user", ...args], env: service.env, input: password })
        assert.strictEqual((yield* user(["add", "alice"], "the first one")).code, 0)
        const browsers = [
          yield* service.login("alice", "the first one"),
          yield* service.login("alice", "the first one")
        ]
        const ended = yield* user(["end-sessions", "alice"])
        assert.deepStrictEqual([ended.code, ended.stdout], [0, "2 sessions of alice ended\n"])
        for (const browser of browsers) assert.strictEqual((yield* browser.send("GET", "/session")).status, 401)

        yield* server.stop
        const failed = yield* user(["add", "alice"], "the second one")
        assert.strictEqual(failed.code, 1)
        assert.match(failed.stderr, /^holdfast: [^\n]+\n$/)
        yield* server.start
        yield* becomesReady(service.browser())
        yield* service.login("alice", "the first one")
      })
    )
  }
)
