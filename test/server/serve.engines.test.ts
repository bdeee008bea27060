import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { problemOf, rowsOf, run, settled, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import * as MysqlConnectionSource from "../../src/mysql/MysqlConnectionSource.ts"
import * as EngineSettings from "../../src/server/EngineSettings.ts"
import * as SqliteConnectionSource from "../../src/sqlite/SqliteConnectionSource.ts"
import { awayOf, enginesOf, medianOf, shown, timesOf } from "../support/engines.ts"
import * as MariaDb from "../support/mariadb.ts"
import * as Service from "../support/service.ts"

class World extends Context.Service<World, { readonly service: Service.Service; readonly maria: MariaDb.MariaDb }>()(
  "test/World"
) {}

/** PostgreSQL by default, MariaDB as `lake`, a file as `files`. */
const world = Layer.effect(
  World,
  Effect.gen(function* () {
    const maria = yield* MariaDb.make
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-engines-"))),
      (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
    )
    const file = Path.join(directory, "files.db")
    const database = new DatabaseSync(file)
    database.exec("create table doc (id integer primary key, title text); insert into doc values (1, 'one')")
    database.close()
    const service = yield* Service.startService({
      env: {
        HOLDFAST_ENGINES: `lake=${maria.url}, files=sqlite:${file}`,
        HOLDFAST_ENGINE_LAKE_PASSWORD: Redacted.value(maria.password),
        HOLDFAST_ENGINE_LIMITS: "lake=2/2"
      }
    })
    return { service, maria }
  })
)

layer(world, { excludeTestServices: true, timeout: "120 seconds" })("the service on three engines at once", (it) => {
  it.effect("says which there are, with what each can do, its places and whether it is ready", () =>
    Effect.gen(function* () {
      const { service } = yield* World
      const browser = yield* service.login()
      const engines = yield* eventually(enginesOf(browser), (all) => all.every(({ ready }) => ready), "20 seconds")
      assert.deepStrictEqual(
        engines.map(({ capabilities, endsElsewhere, kind, limits, name }) => [
          name,
          kind,
          capabilities.cancel,
          limits.running,
          endsElsewhere
        ]),
        [
          ["default", "postgres", "statement", 10, true],
          ["lake", "mysql", "statement", 2, true],
          ["files", "sqlite", "connection", 10, false]
        ]
      )
      assert.strictEqual((yield* service.browser().send("GET", "/engines")).status, 401)
      assert.deepStrictEqual(yield* awayOf(browser), [])
    })
  )

  it.effect("runs a query on the engine that it names, which its record and the metrics tell", () =>
    Effect.gen(function* () {
      const { service } = yield* World
      const browser = yield* service.login()
      assert.deepStrictEqual(yield* rowsOf(browser, "select version() like 'PostgreSQL%'"), [[true]])
      assert.deepStrictEqual(
        yield* rowsOf(browser, "select version() like '%MariaDB%', ? + 1", { engine: "lake", params: [1] }),
        [[1, 2]]
      )
      assert.deepStrictEqual(
        yield* rowsOf(browser, "select title from doc where id = ?", { engine: "files", params: [1] }),
        [["one"]]
      )
      const { json } = yield* browser.send("GET", "/queries")
      assert.deepStrictEqual(
        (json as ReadonlyArray<{ readonly engine: string }>).slice(0, 3).map(({ engine }) => engine),
        ["files", "lake", "default"]
      )
      const { text } = yield* browser.send("GET", "/metrics")
      assert.match(text, /^holdfast_queries_ended_total\{engine="lake",state="Succeeded"\} \d+$/m)
      assert.match(text, /^holdfast_queries_submitted_total\{engine="files"\} \d+$/m)
    })
  )

  it.effect("422 names the engines where there is none of the name; Q3 a key is for one engine", () =>
    Effect.gen(function* () {
      const { service } = yield* World
      const browser = yield* service.login()
      const refused = yield* browser.send("POST", "/queries", { json: { sql: "select 1", engine: "swamp" } })
      assert.strictEqual(refused.status, 422)
      assert.strictEqual(problemOf(refused).code, "EngineUnknown")
      assert.deepInclude(refused.json as object, { engines: ["default", "lake", "files"] })
      const headers = { "idempotency-key": "one-engine" }
      const send = (engine: string) => browser.send("POST", "/queries", { json: { sql: "select 1", engine }, headers })
      assert.strictEqual((yield* send("files")).status, 202)
      assert.strictEqual((yield* send("files")).status, 202)
      assert.strictEqual(problemOf(yield* send("lake")).code, "IdempotencyConflict")
    })
  )

  it.effect("I1 all places of one engine are taken: queries on another run at once", () =>
    Effect.gen(function* () {
      const { maria, service } = yield* World
      const browser = yield* service.login()
      const ids = yield* Effect.forEach([1, 2, 3, 4], () => submit(browser, "select sleep(60)", { engine: "lake" }))
      yield* eventually(MariaDb.statements(maria), (all) => all.length === 2)
      assert.strictEqual((yield* run(browser, "select 1", { engine: "files" })).state, "Succeeded")
      assert.strictEqual((yield* run(browser, "select 1")).state, "Succeeded")
      for (const id of ids) yield* browser.send("DELETE", `/queries/${id}`)
      yield* eventually(MariaDb.statements(maria), (all) => all.length === 0)
    })
  )

  it.effect("the end of a session ends its queries on every engine", () =>
    Effect.gen(function* () {
      const { maria, service } = yield* World
      const browser = yield* service.login()
      yield* submit(browser, "select sleep(60)", { engine: "lake" })
      yield* submit(browser, "select pg_sleep(60)")
      yield* eventually(MariaDb.statements(maria), (all) => all.length === 1)
      yield* Service.runs(service.queries.name, "pg_sleep")
      assert.strictEqual((yield* browser.send("POST", "/logout")).status, 204)
      assert.deepStrictEqual(yield* MariaDb.statements(maria), [])
      assert.deepStrictEqual(yield* Service.statements(service.queries.name), [])
    })
  )

  it.effect(
    "I1 one engine stands still, then is killed: the others go on as before, and it comes back by itself",
    () =>
      Effect.gen(function* () {
        const { maria, service } = yield* World
        const browser = yield* service.login()
        const before = yield* timesOf(browser, 40)
        const stuck = yield* Effect.forEach([1, 2], () => submit(browser, "select sleep(60)", { engine: "lake" }))
        yield* eventually(MariaDb.statements(maria), (all) => all.length === 2)

        yield* maria.signal("SIGSTOP")
        const cancels = yield* Effect.forkChild(
          Effect.forEach(stuck, (id) => browser.send("DELETE", `/queries/${id}`), { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        const during = yield* timesOf(browser, 40)
        assert.strictEqual((yield* run(browser, "select count(*) from doc", { engine: "files" })).state, "Succeeded")
        yield* eventually(awayOf(browser), (away) => away.join() === "lake", "30 seconds")
        const engines = yield* enginesOf(browser)
        assert.deepStrictEqual(
          engines.map(({ name, ready }) => [name, ready]),
          [
            ["default", true],
            ["lake", false],
            ["files", true]
          ]
        )
        const refused = yield* browser.send("POST", "/queries", { json: { sql: "select 1", engine: "lake" } })
        assert.strictEqual(problemOf(refused).code, "QueriesUnavailable")

        yield* maria.kill
        const after = yield* timesOf(browser, 40)
        assert.deepStrictEqual(yield* awayOf(browser), ["lake"])
        for (const id of stuck) assert.include(["Failed", "Canceled"], (yield* settled(browser, id)).state)
        yield* Effect.logInfo(
          `median and slowest of 40 queries on another engine, in ms: before ${shown(before)}, while it stands still ${shown(during)}, after it was killed ${shown(after)}`
        )
        for (const times of [during, after]) assert.isBelow(medianOf(times), Math.max(10 * medianOf(before), 200))

        yield* maria.start
        yield* eventually(awayOf(browser), (away) => away.length === 0, "30 seconds")
        const again = yield* run(browser, "select 1", { engine: "lake" })
        assert.strictEqual(again.state, "Succeeded", again.error?.message)
        yield* Fiber.join(cancels)
      }),
    120_000
  )

  it.effect("S10 what it writes has no password of an engine", () =>
    Effect.gen(function* () {
      const { maria, service } = yield* World
      const written = service.stdout() + service.stderr()
      assert.notInclude(written, Redacted.value(maria.password))
      assert.notInclude(written, new URL(Redacted.value(service.queries.url)).password)
    })
  )
})

describe("the service on an engine that is not PostgreSQL", () => {
  it.live("HOLDFAST_QUERY_URL leads to a file: queries run on it, and end when the service is killed", () =>
    Effect.gen(function* () {
      const directory = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-engines-"))),
        (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
      )
      const file = Path.join(directory, "only.db")
      new DatabaseSync(file).close()
      const { exited, login, signal } = yield* Service.startService({ env: { HOLDFAST_QUERY_URL: `sqlite:${file}` } })
      const browser = yield* login()
      assert.deepStrictEqual(
        (yield* enginesOf(browser)).map(({ kind, name, ready }) => [name, kind, ready]),
        [["default", "sqlite", true]]
      )
      assert.strictEqual((yield* run(browser, "create table t (n integer)")).state, "Succeeded")
      assert.deepStrictEqual(yield* rowsOf(browser, "insert into t values (1), (2) returning n"), [[1], [2]])
      // Endless, and in a thread that hears nothing.
      yield* submit(
        browser,
        "with recursive step(i) as (select 1 union all select i + 1 from step) select count(*) from step"
      )
      const pids = yield* eventually(
        Effect.map(browser.send("GET", "/holdings"), ({ text }) =>
          Array.from(text.matchAll(/"kind":"connection","id":"(\d+)"/g), ([, pid]) => Number(pid))
        ),
        ({ length }) => length === 1
      )
      rmSync(file)
      yield* eventually(browser.send("GET", "/health/ready"), ({ status }) => status === 503, "20 seconds")
      yield* signal("SIGKILL")
      yield* exited
      yield* eventually(
        Effect.sync(() => pids.filter(isAlive)),
        (left) => left.length === 0
      )
    }).pipe(Effect.scoped)
  )
})

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe("variables of engines", () => {
  const secret = "s3cret-of-an-engine"
  const base = { PORT: "0", DATABASE_URL: "postgres://a:b@127.0.0.1:1/own", HOLDFAST_QUERY_URL: undefined }
  it.live("what makes no sense is refused at start, by name and without what it holds", () =>
    Effect.gen(function* () {
      const wrong = [
        [{ HOLDFAST_ENGINES: `lake=oracle://u:${secret}@h/d` }, "HOLDFAST_ENGINES must lead to postgres:"],
        [
          { HOLDFAST_ENGINES: `lake=mysql://u:${secret}@h` },
          "HOLDFAST_ENGINES must name a host, a user and a database"
        ],
        [{ HOLDFAST_ENGINE_LAKE_PASSWORD: secret }, "HOLDFAST_ENGINE_LAKE_PASSWORD is of no engine"],
        [
          { HOLDFAST_REQUIRE_TLS: "on", HOLDFAST_ENGINES: `lake=mysql://u:${secret}@away.example/d` },
          "HOLDFAST_ENGINES must have ssl-mode=verify_identity"
        ]
      ] as const
      yield* Effect.forEach(
        wrong,
        ([env, expected]) =>
          Effect.gen(function* () {
            const { code, stderr, stdout } = yield* Service.run({ args: ["serve"], env: { ...base, ...env } })
            assert.strictEqual(code, 1, expected)
            assert.include(stderr + stdout, expected)
            assert.notInclude(stderr + stdout, secret)
          }),
        { concurrency: 2 }
      )
    })
  )

  it("engines have names of their own, and a URL may have a comma in it", () => {
    const parse = (text: string) => EngineSettings.parse(Redacted.make(text))
    const urls = Array.from(parse("a=mysql://u@h/d, b-2=sqlite:x,y.db") ?? [], ([name, url]) => [
      name,
      Redacted.value(url)
    ])
    assert.deepStrictEqual(urls, [
      ["a", "mysql://u@h/d"],
      ["b-2", "sqlite:x,y.db"]
    ])
    assert.deepStrictEqual(parse(""), new Map())
    for (const wrong of ["lake", "lake=", "default=sqlite:x", "Lake=sqlite:x", "a=sqlite:x,a=sqlite:y", "=sqlite:x"]) {
      assert.isUndefined(parse(wrong), wrong)
    }
  })

  it("a password of its own takes the place of the one in a URL", () => {
    const password = Option.some(Redacted.make("a b/c"))
    const url = EngineSettings.withPassword(Redacted.make("postgres://alice:old@h:5432/d?sslmode=disable"), password)
    assert.strictEqual(Redacted.value(url), "postgres://alice:a%20b%2Fc@h:5432/d?sslmode=disable")
    assert.strictEqual(EngineSettings.passwordVariable("my-lake"), "HOLDFAST_ENGINE_MY_LAKE_PASSWORD")
    assert.strictEqual(EngineSettings.passwordVariable("default"), "HOLDFAST_QUERY_PASSWORD")
  })

  it("limits are queries at a time, and one user's", () => {
    assert.deepStrictEqual(
      EngineSettings.parseLimits("a=10, b=4/1"),
      new Map([
        ["a", { maxQueries: 10, maxQueriesPerUser: 5 }],
        ["b", { maxQueries: 4, maxQueriesPerUser: 1 }]
      ])
    )
    for (const wrong of ["a", "a=0", "a=1/2", "a=1,a=1", "a=x"]) assert.isUndefined(EngineSettings.parseLimits(wrong))
  })

  it("URLs of SQLite, MySQL and Snowflake are looked at", () => {
    const mysql = (url: string) => MysqlConnectionSource.problemOf(Redacted.make(url))
    for (const right of ["sqlite:x.db", "sqlite:/data/x.db?mode=ro", "sqlite:///data/x.db"]) {
      assert.isUndefined(SqliteConnectionSource.problemOf(right), right)
    }
    for (const wrong of ["sqlite:", "sqlite::memory:", "sqlite:x.db?cache=shared", "file:x.db"]) {
      assert.isString(SqliteConnectionSource.problemOf(wrong), wrong)
    }
    for (const right of ["mysql://u@h/d", "mariadb://u:p@[::1]:3307/d?ssl-mode=required"]) {
      assert.isUndefined(mysql(right), right)
    }
    for (const wrong of ["mysql://h/d", "mysql://u@h", "mysql://u@h/d?flags=x", "mysql://u@h/d?ssl-mode=off"]) {
      assert.isString(mysql(wrong), wrong)
    }
    assert.isTrue(MysqlConnectionSource.isInClear(Redacted.make("mysql://u@away.example/d?ssl-mode=required")))
    assert.isFalse(MysqlConnectionSource.isInClear(Redacted.make("mysql://u@127.0.0.1/d")))
    const snowflake = (url: string) => EngineSettings.problemOf("snowflake", Redacted.make(url))
    for (const right of ["snowflake://h", "snowflake://h:8080/D/S%20T?warehouse=W&role=R&protocol=http"]) {
      assert.isUndefined(snowflake(right), right)
    }
    for (const wrong of [
      "snowflake://u:p@h/D",
      "snowflake:D",
      "snowflake://h/%zz",
      "snowflake://h/D/S/T",
      "snowflake://h/D?token=x"
    ]) {
      assert.isString(snowflake(wrong), wrong)
    }
  })
})
