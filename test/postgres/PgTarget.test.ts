/**
 * Which server a URL means: what libpq makes of it, together with the environment and the files that these name.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as SqlClient from "effect/sql/SqlClient"
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Connection from "../../src/connection/Connection.ts"
import * as PgConnectionPool from "../../src/postgres/PgConnectionPool.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import * as PgTarget from "../../src/postgres/internal/PgTarget.ts"
import * as PgUrl from "../../src/postgres/internal/PgUrl.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import { instance } from "../support/sessions.ts"

type Environment = Readonly<Record<string, string>>

/** What the driver is told, or what is wrong. */
const told = (url: string, environment: Environment = {}) => {
  const target = PgTarget.resolve(Redacted.make(url), { HOME: "/nowhere", USER: "os", ...environment })
  return target instanceof PgUrl.UrlProblem ? target.problem : Redacted.value(target.config.url)
}

const targetOf = (url: string, environment: Environment = {}) => {
  const target = PgTarget.resolve(Redacted.make(url), { HOME: "/nowhere", USER: "os", ...environment })
  if (target instanceof PgUrl.UrlProblem) throw new Error(target.problem)
  return target
}

const withDirectory = <A>(use: (directory: string) => A): A => {
  const directory = mkdtempSync(Path.join(tmpdir(), "holdfast-target-"))
  try {
    return use(directory)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

describe("a URL means the server that it means to psql", () => {
  it("its parts, percent-encoded, and its parameters over them", () => {
    assert.strictEqual(told("postgres://al%40ice:100%25@db:5433/a%2Fb"), "postgres://al%40ice:100%25@db:5433/a%2Fb")
    assert.strictEqual(
      told("postgresql://a:b@db/x?host=other&port=6000&user=c&password=d%20e&dbname=y"),
      "postgres://c:d%20e@other:6000/y"
    )
    assert.strictEqual(told("postgres://a@[::1]/x"), "postgres://a@[::1]:5432/x")
    assert.strictEqual(told("postgres://a@db"), "postgres://a@db:5432/a")
    assert.strictEqual(told("postgres://db"), "postgres://os@db:5432/os")
  })

  it("the directory of a socket, in each way it can be written", () => {
    for (const url of [
      "postgres://a@/x?host=/run/sock",
      "postgres://a@%2Frun%2Fsock/x",
      "postgres:///x?host=/run/sock&user=a",
      "postgres://a@ignored/x?host=%2Frun%2Fsock"
    ]) {
      assert.strictEqual(told(url), "postgres://a@%2Frun%2Fsock:5432/x", url)
      assert.strictEqual(targetOf(url).where, "/run/sock:5432/x")
    }
    assert.strictEqual(told("postgres://a@:6000/x?host=/run/sock"), "postgres://a@%2Frun%2Fsock:6000/x")
    // A socket has no TLS.
    assert.strictEqual(told("postgres://a@/x?host=/run/sock&sslmode=require"), "postgres://a@%2Frun%2Fsock:5432/x")
    assert.strictEqual(told("postgres:///x", { PGHOST: "/run/sock" }), "postgres://os@%2Frun%2Fsock:5432/x")
  })

  it("what it does not say comes from the environment", () => {
    const environment = {
      PGHOST: "env",
      PGPORT: "6000",
      PGUSER: "eve",
      PGPASSWORD: "p:w",
      PGDATABASE: "base",
      PGAPPNAME: "mine",
      PGOPTIONS: "-c geqo=off",
      PGCONNECT_TIMEOUT: "7",
      PGSSLMODE: "require"
    }
    const target = targetOf("postgres://", environment)
    assert.strictEqual(Redacted.value(target.config.url).split("?")[0], "postgres://eve:p%3Aw@env:6000/base")
    assert.include(Redacted.value(target.config.url), "options=-c%20geqo%3Doff")
    assert.deepInclude(target, { where: "env:6000/base", user: "eve", database: "base", applicationName: "mine" })
    assert.strictEqual(Duration.toSeconds(target.connectTimeout ?? Duration.zero), 7)
    assert.deepInclude(target.config.ssl, { rejectUnauthorized: false })
    assert.strictEqual(
      told("postgres://a:b@db:1/x?sslmode=disable", environment).split("?")[0],
      "postgres://a:b@db:1/x"
    )
    // What is empty says nothing.
    assert.strictEqual(told("postgres://db", { PGUSER: "", PGPORT: "" }), "postgres://os@db:5432/os")
  })

  it("a service stands between the URL and the environment", () =>
    withDirectory((directory) => {
      const file = Path.join(directory, "services")
      writeFileSync(
        file,
        "# ours\n[other]\nhost=no\n\n[shop]\nhost = db.internal\nport=6001\nuser=keeper\n[last]\nport=1\n"
      )
      const environment = { PGSERVICEFILE: file, PGUSER: "eve", PGDATABASE: "base" }
      assert.strictEqual(told("postgres:///x?service=shop", environment), "postgres://keeper@db.internal:6001/x")
      assert.strictEqual(
        told("postgres://me@/", { ...environment, PGSERVICE: "shop" }),
        "postgres://me@db.internal:6001/base"
      )
      assert.include(told("postgres:///x?service=nobody", environment), "is completed by a service, which must be in")
      const system = { PGSYSCONFDIR: directory, HOME: directory }
      writeFileSync(Path.join(directory, "pg_service.conf"), "[shop]\nhost=system\nuser=s\n")
      assert.strictEqual(told("postgres:///x?service=shop", system), "postgres://s@system:5432/x")
      writeFileSync(file, "[shop]\nhost=db\ncolour=red\n")
      assert.include(
        told("postgres:///x?service=shop", environment),
        "a service with the parameter colour, which Holdfast"
      )
      assert.include(
        told("postgres:///x?service=shop", { PGSERVICEFILE: Path.join(directory, "none") }),
        "PGSERVICEFILE, a file that Holdfast must be able to read"
      )
    }))

  it("a password comes from the file of passwords at last, where only its owner can read that", () =>
    withDirectory((directory) => {
      const file = Path.join(directory, "pass")
      writeFileSync(file, "# all\ndb:5432:x:someone:no\ndb:*:x:a\\:b:se\\\\cret\\:1\n*:*:*:*:rest\n", { mode: 0o600 })
      const environment = { PGPASSFILE: file }
      assert.strictEqual(told("postgres://a%3Ab@db/x", environment), "postgres://a%3Ab:se%5Ccret%3A1@db:5432/x")
      assert.strictEqual(told("postgres://z@db/x", environment), "postgres://z:rest@db:5432/x")
      assert.strictEqual(told("postgres://z:own@db/x", environment), "postgres://z:own@db:5432/x")
      assert.strictEqual(told(`postgres://z@db/x?passfile=${file}`), "postgres://z:rest@db:5432/x")
      chmodSync(file, 0o644)
      assert.strictEqual(told("postgres://z@db/x", environment), "postgres://z@db:5432/x")
    }))

  it("what is resolved means the same once more", () => {
    const once = told("postgres://a:b@/x?host=/run/sock&connect_timeout=3&application_name=me&options=-c%20a%3Db")
    assert.strictEqual(told(once), once)
  })
})

describe("what Holdfast cannot do is refused by name", () => {
  it("parameters, variables and places", () => {
    const environments: ReadonlyArray<readonly [Environment, string]> = [
      [{ PGTARGETSESSIONATTRS: "read-write" }, "the environment variable PGTARGETSESSIONATTRS, which must be any"],
      [{ PGCHANNELBINDING: "require" }, "PGCHANNELBINDING"],
      [{ PGREQUIREAUTH: "scram-sha-256" }, "PGREQUIREAUTH"],
      [{ PGHOSTADDR: "10.0.0.1" }, "PGHOSTADDR"],
      [{ PGSSLCRL: "x" }, "PGSSLCRL"],
      [{ PGSSLMODE: "requier" }, "PGSSLMODE, which must be one of"],
      [{ PGPORT: "abc" }, "PGPORT, which must be a port"],
      [{ PGCONNECT_TIMEOUT: "ten" }, "PGCONNECT_TIMEOUT, which must be a whole number of seconds"]
    ]
    for (const [environment, problem] of environments) assert.include(told("postgres://a@db", environment), problem)
    for (const [url, problem] of [
      ["postgres://a@db/x?target_session_attrs=read-write", "the parameter target_session_attrs"],
      ["postgres://a@db/x?channel_binding=require", "the parameter channel_binding"],
      ["postgres://a@db/x?hostaddr=10.0.0.1", "the parameter hostaddr"],
      ["postgres://a@db/x?colour=red", "the parameter colour, which Holdfast does not know"],
      ["postgres://a@one:1,two:2/x", "one host"],
      ["postgres://a@/x?host=one,two", "one host"],
      ["postgres://a@db:0/x", "a port from 1 to 65535"],
      ["postgres://a@db:99999/x", "a port from 1 to 65535"],
      ["postgres:///x", "must name a host"],
      ["postgres://a@/x?host=", "must not be empty"],
      ["mysql://a@db/x", "must be a URL like postgres://"]
    ] as const) {
      assert.include(told(url), problem, url)
    }
  })

  it("what says that which is done in any case is taken", () => {
    const url = "postgres://a@db/x?channel_binding=prefer&gssencmode=disable&target_session_attrs=any"
    assert.include(
      told(url, { PGSSLNEGOTIATION: "postgres", PGSSLMINPROTOCOLVERSION: "TLSv1.2" }),
      "postgres://a@db:5432/x"
    )
  })

  it("nothing that is said repeats what the URL holds", () => {
    for (const url of [
      "postgres://a:s3cret@db:x/x",
      "postgres://a:s3cret@one,two/x",
      "postgres://a:s3cret%@db",
      "x s3cret"
    ]) {
      assert.notInclude(told(url), "s3cret")
    }
  })
})

describe("a server that listens on a socket only", () => {
  it.live("serves connections, the shared client and the sessions' store, and hears cancels", () =>
    Effect.gen(function* () {
      const sockets = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const directory = mkdtempSync(Path.join(tmpdir(), "holdfast-sock-"))
          chmodSync(directory, 0o777)
          return directory
        }),
        (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
      )
      const server = yield* TestPostgres.make({
        maxConnections: 20,
        settings: { unix_socket_directories: sockets }
      })
      const { password, port, username } = new URL(Redacted.value(server.superuserUrl))
      const url = Redacted.make(`postgres://${username}:${password}@:${port}/postgres?host=${sockets}`)
      const how = Effect.flatMap(
        SqlClient.SqlClient,
        (sql) =>
          sql<{
            readonly client: string | null
          }>`select client_addr::text as client from pg_stat_activity where pid = pg_backend_pid()`
      )
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* how, [{ client: null }])
        assert.deepStrictEqual(yield* how.pipe(Effect.provide(Connection.layer)), [{ client: null }])
        const sleeping = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`select pg_sleep(60)`)
        const late = yield* Effect.timeoutOption(sleeping.pipe(Effect.provide(Connection.layer)), "100 millis")
        assert.strictEqual(late._tag, "None")
        const busy = yield* Effect.flatMap(
          SqlClient.SqlClient,
          (sql) =>
            sql`select pid from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' and pid <> pg_backend_pid()`
        )
        assert.deepStrictEqual(busy, [])
      }).pipe(Effect.provide(PgConnectionPool.layer({ url, max: 2 })))
      yield* PgSessionStore.migrate({ url })
      yield* (yield* instance({ url })).ping
    }).pipe(Effect.scoped)
  )
})
