import { existsSync } from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { login, make as browser, rowsOf, run, submit } from "../support/browser.ts"
import { checkout, postmasters } from "../support/embedded.ts"
import { eventually, inTimeOf } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

/** `holdfast serve` in a checkout, with nothing configured but a free port; what it printed about itself. */
const start = (cwd: string, more: Service.Environment = {}) =>
  Effect.gen(function* () {
    const service = yield* Service.launch({ args: ["serve"], cwd, env: { PORT: "0", ...more } })
    const url = yield* Service.listening(service)
    const said = (pattern: RegExp) =>
      eventually(
        Effect.sync(() =>
          service
            .lines()
            .map((line) => pattern.exec(line)?.[1])
            .find((part) => part !== undefined)
        ),
        (part) => part !== undefined
      )
    const password = (yield* said(/^user demo, password (\S+)$/)) ?? ""
    const directory = (yield* said(/^embedded PostgreSQL, data in (.+)$/)) ?? ""
    return { ...service, url, password, directory }
  })

const ends = (service: Service.Program) =>
  Effect.gen(function* () {
    const [took, ended] = yield* Effect.timed(Effect.andThen(service.signal("SIGTERM"), service.exited))
    assert.deepStrictEqual(ended, { code: 0, signal: null }, service.stderr())
    return Duration.toMillis(took)
  })

/** The server has a moment to end in order. */
const noPostmaster = (directory: string) =>
  eventually(
    Effect.sync(() => postmasters(directory)),
    (pids) => pids.length === 0
  )

/** A backend that was forked just now still looks like its parent. */
const onePostmaster = (directory: string) =>
  eventually(
    Effect.sync(() => postmasters(directory)),
    (pids) => pids.length === 1
  )

describe("the service with its embedded database", { concurrent: true }, () => {
  it.live("prints URL, user and password; users' SQL reaches nothing of Holdfast's; SIGTERM leaves no server", () =>
    Effect.gen(function* () {
      const { cwd } = yield* checkout()
      const service = yield* start(cwd)
      assert.strictEqual(service.directory, Path.join(cwd, ".holdfast"))
      const demo = yield* login(browser(service.url), { username: "demo", password: service.password })
      assert.deepStrictEqual(yield* rowsOf(demo, "select current_user::text, current_database()::text, 6 * 7"), [
        ["workspace__demo", "workspace", 42]
      ])
      yield* run(demo, "create table mine as select 'kept' as word")

      for (const sql of [
        "select * from holdfast.sessions",
        "select * from holdfast.users",
        "set role holdfast",
        "set session authorization postgres",
        "create extension dblink",
        `select pg_read_file('${Path.join(service.directory, "secrets.json")}')`,
        `copy (select 1) to '${Path.join(cwd, "written")}'`,
        "copy (select 1) to program 'true'",
        "alter role workspace__demo superuser",
        "create database other",
        "drop database holdfast",
        "select rolpassword from pg_authid",
        "alter system set listen_addresses to '*'"
      ]) {
        assert.strictEqual((yield* run(demo, sql)).state, "Failed", sql)
      }
      assert.deepStrictEqual(
        yield* rowsOf(
          demo,
          `select datname::text from pg_database where has_database_privilege(datname, 'connect') order by 1`
        ),
        [["workspace"]]
      )
      assert.deepStrictEqual(
        yield* rowsOf(
          demo,
          "select count(*)::int from pg_stat_activity where datname = 'holdfast' and query <> '<insufficient privilege>'"
        ),
        [[0]]
      )

      yield* submit(demo, "select pg_sleep(60)")
      yield* submit(demo, "select pg_sleep(60)")
      yield* onePostmaster(service.directory)
      assert.isBelow(yield* ends(service), inTimeOf(5000))
      assert.deepStrictEqual(postmasters(service.directory), [])

      const again = yield* start(cwd)
      assert.strictEqual(again.password, service.password)
      const later = yield* login(browser(again.url), { username: "demo", password: again.password })
      assert.deepStrictEqual(yield* rowsOf(later, "select word from mine"), [["kept"]])
    })
  )

  it.live("I2 a role that users' SQL has turned against its connections holds up nobody while the service runs", () =>
    Effect.gen(function* () {
      const { cwd } = yield* checkout()
      const service = yield* start(cwd, { HOLDFAST_QUERY_ROLES: "shared" })
      const demo = yield* login(browser(service.url), { username: "demo", password: service.password })
      for (const sql of [
        "create schema evil",
        "create view evil.pg_stat_activity as select 1 as pid",
        "alter role workspace set search_path = evil, pg_catalog",
        "alter role workspace set transaction_timeout = 1",
        "alter role workspace set default_transaction_read_only = on",
        "alter role workspace set local_preload_libraries = 'nowhere'",
        "alter role workspace set exit_on_error = on",
        "alter role workspace password 'mine'"
      ]) {
        assert.strictEqual((yield* run(demo, sql)).state, "Succeeded", sql)
      }
      // Those that were opened before, this one last.
      yield* run(
        demo,
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = current_user and pid <> pg_backend_pid()"
      )
      assert.strictEqual((yield* run(demo, "select pg_terminate_backend(pg_backend_pid())")).state, "Failed")
      assert.deepStrictEqual(
        yield* rowsOf(demo, "select current_user::text, current_setting('search_path'), pg_sleep(0.05)::text"),
        [["workspace", '"$user", public', ""]]
      )
      yield* run(demo, "create table mine (id int)")
      assert.strictEqual((yield* browser(service.url).send("GET", "/health/ready")).status, 200)
    })
  )

  it.live("user add beside it joins its server; a second service is refused; without its server it ends", () =>
    Effect.gen(function* () {
      const { cwd } = yield* checkout()
      const service = yield* start(cwd)
      const added = yield* Service.run({ args: ["user", "add", "alice"], cwd, input: "wonderland\n" })
      assert.deepStrictEqual([added.code, added.stderr], [0, ""])
      const alice = { username: "alice", password: "wonderland" }
      yield* rowsOf(yield* login(browser(service.url), alice), "select 1")
      yield* onePostmaster(service.directory)

      const second = yield* Service.run({ args: ["serve"], cwd, env: { PORT: "0" } })
      assert.strictEqual(second.code, 1)
      assert.match(second.stderr, /^holdfast: [^\n]+\n$/)
      assert.include(second.stderr, String(service.pid))

      const [postmaster = 0] = postmasters(service.directory)
      process.kill(postmaster, "SIGQUIT")
      assert.strictEqual((yield* service.exited).code, 1)
      assert.match(service.stderr(), /has lost its PostgreSQL server/)
    })
  )

  it.live("after SIGKILL the next start takes over what was left, and user add works without a service", () =>
    Effect.gen(function* () {
      const { cwd } = yield* checkout()
      const first = yield* start(cwd)
      yield* first.signal("SIGKILL")
      yield* first.exited
      const added = yield* Service.run({ args: ["user", "add", "alice"], cwd, input: "wonderland" })
      assert.strictEqual(added.code, 0, added.stderr)
      assert.deepStrictEqual(postmasters(first.directory), [])
      const second = yield* start(cwd)
      assert.strictEqual(second.password, first.password)
      yield* login(browser(second.url), { username: "alice", password: "wonderland" })
      yield* onePostmaster(second.directory)
      yield* ends(second)
      assert.isTrue(existsSync(second.directory))
    })
  )

  it.live("a program that dies without a word takes its server with it", () =>
    Effect.gen(function* () {
      const { cwd } = yield* checkout()
      const service = yield* start(cwd)
      yield* onePostmaster(service.directory)
      yield* Effect.andThen(service.signal("SIGKILL"), service.exited)
      yield* noPostmaster(service.directory)
      const again = yield* start(cwd)
      yield* login(browser(again.url), { username: "demo", password: again.password })
      // As above, and nothing of the first is left to end the second.
      yield* onePostmaster(again.directory)
      yield* ends(again)
    })
  )

  it.live("output that nobody reads any more ends nothing", () =>
    Effect.gen(function* () {
      const { cwd } = yield* checkout()
      const service = yield* start(cwd)
      yield* service.closeOutput
      const demo = { username: "demo", password: service.password }
      for (let i = 0; i < 3; i++) yield* rowsOf(yield* login(browser(service.url), demo), "select 1")
      assert.strictEqual((yield* browser(service.url).send("GET", "/health/ready")).status, 200)
      yield* onePostmaster(service.directory)
      assert.deepStrictEqual(yield* Effect.andThen(service.signal("SIGTERM"), service.exited), {
        code: 0,
        signal: null
      })
      assert.deepStrictEqual(postmasters(service.directory), [])
    })
  )
})
