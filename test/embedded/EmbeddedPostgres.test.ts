import { spawn } from "node:child_process"
import { existsSync, promises as Fs, readFileSync, statSync } from "node:fs"
import * as Path from "node:path"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import * as Postmaster from "../../src/embedded/Postmaster.ts"
import * as ProcessTable from "../../src/node/internal/ProcessTable.ts"
import { checkout, elsewhere, postmasters, query, refusal, serveInChild } from "../support/embedded.ts"

describe("the embedded database", () => {
  it.live("the workspace's role can connect to its own database and to no other", () =>
    Effect.gen(function* () {
      const database = yield* EmbeddedPostgres.make(yield* checkout())
      assert.deepStrictEqual(yield* query(database.workspaceUrl, "select current_database(), current_user"), [
        ["workspace", "workspace"]
      ])
      yield* query(database.workspaceUrl, "create table mine as select 1 as id")
      for (const other of ["holdfast", "postgres", "template1", "template0"]) {
        assert.match(
          yield* refusal(elsewhere(database.workspaceUrl, other)),
          /permission denied|not currently accepting/
        )
      }
      const [rights] = yield* query(
        database.workspaceUrl,
        "select rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls from pg_roles where rolname in ('workspace', 'holdfast')"
      )
      assert.deepStrictEqual(rights, [false])
      assert.deepStrictEqual(yield* query(database.ownerUrl, "select current_database(), current_user"), [
        ["holdfast", "holdfast"]
      ])
      yield* query(database.ownerUrl, "create schema holdfast")
    })
  )

  it.live("its databases are UTF-8 whatever the environment says", () =>
    Effect.gen(function* () {
      const before = process.env["LC_ALL"]
      yield* Effect.acquireRelease(
        Effect.sync(() => (process.env["LC_ALL"] = "POSIX")),
        () =>
          Effect.sync(() => (before === undefined ? delete process.env["LC_ALL"] : (process.env["LC_ALL"] = before)))
      )
      const database = yield* EmbeddedPostgres.make(yield* checkout())
      const rows = yield* query(
        database.workspaceUrl,
        "select distinct pg_encoding_to_char(encoding), datlocprovider::text, datlocale from pg_database"
      )
      assert.deepStrictEqual(rows, [["UTF8", "b", "C.UTF-8"]])
      assert.deepStrictEqual(yield* query(database.workspaceUrl, "select upper('ä'), length('日本')"), [["Ä", 2]])
    })
  )

  it.live("passwords are kept in a file of mode 600, with the demo user's once it was asked for", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      const first = yield* Effect.scoped(
        Effect.gen(function* () {
          const database = yield* EmbeddedPostgres.make(options)
          assert.isTrue(database.firstStart)
          const file = Path.join(database.directory, "secrets.json")
          assert.notInclude(readFileSync(file, "utf8"), "demo")
          const demo = yield* database.secrets.demoPassword
          assert.include(readFileSync(file, "utf8"), Redacted.value(demo))
          assert.strictEqual(statSync(file).mode & 0o777, 0o600)
          assert.strictEqual(statSync(Path.join(database.directory, "data.log")).mode & 0o777, 0o600)
          return { demo: Redacted.value(demo), file }
        })
      )
      yield* Effect.scoped(
        Effect.gen(function* () {
          const database = yield* EmbeddedPostgres.make(options)
          assert.isFalse(database.firstStart)
          assert.strictEqual(Redacted.value(yield* database.secrets.demoPassword), first.demo)
        })
      )
      yield* Effect.promise(() => Fs.writeFile(first.file, `{"superuser":"${first.demo}"`))
      const broken = yield* Effect.flip(EmbeddedPostgres.make(options))
      assert.strictEqual(broken.reason._tag, "SecretsUnusable")
      assert.include(broken.message, first.file)
      assert.notInclude(broken.message, first.demo)
      yield* Effect.promise(() => Fs.rm(first.file))
      assert.strictEqual((yield* Effect.flip(EmbeddedPostgres.make(options))).reason._tag, "SecretsUnusable")
    })
  )

  it.live("a second service on the same directory is refused, a command joins the first", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      const child = yield* serveInChild(options)
      const error = yield* Effect.flip(EmbeddedPostgres.make(options))
      assert.strictEqual(error.reason._tag, "AlreadyServed")
      assert.include(error.message, `pid ${child.pid}`)
      assert.include(error.message, options.cwd)
      const joined = yield* Effect.scoped(EmbeddedPostgres.join(options))
      assert.isTrue(joined.joined)
      assert.strictEqual(joined.port, child.port)
      assert.deepStrictEqual(yield* query(joined.ownerUrl, "select 1"), [[1]])
    })
  )

  it.live("a command without a service starts the server and ends it", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      const database = yield* Effect.scoped(
        Effect.tap(EmbeddedPostgres.join(options), (database) => query(database.ownerUrl, "create table kept (id int)"))
      )
      assert.isFalse(database.joined)
      assert.deepStrictEqual(postmasters(database.directory), [])
      const again = yield* EmbeddedPostgres.make(options)
      assert.deepStrictEqual(yield* query(again.ownerUrl, "select id from kept"), [])
    })
  )

  it.live("of many that start together exactly one serves, and the commands join it", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      const all = yield* Effect.all(
        Array.from({ length: 5 }, () => EmbeddedPostgres.join(options)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(all.filter(({ joined }) => !joined).length, 1)
      assert.strictEqual(new Set(all.map(({ port }) => port)).size, 1)
      const [one] = all
      assert.strictEqual(postmasters(one?.directory ?? "").length, 1)
    })
  )

  it.live("the server of a service that was killed is gone at the next start, its data kept", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      const child = yield* serveInChild(options)
      const joined = yield* EmbeddedPostgres.join(options)
      yield* query(joined.workspaceUrl, "create table kept as select 7 as id")
      const left = yield* Postmaster.running(Path.join(joined.directory, "data"))
      assert.isTrue(left?.ready)
      yield* child.kill

      const next = yield* EmbeddedPostgres.make(options)
      assert.isFalse(next.firstStart)
      assert.deepStrictEqual(yield* query(next.workspaceUrl, "select id from kept"), [[7]])
      assert.isFalse(left !== undefined && ProcessTable.isAlive(left.identity))
      assert.strictEqual(postmasters(next.directory).length, 1)
    })
  )

  it.live("a lock file of the server that names a stranger's process does not hinder the start", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      const { directory } = yield* Effect.scoped(EmbeddedPostgres.make(options))
      const data = Path.join(directory, "data")
      const { uid, gid } = statSync(data)
      // The stranger runs as the server's user: only such a one stands in the server's way.
      const stranger = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sleep", ["1000"], { ...(process.getuid?.() === 0 ? { uid, gid } : {}), cwd: "/" })),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const lines = [stranger.pid, data, 1, 5432, "", "127.0.0.1", "0 0", "ready"]
      yield* Effect.promise(async () => {
        await Fs.writeFile(Path.join(data, "postmaster.pid"), `${lines.join("\n")}\n`, { mode: 0o600 })
        await Fs.chown(Path.join(data, "postmaster.pid"), uid, gid)
      })
      const next = yield* EmbeddedPostgres.make(options)
      assert.deepStrictEqual(yield* query(next.workspaceUrl, "select 1"), [[1]])
      assert.isNotNull(stranger.pid === undefined ? null : ProcessTable.identityOf(stranger.pid))
      assert.isNull(stranger.exitCode ?? stranger.signalCode)
    })
  )

  it.live("closing the scope leaves no process of the server, nothing in the ledger, and no claim", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      const ledger = Ledger.makeUnsafe()
      const directory = yield* Effect.gen(function* () {
        const database = yield* EmbeddedPostgres.make(options)
        // A statement that runs and a connection that idles do not hold it up.
        yield* Effect.forkScoped(Effect.ignore(query(database.workspaceUrl, "select pg_sleep(600)")))
        yield* PgConnection.make({ url: database.ownerUrl })
        assert.isAbove(ProcessTable.workingIn(Path.join(database.directory, "data"), "postgres").length, 1)
        assert.isAbove((yield* ledger.holdings).length, 0)
        return database.directory
      }).pipe(Effect.scoped, Effect.provideService(Ledger.Ledger, ledger))
      assert.deepStrictEqual(ProcessTable.workingIn(Path.join(directory, "data"), "postgres"), [])
      assert.deepStrictEqual(yield* ledger.holdings, [])
      const names = yield* Effect.promise(() => Fs.readdir(directory))
      assert.deepStrictEqual(names.toSorted(), ["data", "data.log", "secrets.json"])
    })
  )

  it.live("what users' SQL changed about its own role is put back at the next start", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { workspaceUrl } = yield* EmbeddedPostgres.make(options)
          const connection = yield* PgConnection.make({ url: workspaceUrl })
          yield* connection.query("alter role workspace set statement_timeout = '1ms'")
          yield* connection.query("alter role workspace in database workspace set search_path = 'nowhere'")
          yield* connection.query("alter role workspace in database postgres set search_path = 'nowhere'")
          yield* connection.query("alter role workspace password 'x'")
          assert.match(yield* refusal(workspaceUrl), /password authentication failed/)
        })
      )
      const { ownerUrl, workspaceUrl } = yield* EmbeddedPostgres.make(options)
      const rows = yield* query(
        workspaceUrl,
        "select current_setting('statement_timeout'), current_setting('search_path'), pg_sleep(0.01)::text"
      )
      assert.deepStrictEqual(rows, [["0", '"$user", public', ""]])
      assert.deepStrictEqual(
        yield* query(ownerUrl, "select count(*)::int from pg_db_role_setting where setrole <> 0"),
        [[0]]
      )
    })
  )

  it.live("it works in a checkout under a directory that only its owner may enter, and finds its data again", () =>
    Effect.gen(function* () {
      const options = yield* checkout(0o700)
      const near = Path.join(options.cwd, ".holdfast")
      const first = yield* Effect.scoped(EmbeddedPostgres.make(options))
      const second = yield* Effect.scoped(EmbeddedPostgres.make(options))
      assert.strictEqual(second.directory, first.directory)
      assert.deepStrictEqual([first.firstStart, second.firstStart], [true, false])
      const closedToTheServer = process.getuid?.() === 0
      assert.strictEqual(first.directory === near, !closedToTheServer)
      assert.strictEqual(Path.dirname(first.directory) === options.sharedDirectory, closedToTheServer)
      assert.strictEqual(existsSync(near), !closedToTheServer)
    })
  )

  it.live("a directory that is no data directory is refused and left alone", () =>
    Effect.gen(function* () {
      const options = yield* checkout()
      const data = Path.join(options.cwd, ".holdfast", "data")
      yield* Effect.promise(() => Fs.mkdir(data, { recursive: true }))
      yield* Effect.promise(() => Fs.chmod(Path.dirname(data), 0o755))
      yield* Effect.promise(() => Fs.writeFile(Path.join(data, "letter.txt"), "dear"))
      const secrets = Path.join(options.cwd, ".holdfast", "secrets.json")
      const error = yield* Effect.flip(EmbeddedPostgres.make(options))
      assert.strictEqual(error.reason._tag, "SecretsUnusable")
      const password = "0123456789abcdefghijklmn"
      const all = { superuser: password, owner: password, workspace: password }
      yield* Effect.promise(() => Fs.writeFile(secrets, JSON.stringify(all)))
      const other = yield* Effect.flip(EmbeddedPostgres.make(options))
      assert.strictEqual(other.reason._tag, "DirectoryUnusable")
      assert.isTrue(existsSync(Path.join(data, "letter.txt")))
    })
  )
})
