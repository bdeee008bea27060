import { randomBytes } from "node:crypto"
import { once } from "node:events"
import * as Net from "node:net"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Semaphore from "effect/Semaphore"
import * as Settings from "../../src/server/Settings.ts"
import { cookieName, problemOf, run } from "../support/browser.ts"
import { freshDatabase } from "../support/postgres.ts"
import * as Service from "../support/service.ts"

const secret = "hush-2b7e"

/** A complete configuration; no database is needed where it is refused. */
const fine: Service.Environment = {
  PORT: "0",
  DATABASE_URL: `postgres://user:${secret}@127.0.0.1:1/database`,
  HOLDFAST_QUERY_URL: `postgres://other:${secret}@127.0.0.1:1/queries`,
  HOLDFAST_DEMO_PASSWORD: secret
}

/** The service says one line, about this variable, and ends with exit code 1. */
const ends = (variable: string, env: Service.Environment) =>
  Effect.gen(function* () {
    const { code, stderr, stdout } = yield* Service.run({ args: ["serve"], env: { ...fine, ...env } })
    const what = JSON.stringify(env)
    assert.strictEqual(stdout, "", what)
    assert.match(stderr, /^holdfast: [^\n]+\n$/, what)
    assert.include(stderr, variable, what)
    assert.notInclude(stderr, secret, what)
    assert.strictEqual(code, 1, what)
    return stderr
  })

/** The environment is this process's: one at a time. */
const turn = Semaphore.makeUnsafe(1)

/** Puts others in the place of this process's variables, but for the paths, and returns what there was. */
const environmentOf = (env: Service.Environment): Service.Environment => {
  const own = { ...process.env }
  for (const name of Object.keys(own)) if (!["HOME", "PATH"].includes(name)) delete process.env[name]
  for (const [name, value] of Object.entries(env)) if (value !== undefined) process.env[name] = value
  return own
}

/** What the service would read at its start is refused with one line about this variable, which {@link ends} it. */
const refused = (variable: string, env: Service.Environment) =>
  Effect.acquireUseRelease(
    Effect.sync(() => environmentOf({ ...fine, ...env })),
    () => Effect.flip(Settings.load),
    (own) => Effect.sync(() => environmentOf(own))
  ).pipe(
    turn.withPermit,
    Effect.map(({ message }) => {
      const what = JSON.stringify(env)
      assert.notInclude(message, "\n", what)
      assert.include(message, variable, what)
      assert.notInclude(message, secret, what)
      return message
    })
  )

/** The first of them in a process of its own. */
const allRefused = (cases: ReadonlyArray<readonly [variable: string, value: string]>) =>
  Effect.forEach(
    cases,
    ([variable, value], index): Effect.Effect<string, unknown> =>
      (index === 0 ? ends : refused)(variable, { [variable]: value }),
    { discard: true }
  )

/** A server on a free port of this machine that answers nothing, ever. */
const silentServer = Effect.acquireRelease(
  Effect.promise(async () => {
    const sockets = new Set<Net.Socket>()
    const server = Net.createServer((socket) => sockets.add(socket.on("error", () => undefined)))
    await once(server.listen(0, "127.0.0.1"), "listening")
    const address = server.address()
    return { server, sockets, port: typeof address === "object" && address !== null ? address.port : 0 }
  }),
  ({ server, sockets }) =>
    Effect.sync(() => {
      for (const socket of sockets) socket.destroy()
      server.close()
    })
)

describe("the configuration of the service", () => {
  it.live("an address that makes no sense is one line that names the variable, and exit code 1", () =>
    allRefused([
      ["PORT", "abc"],
      ["PORT", "70000"],
      ["DATABASE_URL", `nonsense ${secret}`],
      ["DATABASE_URL", `mysql://user:${secret}@127.0.0.1/database`],
      ["HOLDFAST_QUERY_URL", `http://user:${secret}@x`],
      ["HOLDFAST_ORIGIN", "http://example.org"],
      ["HOLDFAST_ORIGIN", "https://x/path"],
      ["HOLDFAST_ORIGIN", `https://user:${secret}@example.org`]
    ])
  )

  it.live("values that contradict each other, and files that are none, are one line that names the variable", () =>
    Effect.gen(function* () {
      const file = { HOLDFAST_DEMO_PASSWORD: undefined, HOLDFAST_DEMO_PASSWORD_FILE: "/nowhere/at/all" }
      for (const [variable, env] of [
        ["HOLDFAST_DEMO_PASSWORD_FILE", file],
        ["HOLDFAST_DEMO_PASSWORD_FILE", { HOLDFAST_DEMO_PASSWORD_FILE: "/dev/null" }],
        ["HOLDFAST_ENGINE_LAKE_PASSWORD_FILE", { HOLDFAST_ENGINE_LAKE_PASSWORD_FILE: "/dev/null" }],
        ["HOLDFAST_TLS_KEY", { HOLDFAST_TLS_KEY: "/dev/null" }],
        ["HOLDFAST_TLS_CERT", { HOLDFAST_TLS_CERT: "/nowhere/at/all" }],
        ["HOLDFAST_TLS_CERT", { HOLDFAST_TLS_CERT: "/dev/null" }],
        ["HOLDFAST_FUNCTION_IDLE_TIMEOUT", { HOLDFAST_FUNCTION_IDLE_TIMEOUT: "8d" }],
        ["HOLDFAST_IDLE_TIMEOUT", { HOLDFAST_IDLE_TIMEOUT: "13h" }],
        ["HOLDFAST_IDLE_TIMEOUT", { HOLDFAST_IDLE_TIMEOUT: "30" }],
        ["HOLDFAST_LOG_LEVEL", { HOLDFAST_LOG_LEVEL: "loud" }],
        ["HOLDFAST_LOG_FORMT", { HOLDFAST_LOG_FORMT: "json" }]
      ] as const) {
        yield* refused(variable, env)
      }
    })
  )

  it.live("a database URL that can never work is one line that names the variable and says why, and exit code 1", () =>
    Effect.forEach(
      (
        [
          [`postgres://user:${secret}100%@127.0.0.1/database`, "password percent-encoded"],
          ["postgres://user@127.0.0.1/100%", "database percent-encoded"],
          ["postgres://us%er@127.0.0.1/database", "user name percent-encoded"],
          ["postgres://user@127.0.0.1/a%00b", "NUL"],
          [`postgres://user:${secret}%00@127.0.0.1/a`, "NUL"],
          [`postgres://user:${secret}@127.0.0.1/a?options=%00`, "NUL"],
          [`postgres://user:${secret}@127.0.0.1/a?sslmode=requier`, "sslmode"],
          [`postgres://user:${secret}@127.0.0.1/a?connect_timeout=ten`, "connect_timeout"],
          [`postgres://user:${secret}@127.0.0.1/a?port=abc`, "port"],
          [`postgres://user:${secret}@127.0.0.1/a?port=0`, "port"],
          [`postgres://user:${secret}@127.0.0.1:0/a`, "port"],
          [`postgres://user:${secret}@127.0.0.1:65536/a`, "port"],
          [`postgres://user:${secret}@127.0.0.1/a?sslmood=require`, "sslmood"],
          [`postgres://user:${secret}@127.0.0.1/a?${secret}=1`, "a parameter"],
          [`postgres://user:${secret}@127.0.0.1/a#${secret}`, "%23"],
          [`postgres://user:${secret}@/a`, "must"]
        ] as const
      ).flatMap(([url, why]) => [["DATABASE_URL", url, why] as const, ["HOLDFAST_QUERY_URL", url, why] as const]),
      ([variable, url, why]) =>
        Effect.map(refused(variable, { [variable]: url }), (said) => assert.include(said, why, url)),
      { concurrency: 3, discard: true }
    )
  )

  it.live("an origin may say the port of its scheme, and is what a browser makes of it", () =>
    Effect.gen(function* () {
      for (const origin of ["https://example.org:443", "https://example.org/", "HTTPS://Example.org"]) {
        const service = yield* Service.startService({ env: { HOLDFAST_ORIGIN: origin } })
        const json = { username: "demo", password: Service.demoPassword }
        const login = service.browser().send("POST", "/login", { json, headers: { origin: "https://example.org" } })
        assert.strictEqual((yield* login).status, 200, origin)
      }
      yield* allRefused([
        ["HOLDFAST_ORIGIN", "https://example.org?"],
        ["HOLDFAST_ORIGIN", "https://example.org/#"],
        ["HOLDFAST_ORIGIN", "https://@example.org"],
        ["HOLDFAST_ORIGIN", "https://example.org/.."],
        ["HOLDFAST_ORIGIN", "example.org:443"]
      ])
    })
  )

  it.live("a variable of ours that there is not is one line with the nearest one, and exit code 1", () =>
    Effect.gen(function* () {
      for (const [name, known] of [
        ["HOLDFAST_MAX_QUERYS", "HOLDFAST_MAX_QUERIES"],
        ["HOLDFAST_IDLE_TIMEOUTS", "HOLDFAST_IDLE_TIMEOUT"],
        ["HOLDFAST_TRUSTED_PROXY", "HOLDFAST_TRUSTED_PROXIES"],
        ["HOLDFAST_QUERYURL", "HOLDFAST_QUERY_URL"],
        ["holdfast_origin", "HOLDFAST_ORIGIN"]
      ] as const) {
        assert.include(yield* refused(name, { [name]: secret }), known)
      }
      // A service called holdfast has these set for it by Kubernetes.
      yield* refused("HOLDFAST_MAX_SESSIONS", {
        HOLDFAST_SERVICE_HOST: "10.0.0.1",
        HOLDFAST_SERVICE_PORT_HTTP: "3000",
        HOLDFAST_PORT: "tcp://10.0.0.1:3000",
        HOLDFAST_PORT_3000_TCP_ADDR: "10.0.0.1",
        HOLDFAST_TEST_SCALE: "1",
        HOLDFAST_MAX_SESSIONS: "0"
      })
      yield* refused("HOLDFAST_PORT", { HOLDFAST_PORT: "8080" })
    })
  )

  it.live("an idle timeout beyond the absolute one is refused; the usual one is never beyond it", () =>
    Effect.gen(function* () {
      yield* refused("HOLDFAST_IDLE_TIMEOUT", { HOLDFAST_IDLE_TIMEOUT: "13 hours" })
      yield* refused("HOLDFAST_IDLE_TIMEOUT", {
        HOLDFAST_IDLE_TIMEOUT: "11 minutes",
        HOLDFAST_ABSOLUTE_TIMEOUT: "10 minutes"
      })
      yield* refused("HOLDFAST_MAX_SESSIONS", { HOLDFAST_ABSOLUTE_TIMEOUT: "10 minutes", HOLDFAST_MAX_SESSIONS: "0" })
    })
  )

  it.live("a time or a number that makes no sense is one line that names the variable, and exit code 1", () =>
    allRefused([
      ["HOLDFAST_IDLE_TIMEOUT", "soon"],
      ["HOLDFAST_ABSOLUTE_TIMEOUT", "0 seconds"],
      ["HOLDFAST_QUERY_RETENTION", "Infinity"],
      ["HOLDFAST_MAX_SESSIONS", "0"],
      ["HOLDFAST_MAX_QUERIES", "many"],
      ["HOLDFAST_MAX_QUERIES_PER_USER", "0"],
      ["HOLDFAST_MAX_QUERIES_PER_USER", "11"],
      ["HOLDFAST_QUERY_TIMEOUT", "25 hours"],
      ["HOLDFAST_QUERY_MAX_TIMEOUT", "2 days"],
      ["HOLDFAST_QUERY_TIMEOUTS", "alice"],
      ["HOLDFAST_MAX_CONNECTIONS", "0"],
      ["HOLDFAST_MAX_CONNECTIONS_PER_ADDRESS", "10001"],
      ["HOLDFAST_DRAIN_DELAY", "61s"],
      ["HOLDFAST_KEEP_ALIVE", "130"],
      ["HOLDFAST_KEEP_ALIVE", "999ms"],
      ["HOLDFAST_KEEP_ALIVE", "61m"],
      ["HOLDFAST_RENEW_EVERY", "often"],
      ["HOLDFAST_RENEW_EVERY", "0 seconds"],
      ["HOLDFAST_SESSION_STORE", "mongo"]
    ])
  )

  it.live("sessions in Redis need a URL that makes sense, and without them it is not looked at", () =>
    Effect.gen(function* () {
      const redis = { HOLDFAST_SESSION_STORE: "redis" }
      assert.include(yield* refused("REDIS_URL", redis), "must be set")
      for (const url of [
        "",
        secret,
        `http://user:${secret}@x`,
        `redis://:${secret}@x/name`,
        `redis://:${secret}%@x`,
        `redis://:${secret}@x:0`,
        `redis://:${secret}@x/0?${secret}=1`,
        `redis://:${secret}@x#${secret}`
      ]) {
        yield* refused("REDIS_URL", { ...redis, REDIS_URL: url })
      }
      yield* refused("HOLDFAST_MAX_SESSIONS", { REDIS_URL: secret, HOLDFAST_MAX_SESSIONS: "0" })
    })
  )

  it.live("trusted proxies that are no networks are one line that names the variable, and exit code 1", () =>
    allRefused([
      ["HOLDFAST_TRUSTED_PROXIES", "10.0.0.0"],
      ["HOLDFAST_TRUSTED_PROXIES", "10.0.0.0/33"],
      ["HOLDFAST_TRUSTED_PROXIES", "10.0.0.1/8"],
      ["HOLDFAST_TRUSTED_PROXIES", "10.0.0.0/8,,127.0.0.0/8"],
      ["HOLDFAST_TRUSTED_PROXIES", "2001:db8::/129"],
      ["HOLDFAST_TRUSTED_PROXIES", "proxy.example.org"]
    ])
  )

  it.live("a demo password that is empty, too short or among the most common ones is refused", () =>
    Effect.forEach(
      [
        ["", "empty"],
        ["1234567", "at least 8 characters"],
        ["Password", "most common"]
      ] as const,
      ([password, why]) =>
        Effect.map(refused("HOLDFAST_DEMO_PASSWORD", { HOLDFAST_DEMO_PASSWORD: password }), (said) => {
          assert.include(said, why)
          if (password !== "" && password !== "Password") assert.notInclude(said, password)
        }),
      { concurrency: 3, discard: true }
    )
  )

  it.live("keys of sessions that make no sense are refused without being told; those that do encrypt the data", () =>
    Effect.gen(function* () {
      const key = randomBytes(32).toString("base64url")
      const keysRefused = (keys: string, why: string) =>
        Effect.map(refused("HOLDFAST_SESSION_KEYS", { HOLDFAST_SESSION_KEYS: keys }), (said) => {
          assert.include(said, why)
          assert.notInclude(said, key.slice(1))
        })
      yield* Effect.all(
        [
          keysRefused(key, "an id"),
          keysRefused(`a:${key.slice(1)}`, '"a"'),
          refused("HOLDFAST_SESSION_KEYS_FILE", { HOLDFAST_SESSION_KEYS_FILE: "/nowhere" })
        ],
        { concurrency: 3 }
      )
      const service = yield* Service.startService({ env: { HOLDFAST_SESSION_KEYS: `a:${key}` } })
      const browser = yield* service.login()
      const changed = yield* browser.send("PATCH", "/session/data", { json: { note: "Secret note" } })
      assert.strictEqual(changed.status, 200)
      assert.deepStrictEqual((yield* browser.send("GET", "/session/data")).json, { note: "Secret note" })
      const own = yield* PgConnection.make({ url: service.own.url })
      const stored = yield* own.queryValues("select data::text from holdfast.sessions")
      assert.match(JSON.stringify(stored), /sealed:/)
      assert.notInclude(JSON.stringify(stored), "Secret")
    }).pipe(Effect.scoped)
  )

  it.live(
    "with HOLDFAST_REQUIRE_TLS no connection goes beyond this machine without TLS; without it one is warned of",
    () =>
      Effect.gen(function* () {
        const tls = { HOLDFAST_REQUIRE_TLS: "on" }
        const away = `postgres://user:${secret}@db.internal/database`
        const tlsRefused = (variable: string, env: Service.Environment) =>
          Effect.map(refused(variable, { ...tls, ...env }), (said) => assert.include(said, "HOLDFAST_REQUIRE_TLS"))
        // Complete as far as this is looked at: something else is refused.
        const encrypted = { DATABASE_URL: `${away}?sslmode=require`, HOST: "0.0.0.0" }
        yield* Effect.all(
          [
            tlsRefused("DATABASE_URL", { DATABASE_URL: away }),
            tlsRefused("HOLDFAST_QUERY_URL", { HOLDFAST_QUERY_URL: `${away}?sslmode=prefer` }),
            tlsRefused("REDIS_URL", { HOLDFAST_SESSION_STORE: "redis", REDIS_URL: `redis://:${secret}@10.0.0.5` }),
            Effect.map(refused("HOLDFAST_ORIGIN", { ...tls, ...encrypted }), (said) => assert.notInclude(said, "TLS"))
          ],
          { concurrency: 3 }
        )
        const { url } = yield* freshDatabase
        const clear = new URL(Redacted.value(url))
        clear.hostname = "0.0.0.0"
        const warned = yield* Service.startService({ env: { DATABASE_URL: clear.href } })
        assert.match(warned.stdout(), /DATABASE_URL leads beyond this machine without TLS/)
        assert.notInclude(warned.stdout(), "HOLDFAST_QUERY_URL leads")
      }).pipe(Effect.scoped)
  )

  it.live("a file of users' database roles must be one, and be asked for", () =>
    Effect.gen(function* () {
      const map = { HOLDFAST_QUERY_ROLES: "map" }
      yield* ends("HOLDFAST_QUERY_ROLES", { HOLDFAST_QUERY_ROLES: "mine" })
      yield* refused("HOLDFAST_QUERY_ROLES_FILE", map)
      yield* refused("HOLDFAST_QUERY_ROLES_FILE", { ...map, HOLDFAST_QUERY_ROLES_FILE: "/nowhere" })
      yield* refused("HOLDFAST_QUERY_ROLES_FILE", { ...map, HOLDFAST_QUERY_ROLES_FILE: import.meta.filename })
      yield* refused("HOLDFAST_QUERY_ROLES_FILE", { HOLDFAST_QUERY_ROLES_FILE: import.meta.filename })
    })
  )

  it.live("listening for everybody needs an https origin", () => ends("HOLDFAST_ORIGIN", { HOST: "0.0.0.0" }))

  it.live("a port or a host that cannot be had is one line, and exit code 1", () =>
    Effect.gen(function* () {
      const { port } = yield* silentServer
      assert.include(yield* ends("PORT", { PORT: String(port) }), String(port))
      yield* ends("HOST", { HOST: "192.0.2.1", HOLDFAST_ORIGIN: "https://example.org" })
    })
  )

  it.live("S10 no password and no token is in what it says", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      const { lines, own, queries, stderr, stdout, url } = service
      assert.strictEqual(lines()[0], `Holdfast listening on ${url}`)
      const browser = yield* service.login()
      const tokens = Array.from(browser.cookies.values())
      assert.lengthOf(tokens, 1)
      yield* browser.send("POST", "/login", { json: { username: "demo", password: secret } })
      yield* run(browser, "select * from nowhere")
      yield* browser.send("POST", "/logout")
      yield* Effect.andThen(service.signal("SIGTERM"), service.exited)
      assert.include(stdout(), `${cookieName(url)} and not Secure`)
      const passwords = [own, queries].map(({ url }) => new URL(Redacted.value(url)).password)
      for (const hidden of [...passwords, ...tokens, Service.demoPassword, secret]) {
        assert.notInclude(stdout() + stderr(), hidden)
      }
    })
  )

  it.live(
    "with an https origin the cookie is __Host-holdfast and Secure, and unsafe requests must come from there",
    () =>
      Effect.gen(function* () {
        const service = yield* Service.startService({ env: { HOLDFAST_ORIGIN: "https://example.org" } })
        assert.notInclude(service.stdout(), "not Secure")
        const login = (headers: Readonly<Record<string, string>>) => {
          const json = { username: "demo", password: Service.demoPassword }
          return service.browser().send("POST", "/login", { json, headers })
        }
        const answer = yield* login({ origin: "https://example.org" })
        const [pair = "", ...attributes] = (answer.headers.getSetCookie()[0] ?? "").split("; ")
        assert.match(pair, /^__Host-holdfast=[\w-]{43}$/)
        assert.includeMembers(attributes, ["Secure", "HttpOnly", "SameSite=Lax", "Path=/"])
        assert.isFalse(attributes.some((attribute) => attribute.startsWith("Domain")))
        const session = (cookie: string) => service.browser().send("GET", "/session", { headers: { cookie } })
        assert.strictEqual((yield* session(pair)).status, 200)
        assert.strictEqual((yield* session(pair.replace("__Host-holdfast", cookieName(service.url)))).status, 401)
        assert.strictEqual(problemOf(yield* login({ origin: service.url })).code, "OriginRefused")
      })
  )

  it.live("without HOLDFAST_QUERY_URL the session calls work and the query calls are 503 QueriesNotConfigured", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService({ env: { HOLDFAST_QUERY_URL: undefined } })
      const browser = yield* service.login()
      assert.strictEqual((yield* browser.send("GET", "/session")).status, 200)
      const id = "/queries/q_00000000-0000-4000-8000-000000000000"
      for (const [method, path] of [
        ["POST", "/queries"],
        ["GET", "/queries"],
        ["GET", id],
        ["GET", `${id}/rows`],
        ["DELETE", id]
      ] as const) {
        const answer = yield* browser.send(method, path, method === "POST" ? { json: { sql: "select 1" } } : {})
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [503, "QueriesNotConfigured"], path)
      }
      assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
    })
  )

  it.live("users' SQL on the database or with the role of the sessions is allowed, with a warning", () =>
    Effect.gen(function* () {
      const service = yield* Service.startService()
      assert.notInclude(service.stdout(), "HOLDFAST_QUERY_URL")
      const same = yield* Service.startService({
        env: {
          DATABASE_URL: service.env["DATABASE_URL"],
          HOLDFAST_QUERY_URL: service.env["DATABASE_URL"],
          HOLDFAST_QUERY_SUPERUSER: "allow"
        }
      })
      assert.match(same.stdout(), /HOLDFAST_QUERY_URL has the role or the database/)
    })
  )

  it.live("what is no command is explained, with exit code 1", () =>
    Effect.gen(function* () {
      const { code, stderr } = yield* Service.run({ args: ["sevre"] })
      assert.strictEqual(code, 1)
      assert.include(stderr, "sevre")
    })
  )
})
