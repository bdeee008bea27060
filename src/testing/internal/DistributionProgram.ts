/**
 * A server's program, wherever it can be had.
 *
 * A program on `PATH` is the system's. Otherwise the distribution's package is fetched into a cache beside the installed
 * packages, once, without touching the system, and stays for later runs.
 *
 * **Details**
 *
 * On Debian and its kin `apt-get download` gets the package that holds the program and the libraries the system lacks, and
 * `dpkg -x` unpacks them; where the system has no package lists, they are fetched into the cache, too. Root installs the package
 * when this fails, if it holds programs and no service. Nothing here waits for a person: a program that asks is answered by its
 * end.
 */
import { execFile } from "node:child_process"
import { accessSync, constants, existsSync, promises as Fs, readFileSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** A program, and the packages that hold it. */
export interface Wanted {
  /** Begins the name of its place in the cache. */
  readonly cache: string
  /** What it may be called on `PATH`. */
  readonly names: ReadonlyArray<string>
  /** Any of these will do; `argv0` is what the file is called as. */
  readonly packages: ReadonlyArray<{ readonly name: string; readonly file: string; readonly argv0: string }>
  /** The package that root may install: it holds programs and no service. */
  readonly installable?: { readonly name: string; readonly file: string; readonly argv0: string } | undefined
  /** How a person gets it, in sentences. */
  readonly advice: string
}

/** How the program is run. */
export interface Program {
  readonly path: string
  /** What it is called as: the same file may be several programs. */
  readonly argv0: string
  /** Where its libraries are, when they are not the system's. */
  readonly libraries: string | undefined
}

const onPath = (name: string): string | undefined =>
  (process.env.PATH ?? "")
    .split(Path.delimiter)
    .filter((directory) => directory !== "")
    .map((directory) => Path.join(directory, name))
    .find((path) => {
      try {
        accessSync(path, constants.X_OK)
        return statSync(path).isFile()
      } catch {
        return false
      }
    })

/** The system's own, if there is one. */
const installed = ({ names }: Wanted): Program | undefined => {
  for (const name of names) {
    const path = onPath(name)
    if (path !== undefined) return { path, argv0: name, libraries: undefined }
  }
  return undefined
}

/** Runs a program to its end; interruption kills it. */
const run = (command: string, args: ReadonlyArray<string>, cwd: string): Effect.Effect<string, string> =>
  Effect.callback((resume) => {
    const child = execFile(
      command,
      args,
      { cwd, env: { ...process.env, LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" }, maxBuffer: 64 * 1024 * 1024 },
      (cause, stdout, stderr) => {
        const said = stderr.trim().split("\n").at(-1) ?? ""
        resume(cause === null ? Effect.succeed(stdout) : Effect.fail(said === "" ? cause.message : said))
      }
    )
    child.stdin?.end()
    return Effect.sync(() => void child.kill("SIGKILL"))
  })

const files = <A>(operation: () => Promise<A>): Effect.Effect<A, string> =>
  Effect.tryPromise({ try: operation, catch: (cause) => (cause instanceof Error ? cause.message : String(cause)) })

/** Beside the installed packages, or, where there are none, among the temporary files of this user. */
const cacheDirectory = (): string => {
  for (let directory = process.cwd(); ; directory = Path.dirname(directory)) {
    const modules = Path.join(directory, "node_modules")
    if (existsSync(modules)) return Path.join(modules, ".cache", "holdfast")
    if (directory === Path.dirname(directory)) return Path.join(tmpdir(), `holdfast-cache-${process.getuid?.() ?? 0}`)
  }
}

/** Programs fit the system they were fetched for: a checkout may be mounted into another. */
const cacheName = ({ cache }: Wanted): string => {
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : ""
  const value = (name: string) => new RegExp(`^${name}="?([\\w.]*)`, "m").exec(release)?.[1] ?? ""
  return `${cache}-${value("ID")}${value("VERSION_ID")}-${process.arch}`
}

const cached = (root: string, { packages }: Wanted): Effect.Effect<Program | undefined> =>
  Effect.promise(async () => {
    for (const { argv0, file } of packages) {
      const path = ["bin", "sbin"].map((where) => Path.join(root, "usr", where, file)).find((path) => existsSync(path))
      if (path === undefined) continue
      const all = await Fs.readdir(root, { recursive: true })
      const libraries = [...new Set(all.filter((name) => name.includes(".so")).map((name) => Path.dirname(name)))]
      return { path, argv0, libraries: libraries.map((name) => Path.join(root, name)).join(":") }
    }
    return undefined
  })

/** Unpacks the packages into a directory; `settings` say where apt has its lists. */
const download = Effect.fnUntraced(function* (
  { name }: Wanted["packages"][number],
  staging: string,
  settings: ReadonlyArray<string>
) {
  const apt = [...settings, "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"]
  const plan = yield* run("apt-get", [...apt, "--simulate", "--no-install-recommends", "install", name], staging)
  const missing = Array.from(plan.matchAll(/^Inst (\S+)/gm), ([, missing]) => missing ?? "")
  // The libraries that the system has serve; the program itself may be installed and yet not be on PATH.
  const wanted = [...new Set([name, ...missing])]
  yield* run("apt-get", [...apt, "download", ...wanted], staging)
  const root = Path.join(staging, "root")
  const archives = (yield* files(() => Fs.readdir(staging))).filter((file) => file.endsWith(".deb"))
  for (const archive of archives) yield* run("dpkg", ["-x", Path.join(staging, archive), root], staging)
  return root
})

const fetched = Effect.fnUntraced(function* (target: string, wanted: Wanted) {
  const parent = Path.dirname(target)
  yield* files(() => Fs.mkdir(parent, { recursive: true }))
  const staging = yield* Effect.acquireRelease(
    files(() => Fs.mkdtemp(`${target}.new-`)),
    (directory) => Effect.promise(() => Fs.rm(directory, { recursive: true, force: true }))
  )
  const lists = Path.join(staging, "lists")
  const ownLists = ["-o", `Dir::State::lists=${lists}`, "-o", `Dir::Cache=${Path.join(staging, "apt")}`]
  const update = files(async () => {
    await Fs.mkdir(Path.join(lists, "partial"), { recursive: true })
    await Fs.mkdir(Path.join(staging, "apt", "archives", "partial"), { recursive: true })
  }).pipe(
    Effect.andThen(
      run("apt-get", [...ownLists, "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1", "update"], staging)
    )
  )
  const any = (settings: ReadonlyArray<string>) =>
    Effect.firstSuccessOf(wanted.packages.map((one) => download(one, staging, settings)))
  // Lists may be absent, or so old that what they name is gone.
  const root = yield* any([]).pipe(Effect.catch(() => Effect.andThen(update, any(ownLists))))
  // Somebody beside us may have been faster: what is there is as good.
  yield* files(() => Fs.rename(root, target).catch((cause) => (existsSync(target) ? undefined : Promise.reject(cause))))
  const binary = yield* cached(target, wanted)
  return binary ?? (yield* Effect.fail(`${target} holds no ${wanted.names[0]}`))
}, Effect.scoped)

const say = (line: string) => Effect.sync(() => void process.stderr.write(`${line}\n`))

const install = (wanted: Wanted) =>
  Effect.fnUntraced(function* (problem: string) {
    const { installable } = wanted
    if (installable === undefined || process.getuid?.() !== 0) return yield* Effect.fail(problem)
    const { argv0, file, name } = installable
    yield* say(`Installing ${name} with apt-get, because its package cannot be used without (${problem})`)
    yield* Effect.ignore(run("apt-get", ["update"], "/"))
    yield* run("apt-get", ["install", "--yes", "--no-install-recommends", name], "/")
    const path = onPath(file)
    return path === undefined ? yield* Effect.fail(problem) : ({ path, argv0, libraries: undefined } satisfies Program)
  })

const one = Semaphore.makeUnsafe(1)

/** Finds a program, or fetches it; fails with one line that says how to get it. */
export const find = (wanted: Wanted): Effect.Effect<Program, string> =>
  one.withPermit(
    Effect.gen(function* () {
      const found = installed(wanted)
      if (found !== undefined) return found
      const target = Path.join(cacheDirectory(), cacheName(wanted))
      const kept = yield* cached(target, wanted)
      if (kept !== undefined) return kept
      if (onPath("apt-get") === undefined || onPath("dpkg") === undefined) return yield* Effect.fail(wanted.advice)
      yield* say(`Fetching the distribution's package into ${target}, because there is no ${wanted.names[0]} on PATH`)
      return yield* fetched(target, wanted).pipe(
        Effect.catch(install(wanted)),
        Effect.mapError((problem) => `${wanted.advice} (It could not be fetched: ${problem})`)
      )
    })
  )
