/** The servers that are compared, each in a process of its own with a database of its own. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { connect } from "node:net"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Redacted from "effect/Redacted"
import { freePort } from "../../../src/embedded/FreePort.ts"
import * as TestPostgres from "../../../src/testing/TestPostgres.ts"
import * as TestRedis from "../../../src/testing/TestRedis.ts"

export type Store = "none" | "postgres" | "redis"

/** How a server is started: a file beside this one, and the variables it needs. */
export interface Start {
  readonly file: string
  readonly args?: ReadonlyArray<string>
  readonly store: Store
  readonly env?: (port: number, storeUrl: string, databaseUrl: string) => Record<string, string>
}

export interface Server {
  readonly port: number
  readonly pid: number
  /** Of the database in PostgreSQL, or of the Redis server; empty without a store. */
  readonly storeUrl: string
}

/** Ends a process in order, and by force where it does not go. */
const end = async (child: ChildProcess) => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, "exit")
  child.kill("SIGTERM")
  const late = setTimeout(() => child.kill("SIGKILL"), 10_000)
  await gone
  clearTimeout(late)
}

/** The commands that a Redis has run. */
const commands = (url: string) =>
  new Promise<number>((resolve, reject) => {
    const { hostname, port } = new URL(url)
    let said = ""
    const socket = connect(Number(port), hostname, () => socket.write("INFO stats\r\nQUIT\r\n"))
      .setEncoding("utf8")
      .on("data", (chunk: string) => (said += chunk))
      .on("close", () => resolve(Number(/total_commands_processed:(\d+)/.exec(said)?.[1])))
      .on("error", reject)
  })

/** A database server, and what starts servers on it. */
export const make = Effect.gen(function* () {
  const pg = yield* TestPostgres.make({
    maxConnections: 300,
    settings: {
      shared_preload_libraries: "pg_stat_statements",
      "pg_stat_statements.track": "top",
      shared_buffers: "256MB"
    }
  })
  const admin = yield* PgConnection.make({ url: pg.superuserUrl })
  yield* admin.query("create extension pg_stat_statements")
  let databases = 0
  const database = Effect.gen(function* () {
    const name = `bench_${databases++}`
    yield* admin.query(`create database ${name}`)
    return Redacted.value(pg.url(name))
  })
  const redis = Effect.map(TestRedis.make(), ({ url }) => Redacted.value(url))
  const profileDirectory = process.env.HOLDFAST_BENCH_PROFILE

  /** Starts a server for the current scope, and waits until it listens. */
  const launch = Effect.fnUntraced(function* (
    name: string,
    { args = [], env, file, store }: Start,
    more: Record<string, string> = {}
  ) {
    const databaseUrl = store === "none" ? "" : yield* database
    const storeUrl = store === "redis" ? yield* redis : databaseUrl
    const port = yield* freePort
    const profile =
      profileDirectory === undefined
        ? []
        : ["--cpu-prof", `--cpu-prof-dir=${profileDirectory}`, `--cpu-prof-name=${name}.cpuprofile`]
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(process.execPath, [...profile, join(import.meta.dirname, file), ...args], {
          env: {
            PATH: process.env.PATH,
            HOME: process.env.HOME,
            NODE_ENV: "production",
            BENCH_PORT: `${port}`,
            BENCH_STORE: store,
            BENCH_STORE_URL: storeUrl,
            ...env?.(port, storeUrl, databaseUrl),
            ...more
          },
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) => Effect.promise(() => end(child))
    )
    yield* Effect.promise(
      () =>
        new Promise<void>((resolve, reject) => {
          let said = ""
          child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
            said += chunk
            if (!/listening on/.test(said)) return
            // What it logs from now on is read and thrown away.
            child.stdout.removeAllListeners("data").resume()
            resolve()
          })
          child.once("exit", (code) => reject(new Error(`${name} ended with ${code} before it listened:\n${said}`)))
        })
    )
    return { port, pid: child.pid ?? 0, storeUrl } satisfies Server
  })

  /** Commands in a store and bytes of WAL so far. */
  const counted = (storeUrl: string) =>
    storeUrl.startsWith("redis")
      ? Effect.map(
          Effect.promise(() => commands(storeUrl)),
          (statements) => ({ statements, wal: 0 })
        )
      : Effect.map(
          admin.queryValues(
            `select coalesce((select sum(calls) from pg_stat_statements s join pg_database d on d.oid = s.dbid
               where datname = $1), 0)::float8, pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8`,
            [storeUrl === "" ? "" : new URL(storeUrl).pathname.slice(1)]
          ),
          ([row]) => ({ statements: Number(row?.[0]), wal: Number(row?.[1]) })
        )
  return { launch, counted }
})
