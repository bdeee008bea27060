import { promises as Fs } from "node:fs"
import { getPriority } from "node:os"
import * as Path from "node:path"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Browser, login, make as browser, rowsOf, run, submit } from "../support/browser.ts"
import { checkout } from "../support/embedded.ts"
import { eventually } from "../support/conditions.ts"
import * as Service from "../support/service.ts"

/** A service with an embedded database, and two users in it. */
interface House {
  readonly service: Service.Program
  readonly url: string
  readonly cwd: string
  readonly alice: Browser
  readonly bob: Browser
}
class Users extends Context.Service<Users, House>()("test/Users") {}

const password = "wonderland"

const started = Layer.effect(
  Users,
  Effect.gen(function* () {
    const { cwd } = yield* checkout()
    const env = { PORT: "0", HOLDFAST_MAX_QUERIES: "4", HOLDFAST_DEMO_PASSWORD: "correct horse" }
    const service = yield* Service.launch({ args: ["serve"], cwd, env })
    const url = yield* Service.listening(service)
    yield* Service.ready(url)
    const add = (name: string) => Service.run({ args: ["user", "add", name], cwd, env, input: password })
    for (const name of ["alice", "bob"]) assert.strictEqual((yield* add(name)).code, 0)
    const [alice, bob] = yield* Effect.forEach(["alice", "bob"], (username) =>
      login(browser(url), { username, password })
    )
    if (alice === undefined || bob === undefined) return yield* Effect.die("nobody")
    return { service, url, cwd, alice, bob }
  })
)

const valueOf = (user: Browser, sql: string) => Effect.map(rowsOf(user, sql), ([row]) => row?.[0])

/** What the server says of a statement that must fail. */
const refusal = (user: Browser, sql: string) =>
  Effect.map(run(user, sql), ({ error, state }) => {
    assert.strictEqual(state, "Failed", sql)
    return error?.message ?? ""
  })

/** Another user, who is logged in. */
const newUser = Effect.fnUntraced(function* (username: string) {
  const { cwd, url } = yield* Users
  const added = yield* Service.run({ args: ["user", "add", username], cwd, input: password })
  assert.strictEqual(added.code, 0, added.stderr)
  return yield* login(browser(url), { username, password })
})

layer(started, { excludeTestServices: true, timeout: "120 seconds" })("a database role for each user", (it) => {
  it.effect("I2 each user is somebody of their own, with a schema of their own, whichever connection they get", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* Users
      const who = "select session_user::text, current_user::text, current_schema()::text"
      for (let i = 0; i < 3; i++) {
        assert.deepStrictEqual(yield* rowsOf(alice, who), [
          ["workspace__alice", "workspace__alice", "workspace__alice"]
        ])
        assert.deepStrictEqual(yield* rowsOf(bob, who), [["workspace__bob", "workspace__bob", "workspace__bob"]])
      }
      for (const [user, what] of [
        [alice, "hers"],
        [bob, "his"]
      ] as const) {
        assert.strictEqual((yield* run(user, `create table notes as select '${what}' as whose`)).state, "Succeeded")
      }
      assert.deepStrictEqual(yield* rowsOf(alice, "select whose from notes"), [["hers"]])
      assert.deepStrictEqual(yield* rowsOf(bob, "select whose from notes"), [["his"]])
      assert.match(yield* refusal(bob, "select whose from workspace__alice.notes"), /permission denied for schema/)
      assert.match(yield* refusal(bob, "drop schema workspace__bob cascade"), /must be owner/)
    })
  )

  it.effect("I1 the service goes first: users' statements run with a low priority", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* Users
      for (const user of [alice, bob]) {
        const pid = Number(yield* valueOf(user, "select pg_backend_pid()"))
        assert.strictEqual(getPriority(pid), 10)
        const session = yield* Effect.promise(() =>
          Fs.readFile(`/proc/${pid}/autogroup`, "utf8").catch(() => "nice 10")
        )
        assert.match(session, /nice 10$/m)
      }
    })
  )

  it.effect("I2 no user sees, stops or becomes another", () =>
    Effect.gen(function* () {
      const { alice, bob } = yield* Users
      const id = yield* submit(alice, "select pg_sleep(60), 'whisper'")
      const pids = "select pid from pg_stat_activity where usename = 'workspace__alice'"
      yield* eventually(rowsOf(bob, pids), (rows) => rows.length > 0)
      assert.deepStrictEqual(
        yield* rowsOf(bob, `select distinct query, state from pg_stat_activity where usename = 'workspace__alice'`),
        [["<insufficient privilege>", null]]
      )
      for (const end of ["pg_cancel_backend", "pg_terminate_backend"]) {
        assert.match(yield* refusal(bob, `select ${end}(pid) from (${pids}) a`), /permission denied/)
      }
      for (const attempt of [
        "set role workspace__alice",
        "set session authorization workspace__alice",
        "alter role workspace__alice password 'mine'",
        "alter role workspace__alice set statement_timeout = 1",
        "alter role workspace__alice in database workspace set search_path = workspace__bob",
        "grant workspace__alice to workspace__bob",
        "drop owned by workspace__alice",
        "set role steward",
        "set role workspace",
        "alter role workspace__bob createrole",
        "alter role workspace__bob connection limit 100",
        "alter role workspace__bob set temp_file_limit = -1",
        "alter role workspace__bob set log_min_messages = debug5",
        "create role mine",
        "create schema mine",
        "create table public.pg_stat_activity (pid int)",
        "create function public.lower(varchar) returns text language sql as 'select 1'",
        "alter database workspace set search_path = workspace__bob",
        "comment on role workspace__bob is 'somebody else'"
      ]) {
        yield* refusal(bob, attempt)
      }
      const { text } = yield* alice.send("GET", `/queries/${id}`)
      assert.include(text, `"state":"Running"`)
      assert.strictEqual((yield* alice.send("DELETE", `/queries/${id}`)).status, 200)
    })
  )

  it.effect(
    "I2 settings, temporary tables and prepared statements are nobody else's, and gone with the statement",
    () =>
      Effect.gen(function* () {
        const { alice, bob } = yield* Users
        yield* run(alice, "alter role workspace__alice set work_mem = '8MB'")
        yield* run(alice, "set application_name = 'mine'")
        yield* run(alice, "create temporary table secret as select 1 as id")
        yield* run(alice, "prepare mine as select 1")
        for (const user of [bob, alice]) {
          assert.strictEqual(yield* valueOf(user, "select count(*)::int from pg_prepared_statements"), 0)
          assert.match(yield* refusal(user, "select * from secret"), /does not exist/)
        }
        assert.notStrictEqual(yield* valueOf(bob, "select current_setting('work_mem')"), "8MB")
      })
  )

  it.effect("users share what they grant, and what they put in the schema shared", () =>
    Effect.gen(function* () {
      const { bob } = yield* Users
      const dora = yield* newUser("dora")
      // A role is made when its user first runs something.
      yield* run(bob, "select 1")
      yield* run(dora, "create table report as select 7 as total")
      for (const sql of [
        "grant usage on schema workspace__dora to workspace__bob",
        "grant select on report to workspace__bob",
        "create table shared.board as select 'to all' as word",
        "grant select on shared.board to workspace_users"
      ]) {
        assert.strictEqual((yield* run(dora, sql)).state, "Succeeded", sql)
      }
      assert.strictEqual(yield* valueOf(bob, "select total from workspace__dora.report"), 7)
      assert.strictEqual(yield* valueOf(bob, "select word from shared.board"), "to all")
      assert.match(yield* refusal(bob, "delete from workspace__dora.report"), /permission denied/)
      assert.match(yield* refusal(bob, "drop table shared.board"), /must be owner/)
      // Nobody finds it by accident.
      assert.match(yield* refusal(bob, "select word from board"), /does not exist/)
      // Keys of advisory locks are shared by all of a database, on purpose.
      const id = yield* submit(dora, "select pg_advisory_lock(7), pg_sleep(60)")
      yield* eventually(valueOf(bob, "select pg_try_advisory_lock(7)"), (free) => free === false)
      assert.strictEqual((yield* dora.send("DELETE", `/queries/${id}`)).status, 200)
      yield* eventually(valueOf(bob, "select pg_try_advisory_lock(7)"), (free) => free === true)
    })
  )

  it.effect("I2 a user who breaks their own role holds up nobody, and is helped", () =>
    Effect.gen(function* () {
      const { bob, url, alice } = yield* Users
      assert.strictEqual((yield* run(bob, "create table kept as select 1 as id")).state, "Succeeded")
      for (const sql of [
        "set transaction_timeout = 1",
        "set local_preload_libraries = 'nowhere'",
        "set default_transaction_read_only = on",
        "password 'mine'"
      ]) {
        assert.strictEqual((yield* run(bob, `alter role workspace__bob ${sql}`)).state, "Succeeded", sql)
      }
      const others =
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = current_user and pid <> pg_backend_pid()"
      yield* run(bob, others)
      yield* run(bob, "select pg_terminate_backend(pg_backend_pid())")
      assert.strictEqual(yield* valueOf(alice, "select 1"), 1)
      assert.strictEqual((yield* browser(url).send("GET", "/health/ready")).status, 200)
      assert.strictEqual(yield* valueOf(bob, "select count(*)::int from kept, pg_sleep(0.05)"), 1)
    })
  )

  it.effect("more users than connections take turns", () =>
    Effect.gen(function* () {
      const { alice, bob, url } = yield* Users
      const demo = yield* login(browser(url), { username: "demo", password: "correct horse" })
      const all = Array.from({ length: 24 }, (_, at) => [alice, bob, demo][at % 3] ?? demo)
      const names = yield* Effect.forEach(all, (user) => valueOf(user, "select current_user::text"), {
        concurrency: "unbounded"
      })
      assert.deepStrictEqual(
        names,
        all.map((user) => `workspace__${user === alice ? "alice" : user === bob ? "bob" : "demo"}`)
      )
    })
  )

  it.effect("user remove removes the role, deletes nothing, and says what is left", () =>
    Effect.gen(function* () {
      const { cwd, service, url } = yield* Users
      const carl = yield* newUser("carl")
      yield* run(carl, "create table papers as select 1 as id")
      yield* run(carl, "create table shared.his as select 1 as id")
      yield* submit(carl, "select pg_sleep(60)")
      const removed = yield* Service.run({ args: ["user", "remove", "carl"], cwd })
      assert.strictEqual(removed.code, 0, removed.stderr)
      assert.match(removed.stdout, /user carl is removed; 1 session of carl ended/)
      assert.match(removed.stdout, /role workspace__carl is removed\. 2 tables are left .*workspace__carl_left_\d+/)
      const demo = yield* login(browser(url), { username: "demo", password: "correct horse" })
      assert.deepStrictEqual(yield* rowsOf(demo, "select rolname from pg_roles where rolname = 'workspace__carl'"), [])
      assert.deepStrictEqual(
        yield* rowsOf(
          demo,
          "select tableowner, tablename from pg_tables where tablename in ('his', 'papers') order by 2"
        ),
        [
          ["steward", "his"],
          ["steward", "papers"]
        ]
      )
      // Somebody of the same name begins anew.
      const again = yield* newUser("carl")
      assert.match(yield* refusal(again, "select * from papers"), /does not exist/)
      const nothing = yield* Service.run({ args: ["user", "remove", "carl"], cwd })
      assert.match(nothing.stdout, /role workspace__carl is removed\. Nothing of theirs is left/)
      assert.notInclude(service.stdout(), "level=error")
      assert.isTrue(Path.isAbsolute(cwd))
    })
  )
})
