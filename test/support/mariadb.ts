/**
 * A MariaDB server of its own: the one on `PATH`, or the distribution's package.
 *
 * It lives as long as the scope it was made in, listens on 127.0.0.1 only and keeps nothing. In between it can be killed,
 * paused and started again on the same port with the same data.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { createConnection } from "mysql2/promise"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as DistributionProgram from "../../src/testing/internal/DistributionProgram.ts"
import { eventually } from "./conditions.ts"

const find = DistributionProgram.find({
  cache: "mariadb",
  names: ["mariadbd"],
  packages: [{ name: "mariadb-server-core", file: "mariadbd", argv0: "mariadbd" }],
  advice: "Install mariadb-server (Debian: apt-get install mariadb-server-core) so that mariadbd is on PATH."
})

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(Path.join(tmpdir(), "holdfast-mariadb-"))),
  (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
)

/** A user for statements, and its database, which it may do everything in. */
export interface MariaDb {
  readonly port: number
  /** Without the password. */
  readonly url: string
  readonly password: Redacted.Redacted<string>
  readonly secretUrl: Redacted.Redacted<string>
  /** A statement of the server's superuser. */
  readonly administer: (sql: string) => Effect.Effect<ReadonlyArray<Readonly<Record<string, unknown>>>>
  readonly signal: (name: NodeJS.Signals) => Effect.Effect<void>
  readonly kill: Effect.Effect<void>
  readonly start: Effect.Effect<void>
}

const tables = ["mysql_system_tables.sql", "mysql_performance_tables.sql", "mysql_system_tables_data.sql"]

/** Starts one. */
export const make: Effect.Effect<MariaDb, never, Scope.Scope> = Effect.gen(function* () {
  const { argv0, libraries, path } = yield* Effect.orDie(Effect.mapError(find, (problem) => new Error(problem)))
  const own = yield* directory
  const port = yield* freePort
  const base = Path.dirname(Path.dirname(path))
  const share = Path.join(base, "share/mysql")
  const env = { PATH: "/usr/bin:/bin", ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries }) }
  const common = [
    "--no-defaults",
    `--datadir=${own}`,
    `--basedir=${base}`,
    `--lc-messages-dir=${share}`,
    `--character-sets-dir=${share}/charsets`,
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-name-resolve",
    ...(process.getuid?.() === 0 ? ["--user=root"] : [])
  ]
  const password = randomBytes(12).toString("hex")
  const root = randomBytes(12).toString("hex")
  const account = (user: string, secret: string) => [
    `create user ${user}@'127.0.0.1' identified by '${secret}';`,
    `grant all on ${user === "keeper" ? "*.*" : "workspace.*"} to ${user}@'127.0.0.1'${user === "keeper" ? " with grant option" : ""};`
  ]
  yield* Effect.promise(async () => {
    const child = spawn(path, [...common, "--bootstrap"], { argv0, env, stdio: ["pipe", "ignore", "pipe"] })
    let said = ""
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (said += chunk))
    child.stdin.end(
      [
        "create database mysql;",
        "use mysql;",
        ...tables.map((file) => readFileSync(Path.join(share, file), "utf8")),
        "flush privileges;",
        "create database workspace character set utf8mb4;",
        ...account("keeper", root),
        ...account("reporter", password),
        ""
      ].join("\n")
    )
    const [code] = await once(child, "close")
    if (code !== 0) throw new Error(`MariaDB could not be made:\n${said.slice(-2000)}`)
  })
  let child: ChildProcess | undefined
  const kill = Effect.promise(async () => {
    const ending = child
    child = undefined
    if (ending === undefined || ending.exitCode !== null || ending.signalCode !== null) return
    ending.kill("SIGKILL")
    await once(ending, "exit")
  })
  const administer = (sql: string) =>
    Effect.promise(async () => {
      const connection = await createConnection({ host: "127.0.0.1", port, user: "keeper", password: root })
      try {
        const [rows] = await connection.query(sql)
        return Array.isArray(rows) ? (rows as ReadonlyArray<Readonly<Record<string, unknown>>>) : []
      } finally {
        connection.destroy()
      }
    })
  const start = Effect.suspend(() => {
    const started = spawn(path, [...common, `--port=${port}`, "--bind-address=127.0.0.1", `--socket=${own}/socket`], {
      argv0,
      env,
      stdio: ["ignore", "ignore", "pipe"]
    })
    let said = ""
    started.stderr.setEncoding("utf8").on("data", (chunk: string) => (said = (said + chunk).slice(-2000)))
    child = started
    const ended = Effect.promise(async () => {
      const [code] = await once(started, "close")
      throw new Error(`MariaDB ended with ${code}:\n${said}`)
    })
    return eventually(Effect.exit(administer("select 1")), (exit) => exit._tag === "Success", "30 seconds").pipe(
      Effect.raceFirst(ended)
    )
  }).pipe(Effect.asVoid, Effect.orDie)
  yield* Effect.acquireRelease(start, () => kill)
  return {
    port,
    url: `mysql://reporter@127.0.0.1:${port}/workspace`,
    password: Redacted.make(password),
    secretUrl: Redacted.make(`mysql://reporter:${password}@127.0.0.1:${port}/workspace`),
    administer,
    signal: (name) => Effect.sync(() => void child?.kill(name)),
    kill,
    start
  }
})

/** A server that the tests of a file share. */
export class Shared extends Context.Service<Shared, MariaDb>()("test/MariaDb") {}

export const layer: Layer.Layer<Shared> = Layer.effect(Shared, make)

/** What `reporter` runs now. MariaDB lists a statement for a moment after its answer: what runs is there at a second look, too. */
export const statements = ({ administer }: MariaDb) =>
  Effect.gen(function* () {
    const look = administer(
      "select query_id, info from information_schema.processlist where user = 'reporter' and command <> 'Sleep' and info is not null"
    )
    const first = yield* look
    if (first.length === 0) return []
    const second = yield* Effect.delay(look, "20 millis")
    const isSame = ({ query_id }: (typeof first)[number]) => first.some((row) => row["query_id"] === query_id)
    return second.filter(isSame).map(({ info }) => String(info))
  })

/** How many connections `reporter` has. */
export const connections = ({ administer }: MariaDb) =>
  Effect.map(administer("select count(*) as n from information_schema.processlist where user = 'reporter'"), ([row]) =>
    Number(row?.["n"])
  )
