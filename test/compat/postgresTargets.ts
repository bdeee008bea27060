/**
 * PostgreSQL in many versions, over TLS with a private authority, over a Unix socket, and behind PgBouncer.
 */
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import { promises as Fs } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as PgTarget from "../../src/postgres/internal/PgTarget.ts"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as TestPostgres from "../../src/testing/TestPostgres.ts"
import * as Certificate from "../support/certificate.ts"
import { encrypt } from "../support/tlsServer.ts"
import * as Programs from "./programs.ts"
import * as Suites from "./suites.ts"
import type { Running, Target } from "./target.ts"
import * as Tcp from "./tcp.ts"

type Url = Redacted.Redacted<string>

const versions: Readonly<Record<string, string>> = {
  14: "14.23.0-beta.17",
  15: "15.18.0-beta.17",
  16: "16.14.0-beta.17",
  17: "17.10.0-beta.17",
  18: "18.4.0-beta.17"
}

/** The tests of these rooms that talk to PostgreSQL, and the walk of the service's tests. */
const all = () =>
  Suites.thatUse("postgres.ts", [
    "test/{connection,postgres,query}/*.test.ts",
    "test/{session,token}/*{Handle,Store,Repository,Secrets}.test.ts",
    "test/server/serve.walk.test.ts"
  ])

/** The laws: of connections and what they are reset to, of queries and their cancels, of sessions, of tokens; and the walk. */
const laws = [
  "test/connection/ConnectionLaws.test.ts",
  "test/postgres/PgConnectionSource.test.ts",
  "test/postgres/PgQueryDriver.test.ts",
  "test/postgres/PgQueryDriverCancel.test.ts",
  "test/postgres/PgSessionEnds.test.ts",
  "test/postgres/PgSessionStore.test.ts",
  "test/query/QueryLaws.test.ts",
  "test/server/serve.walk.test.ts",
  "test/token/TokenRepository.test.ts"
]

/** Those that reach the server by its URL alone: others stand between, and look at bytes that TLS hides. */
const overTls = [
  "test/postgres/PgQueryDriver.test.ts",
  "test/postgres/PgSessionEnds.test.ts",
  "test/postgres/PgTls.test.ts",
  "test/query/QueryLaws.test.ts",
  "test/server/serve.walk.test.ts"
]

const change = (url: Url, edit: (url: URL) => void): Url => {
  const changed = new URL(Redacted.value(url))
  edit(changed)
  return Redacted.make(changed.href)
}

const ask = (url: Url, ...statements: ReadonlyArray<string>) =>
  PgConnection.make(PgTarget.of(url).config).pipe(
    Effect.flatMap((connection) => Effect.forEach(statements, (sql) => connection.queryValues(sql))),
    Effect.scoped
  )

/** Three databases for the walk and the values, and the server's own words about its version. */
const prepare = Effect.fnUntraced(function* (witness: Url) {
  const create = ["own", "queries", "values"].map((name) => `create database compat_${name}`)
  const role = "create role compat_user login password 'compat-password'"
  const owner = "alter database compat_queries owner to compat_user"
  yield* ask(witness, ...create, role, owner)
  const [answer] = yield* ask(witness, "select version()")
  const version = String(answer?.[0]?.[0])
  return /^\S+ \S+/.exec(version)?.[0] ?? version
})

/** The same server for a database and, where it is given, the role of users' SQL. */
const within = (url: Url, database: string, isUser = false) =>
  change(url, (url) => {
    url.pathname = `/compat_${database}`
    if (!isUser) return
    url.username = "compat_user"
    url.password = "compat-password"
  })

const walkOn = (url: Url) => ({
  DATABASE_URL: Redacted.value(within(url, "own")),
  HOLDFAST_QUERY_URL: Redacted.value(within(url, "queries", true)),
  HOLDFAST_QUERY_SUPERUSER: "allow"
})

const leftOut: Readonly<Record<string, Running["leftOut"]>> = {}

const version = (major: string, packaged: string): Target => ({
  name: `postgres-${major}`,
  start: Effect.gen(function* () {
    const programs = yield* Programs.postgres(packaged)
    const { superuserUrl: url } = yield* TestPostgres.make({ programs })
    return {
      version: yield* prepare(url),
      suites: { files: all(), env: { HOLDFAST_TEST_POSTGRES_PROGRAMS: programs } },
      leftOut: leftOut[major] ?? [],
      values: within(url, "values"),
      service: walkOn(url),
      witness: url
    }
  })
})

const tls: Target = {
  name: "postgres-tls",
  start: Effect.gen(function* () {
    const server = yield* TestPostgres.make({ maxConnections: 200 })
    const authority = yield* encrypt(server, { ...Certificate.issued(), only: true })
    const gate = yield* Tcp.tlsGate(server.port)
    const witness = change(server.superuserUrl, ({ searchParams }) => {
      searchParams.set("sslmode", "verify-full")
      searchParams.set("sslrootcert", authority)
    })
    const url = change(witness, (url) => (url.port = String(gate.port)))
    return {
      version: `${yield* prepare(witness)}, TLS`,
      // The tests' own connections know the authority from Node.
      suites: {
        files: overTls,
        env: { HOLDFAST_TEST_POSTGRES_URL: Redacted.value(url), NODE_EXTRA_CA_CERTS: authority }
      },
      leftOut: [],
      values: within(url, "values"),
      service: walkOn(url),
      witness,
      after: Effect.suspend(() => {
        const { clear, encrypted } = gate.seen()
        return clear === 0
          ? Effect.succeed(`${encrypted} connections, cancels among them, all over TLS`)
          : Effect.fail(new Programs.CompatError({ problem: `${clear} connections began in clear text` }))
      })
    }
  })
}

/** A directory for sockets that the server's user may write to. */
const openDirectory = Effect.acquireRelease(
  Effect.promise(async () => {
    const directory = await Fs.mkdtemp(Path.join(tmpdir(), "holdfast-sockets-"))
    await Fs.chmod(directory, 0o777)
    return directory
  }),
  (directory) => Effect.promise(() => Fs.rm(directory, { recursive: true, force: true }))
)

const socket: Target = {
  name: "postgres-socket",
  start: Effect.gen(function* () {
    const directory = yield* openDirectory
    const { port, superuserUrl: witness } = yield* TestPostgres.make({
      settings: { unix_socket_directories: directory }
    })
    const through = (url: Url) => {
      const { password, pathname, username } = new URL(Redacted.value(url))
      const search = new URLSearchParams({ host: directory, port: String(port), user: username, password })
      return `postgres://${pathname}?${search}`
    }
    return {
      version: `${yield* prepare(witness)}, Unix socket`,
      suites: { files: [], env: {} },
      leftOut: [],
      values: undefined,
      service: {
        DATABASE_URL: through(within(witness, "own")),
        HOLDFAST_QUERY_URL: through(within(witness, "queries", true)),
        HOLDFAST_QUERY_SUPERUSER: "allow"
      },
      witness
    }
  })
}

const bouncer = (suite: string): Target => ({
  name: `pgbouncer-${suite}`,
  start: Effect.gen(function* () {
    const directory = yield* openDirectory
    const bin = yield* Programs.debian({ suite, name: "pgbouncer", file: "usr/sbin/pgbouncer", as: "pgbouncer" })
    const server = yield* TestPostgres.make({ maxConnections: 300 })
    const { password } = new URL(Redacted.value(server.superuserUrl))
    const port = yield* freePort
    const users = Path.join(directory, "users.txt")
    const configuration = Path.join(directory, "pgbouncer.ini")
    const lines = [
      "[databases]",
      `* = host=${server.host} port=${server.port}`,
      "[pgbouncer]",
      `listen_addr = 127.0.0.1`,
      `listen_port = ${port}`,
      "unix_socket_dir =",
      "pool_mode = session",
      "auth_type = scram-sha-256",
      `auth_file = ${users}`,
      "auth_user = postgres",
      "auth_query = select usename, passwd from pg_shadow where usename = $1",
      "admin_users = postgres",
      "max_client_conn = 500",
      "default_pool_size = 100"
    ]
    yield* Effect.promise(async () => {
      await Fs.writeFile(users, `"postgres" "${decodeURIComponent(password)}"\n`, { mode: 0o644 })
      await Fs.writeFile(configuration, `${lines.join("\n")}\n`, { mode: 0o644 })
    })
    // PgBouncer, like PostgreSQL, refuses to run as root.
    const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}
    yield* Effect.acquireRelease(
      Effect.sync(() => spawn(Path.join(bin, "pgbouncer"), [configuration], { ...user, stdio: "ignore" })),
      (child) =>
        Effect.promise(async () => {
          if (child.exitCode === null && child.kill("SIGTERM")) await once(child, "exit")
        })
    )
    const url = change(server.superuserUrl, (url) => (url.port = String(port)))
    // Its console has another protocol than the driver speaks.
    const pooler = yield* Programs.attempt("pgbouncer --version", async () => {
      const { stdout } = await promisify(execFile)(Path.join(bin, "pgbouncer"), ["--version"])
      return stdout.split("\n")[0] ?? ""
    })
    yield* Effect.retry(ask(url, "select 1"), { times: 100, schedule: Schedule.spaced("50 millis") })
    return {
      version: `${pooler}, session mode, before ${yield* prepare(server.superuserUrl)}`,
      suites: { files: laws, env: { HOLDFAST_TEST_POSTGRES_URL: Redacted.value(url) } },
      leftOut: [],
      values: within(url, "values"),
      service: walkOn(url),
      witness: server.superuserUrl
    }
  })
})

export const targets: ReadonlyArray<Target> = [
  ...Object.entries(versions).map(([major, packaged]) => version(major, packaged)),
  tls,
  socket,
  bouncer("bookworm"),
  bouncer("sid")
]
