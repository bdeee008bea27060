/**
 * The commands beside a service: what they say to a program, what to a person, and how they end.
 */
import { assert, describe, it, layer } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { spawn } from "node:child_process"
import { text } from "node:stream/consumers"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as TestConsole from "effect/testing/TestConsole"
import { doctor } from "../../src/cli/DoctorCommand.ts"
import { problemOf, submit } from "../support/browser.ts"
import { eventually } from "../support/conditions.ts"
import { freshDatabase } from "../support/postgres.ts"
import * as Service from "../support/service.ts"

const Rows = Schema.fromJsonString(Schema.Array(Schema.Record(Schema.String, Schema.Json)))
const rowsOf = Schema.decodeUnknownSync(Rows)

/** Runs a command in the environment of a service. */
const command = (service: Pick<Service.Service, "env">, args: string, more: Service.Environment = {}) =>
  Service.run({ args: args.split(" "), env: { ...service.env, ...more } })

/** The same on a terminal of its own, where there is `script`. */
const onTerminal = (service: Pick<Service.Service, "env">, args: string) =>
  Effect.promise(async (signal) => {
    const program = `${process.execPath} ${new URL("../../src/bin.ts", import.meta.url).pathname} ${args}`
    const child = spawn("script", ["-qec", program, "/dev/null"], {
      env: { ...process.env, ...service.env, COLUMNS: "200" },
      signal,
      killSignal: "SIGKILL",
      stdio: ["ignore", "pipe", "ignore"]
    })
    return await text(child.stdout)
  })

layer(Service.layerShared(), { concurrent: true, excludeTestServices: true, timeout: "60 seconds" })(
  "commands beside a service",
  (it) => {
    it.effect("lists are JSON for a program and a table on a terminal", () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        const [piped, shown] = yield* Effect.all([command(service, "users list"), onTerminal(service, "users list")], {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual([piped.code, piped.stderr], [0, ""])
        assert.deepInclude(rowsOf(piped.stdout), { name: "demo", operator: true })
        assert.match(shown, /^name +operator\r?\ndemo +true\r?\n/m)
      })
    )

    it.effect("sessions are listed, shown and ended, and an unknown one is an error", () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        yield* Service.addUser(service, "siegfried")
        const browser = yield* service.login("siegfried")
        const [listed, all] = yield* Effect.all(
          [command(service, "sessions list siegfried"), command(service, "sessions list nobody")],
          { concurrency: "unbounded" }
        )
        const [session] = rowsOf(listed.stdout)
        assert.deepInclude(session, { user: "siegfried", ip: "127.0.0.1" })
        const token = Array.from(browser.cookies.values()).join()
        assert.notInclude(listed.stdout, token)
        assert.deepStrictEqual(
          [all.code, all.stderr],
          [1, 'holdfast: There is no user "nobody". holdfast users list shows those that there are.\n']
        )
        const id = String(session?.["id"])
        const shown = yield* command(service, `sessions show ${id}`)
        assert.include(shown.stdout, `"id": "${id}"`)
        const ended = yield* command(service, `sessions end ${id}`)
        assert.deepStrictEqual([ended.code, ended.stdout], [0, `session ${id} is ended\n`])
        const answer = yield* browser.send("GET", "/session")
        assert.deepStrictEqual([answer.status, problemOf(answer).code], [401, "SessionRevoked"])
        const again = yield* command(service, `sessions end ${id}`)
        assert.strictEqual(again.code, 1)
        assert.match(again.stderr, /^holdfast: There is no live session s_[^\n]+\n$/)
      })
    )

    it.effect("queries, functions and holdings of a running service are those of who logs in", () =>
      Effect.gen(function* () {
        const service = yield* Service.Shared
        yield* Service.addUser(service, "quentin")
        const browser = yield* service.login("quentin")
        const id = yield* submit(browser, "select pg_sleep(60), 'quentin'")
        yield* Service.runs(service.queries.name, "quentin")
        const env = { HOLDFAST_PASSWORD: Service.demoPassword }
        const as = (args: string, user: string) => command(service, `${args} --url ${service.url} --user ${user}`, env)
        const [mine, others, held, refused] = yield* Effect.all(
          [as("queries list", "quentin"), as("queries list", "demo"), as("top", "demo"), as("holdings", "quentin")],
          { concurrency: 2 }
        )
        assert.deepInclude(rowsOf(mine.stdout)[0], { id, state: "Running", engine: "default" })
        assert.notInclude(others.stdout, id)
        assert.include(held.stdout, id)
        assert.deepStrictEqual(
          [refused.code, refused.stderr],
          [1, "holdfast: This is for operators only. Log in as a user who was added with --operator.\n"]
        )
        const canceled = yield* as(`queries cancel ${id}`, "quentin")
        assert.deepStrictEqual([canceled.code, canceled.stdout], [0, `query ${id} is over\n`])
        yield* eventually(browser.send("GET", `/queries/${id}`), ({ text }) => text.includes('"state":"Canceled"'))
        // Each command has logged out again.
        const left = rowsOf((yield* command(service, "sessions list quentin")).stdout)
        assert.lengthOf(left, 1)
      })
    )

    it.effect(
      "config says what is in force and where it comes from, and no secret; prune and migrate say what they do; an unknown name is an error",
      () =>
        Effect.gen(function* () {
          const service = yield* Service.Shared
          const [config, prune, migrate, unknown] = yield* Effect.all(
            [
              command(service, "config", { HOLDFAST_IDLE_TIMEOUT: "10 minutes" }),
              command(service, "prune"),
              command(service, "migrate --dry-run"),
              command(service, "queries lst")
            ],
            { concurrency: 2 }
          )
          const rows = rowsOf(config.stdout)
          assert.deepInclude(rows, { variable: "HOLDFAST_IDLE_TIMEOUT", value: "10m", from: "environment" })
          assert.deepInclude(rows, { variable: "HOLDFAST_MAX_QUERIES", value: 10, from: "default" })
          const password = new URL(Redacted.value(service.queries.url)).password
          for (const secret of [password, Service.demoPassword]) assert.notInclude(config.stdout, secret)
          assert.include(config.stdout, service.queries.name)
          assert.deepStrictEqual([prune.code, prune.stdout], [0, "Done. There was nothing to remove.\n"])
          assert.deepStrictEqual([migrate.code, migrate.stdout], [0, "The tables are up to date.\n"])
          // What another program would read as its input stays empty.
          assert.deepStrictEqual([unknown.code, unknown.stdout], [1, ""])
          assert.match(unknown.stderr, /^ERROR\n.*"lst".*\n[^]*list\n\nSee holdfast queries --help\n$/)
        })
    )
  }
)

/** What `holdfast doctor` says in an environment. It is this process's, so one at a time. */
const examined = (env: Service.Environment) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const own = { ...process.env }
      for (const name of Object.keys(own)) if (!["HOME", "PATH"].includes(name)) delete process.env[name]
      for (const [name, value] of Object.entries(env)) if (value !== undefined) process.env[name] = value
      return own
    }),
    () =>
      Effect.gen(function* () {
        const result = yield* Effect.result(doctor(false))
        const lines = (yield* TestConsole.logLines).map(String)
        return { lines, error: result._tag === "Failure" ? result.failure.message : "" }
      }).pipe(Effect.provide(TestConsole.layer)),
    (own) =>
      Effect.sync(() => {
        for (const name of Object.keys(process.env)) if (!(name in own)) delete process.env[name]
        Object.assign(process.env, own)
      })
  )

describe("holdfast doctor and migrate", () => {
  it.live("migrate says what it will do, does it, and has nothing to do then", () =>
    Effect.gen(function* () {
      const { url } = yield* freshDatabase
      const env = { DATABASE_URL: Redacted.value(url) }
      const planned = yield* command({ env }, "migrate --dry-run")
      assert.match(planned.stdout, /^sessions: 1_sessions is to be applied\n[^]*users: 1_users is to be applied\n/)
      const connection = yield* PgConnection.make({ url })
      const { rows } = yield* connection.query("select from pg_namespace where nspname = 'holdfast'")
      assert.lengthOf(rows, 0, "a dry run has changed something")
      const done = yield* command({ env }, "migrate")
      assert.deepStrictEqual([done.code, done.stderr], [0, ""])
      assert.match(done.stdout, /sessions: up to date\n[^]*users: up to date\n[^]*queries: up to date\n$/)
      assert.strictEqual((yield* command({ env }, "migrate")).stdout, "The tables are up to date.\n")
    })
  )

  it.live(
    "doctor names the cause of ten broken set-ups in one line each, without a secret",
    () =>
      Effect.gen(function* () {
        const { name, url } = yield* freshDatabase
        const own = Redacted.value(url)
        const other = (change: (url: URL) => void) => {
          const changed = new URL(own)
          change(changed)
          return changed.href
        }
        yield* Service.administer(`create role doctor_${name} login password 'a secret'`)
        yield* Effect.addFinalizer(() => Effect.ignore(Service.administer(`drop role doctor_${name}`)))
        const poor = other((it) => {
          it.username = `doctor_${name}`
          it.password = "a secret"
        })
        const setups: ReadonlyArray<readonly [env: Service.Environment, line: RegExp]> = [
          [
            { HOLDFAST_IDLE_TIMOUT: "1 hour" },
            /configuration: HOLDFAST_IDLE_TIMOUT is no variable.*HOLDFAST_IDLE_TIMEOUT/
          ],
          [{ HOLDFAST_IDLE_TIMEOUT: "2 days" }, /configuration: HOLDFAST_IDLE_TIMEOUT must not be longer/],
          [{ HOLDFAST_SESSION_KEYS: "a secret" }, /configuration: HOLDFAST_SESSION_KEYS must be like/],
          [{ DATABASE_URL: other((it) => (it.password = "a secret of nobody")) }, /tables: .*(?:28P01|28000)/],
          [{ DATABASE_URL: "postgres://app:secret@127.0.0.1:1/app" }, /tables: .*ECONNREFUSED/],
          [{ DATABASE_URL: other((it) => (it.pathname = "/nowhere_at_all")) }, /tables: .*3D000/],
          [{ DATABASE_URL: poor }, /tables: The role may not make the tables/],
          [{ HOLDFAST_QUERY_URL: own }, /queries: The role of HOLDFAST_QUERY_URL is, or may become, a superuser/],
          [
            { HOLDFAST_SESSION_STORE: "redis", REDIS_URL: "redis://:secret@127.0.0.1:1" },
            /sessions: Redis at .*ECONNREFUSED/
          ],
          [{ TMPDIR: "/nowhere/at/all" }, /results: Rows cannot be kept in \/nowhere\/at\/all/],
          [
            { HOLDFAST_ENGINES: "files=sqlite:/nowhere/at/all.db" },
            /engine files: .*\/nowhere\/at\/all\.db|engine files: .+/
          ]
        ]
        yield* Effect.forEach(
          setups,
          ([env, line]) =>
            Effect.gen(function* () {
              const { error, lines } = yield* examined({ DATABASE_URL: own, PORT: "0", ...env })
              const failed = lines.filter((said) => said.startsWith("FAILED"))
              assert.lengthOf(failed, 1, lines.join("\n"))
              assert.match(failed[0] ?? "", line)
              assert.strictEqual(error, "1 of these will not do.")
              assert.notInclude(lines.join("\n"), "secret")
            }),
          { discard: true }
        )
        const well = yield* command({ env: { DATABASE_URL: own, PORT: "0" } }, "doctor")
        assert.deepStrictEqual([well.code, well.stderr], [0, ""])
        assert.match(well.stdout, /^WARNING +migrations: Not applied yet: sessions: 1_sessions/m)
      }).pipe(Effect.scoped),
    60_000
  )
})
