/**
 * PgBouncer before a PostgreSQL server: the one on `PATH`, or the distribution's package.
 *
 * It lives as long as the scope it was made in and listens on 127.0.0.1 only.
 */
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { chownSync, chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { freePort } from "../../src/embedded/FreePort.ts"
import * as DistributionProgram from "../../src/testing/internal/DistributionProgram.ts"
import { eventually } from "./conditions.ts"

const pgbouncer = { name: "pgbouncer", file: "pgbouncer", argv0: "pgbouncer" }

const find = DistributionProgram.find({
  cache: "pgbouncer",
  names: ["pgbouncer"],
  packages: [pgbouncer],
  advice: "Install pgbouncer (Debian: apt-get install pgbouncer) so that it is on PATH."
})

/** PgBouncer refuses to run as root. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

const directory = Effect.acquireRelease(
  Effect.sync(() => {
    const made = mkdtempSync(Path.join(tmpdir(), "holdfast-pgbouncer-"))
    chmodSync(made, 0o700)
    if (user.uid !== undefined) chownSync(made, user.uid, user.gid)
    return made
  }),
  (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
)

/** More lines of the section `[pgbouncer]`. */
export interface Settings {
  readonly pool_mode: "session" | "transaction" | "statement"
  readonly [name: string]: string | number
}

/** Starts it in front of a server; the URL is that of the same database through it. */
export const pgBouncer = Effect.fnUntraced(function* (url: Redacted.Redacted, settings: Settings) {
  const { argv0, libraries, path } = yield* Effect.mapError(find, (problem) => new Error(problem))
  const own = yield* directory
  const port = yield* freePort
  const to = new URL(Redacted.value(url))
  const target = `host=${to.hostname} port=${to.port} user=${decodeURIComponent(to.username)} password=${decodeURIComponent(to.password)}`
  const lines = {
    listen_addr: "127.0.0.1",
    listen_port: port,
    unix_socket_dir: "",
    auth_type: "any",
    logfile: Path.join(own, "log"),
    ...settings
  }
  const file = Path.join(own, "pgbouncer.ini")
  const ini = ["[databases]", `* = ${target}`, "[pgbouncer]", ...Object.entries(lines).map(([k, v]) => `${k} = ${v}`)]
  writeFileSync(file, `${ini.join("\n")}\n`)
  if (user.uid !== undefined) chownSync(file, user.uid, user.gid)
  const env = { PATH: "/usr/bin:/bin", ...(libraries !== undefined && { LD_LIBRARY_PATH: libraries }) }
  const version = execFileSync(path, ["--version"], { env, encoding: "utf8" }).split("\n")[0] ?? ""
  yield* Effect.acquireRelease(
    Effect.sync(() => spawn(path, ["-q", file], { ...user, argv0, env, cwd: "/", stdio: "ignore" })),
    (child) =>
      Effect.promise(async () => {
        if (child.exitCode !== null) return
        child.kill("SIGKILL")
        await once(child, "exit")
      })
  )
  yield* eventually(
    Effect.sync(() => logOf(own)),
    (log) => log.includes("process up")
  )
  to.hostname = "127.0.0.1"
  to.port = String(port)
  return { url: Redacted.make(to.href), version, log: Effect.sync(() => logOf(own)) }
})

const logOf = (directory: string) => {
  try {
    return readFileSync(Path.join(directory, "log"), "utf8")
  } catch {
    return ""
  }
}
