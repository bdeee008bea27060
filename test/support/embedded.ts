/**
 * Checkouts, programs and connections for the tests of the embedded database.
 *
 * What is made here lives as long as the scope of its test; the end of a checkout also ends a server left in it.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { promises as Fs } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Postmaster from "../../src/embedded/Postmaster.ts"
import * as ProcessTable from "../../src/node/internal/ProcessTable.ts"

/** An empty checkout and an empty shared directory, both gone afterwards. */
export const checkout = (mode = 0o755) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const root = await Fs.realpath(await Fs.mkdtemp(Path.join(tmpdir(), "holdfast-checkout-")))
      await Fs.chmod(root, 0o755)
      const cwd = Path.join(root, "closed", "checkout")
      await Fs.mkdir(cwd, { recursive: true })
      await Fs.chmod(cwd, 0o755)
      await Fs.chmod(Path.join(root, "closed"), mode)
      return { root, cwd, sharedDirectory: Path.join(root, "shared") }
    }),
    ({ cwd, root, sharedDirectory }) =>
      Effect.gen(function* () {
        const shared = yield* Effect.promise(() => Fs.readdir(sharedDirectory).catch((): Array<string> => []))
        const directories = [Path.join(cwd, ".holdfast"), ...shared.map((name) => Path.join(sharedDirectory, name))]
        for (const directory of directories) yield* Effect.orDie(Postmaster.stopOrphan(Path.join(directory, "data")))
        yield* Effect.promise(() => Fs.rm(root, { recursive: true, force: true }))
      })
  )

/** The rows of a statement on a connection of its own. */
export const query = (url: Redacted.Redacted, sql: string) =>
  PgConnection.make({ url }).pipe(
    Effect.flatMap((connection) => connection.queryValues(sql)),
    Effect.scoped
  )

/** The same role and password, another database. */
export const elsewhere = (url: Redacted.Redacted, database: string) => {
  const changed = new URL(Redacted.value(url))
  changed.pathname = `/${database}`
  return Redacted.make(changed.href)
}

/** What the server answered to a connection it refused. */
export const refusal = (url: Redacted.Redacted) =>
  Effect.map(Effect.flip(query(url, "select 1")), ({ reason }) => String(reason.cause))

/** The postmasters that work in the data of a directory. */
export const postmasters = (directory: string) =>
  ProcessTable.workingIn(Path.join(directory, "data"), "postgres").filter((pid) =>
    ProcessTable.commandOf(pid).includes(" -D ")
  )

/** A program of its own that serves from a checkout; killed by force at the end. */
export const serveInChild = (options: { readonly cwd: string; readonly sharedDirectory: string }) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const script = Path.join(import.meta.dirname, "serveEmbedded.ts")
      const child = spawn(process.execPath, [script, options.cwd, options.sharedDirectory], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      const gone = once(child, "exit")
      const [line] = await Promise.race([once(child.stdout, "data"), gone])
      const kill = Effect.promise(() => {
        child.kill("SIGKILL")
        return gone
      })
      return { port: Number(line), pid: child.pid ?? 0, kill }
    }),
    ({ kill }) => kill
  )
