/**
 * The program `redis-server` or `valkey-server`, wherever it can be had.
 *
 * A program on `PATH` is the system's. Otherwise the distribution's package is fetched into a cache beside the installed
 * packages, once, without touching the system, and stays for later runs.
 *
 * **Details**
 *
 * On Debian and its kin `apt-get download` gets the package that holds the program (`redis-tools`: there, `redis-server` is
 * a second name of `redis-check-rdb`) and the libraries the system lacks, and `dpkg -x` unpacks them; where the system
 * has no package lists, they are fetched into the cache, too. Root installs that package when this fails: it holds
 * programs and no service. Nothing here waits for a person: a program that asks is answered by its end.
 */
import { execFile } from "node:child_process"
import { accessSync, constants, existsSync, promises as Fs, readFileSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"

/** How the program is run. */
export interface RedisBinary {
  readonly path: string
  /** What it is called as: the same file may be several programs. */
  readonly argv0: string
  /** Where its libraries are, when they are not the system's. */
  readonly libraries: string | undefined
}

const names = ["redis-server", "valkey-server"]
const packages = [
  { name: "redis-tools", file: "redis-check-rdb", argv0: "redis-server" },
  { name: "valkey-tools", file: "valkey-check-rdb", argv0: "valkey-server" }
]

const advice =
  "Install redis-server or valkey-server (Debian: apt-get install redis-server; Fedora: dnf install valkey; " +
  "macOS: brew install redis) so that it is on PATH, or set HOLDFAST_TEST_REDIS_URL to a Redis of your own."

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
const installed = (): RedisBinary | undefined => {
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
const cacheName = (): string => {
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : ""
  const value = (name: string) => new RegExp(`^${name}="?([\\w.]*)`, "m").exec(release)?.[1] ?? ""
  return `redis-${value("ID")}${value("VERSION_ID")}-${process.arch}`
}

const findFile = async (root: string, isIt: (name: string) => boolean): Promise<string | undefined> => {
  const found = await Fs.readdir(root, { recursive: true }).catch((): Array<string> => [])
  const name = found.find((name) => isIt(Path.basename(name)))
  return name === undefined ? undefined : Path.join(root, name)
}

const cached = (root: string): Effect.Effect<RedisBinary | undefined> =>
  Effect.promise(async () => {
    for (const { argv0, file } of packages) {
      const path = await findFile(Path.join(root, "usr", "bin"), (name) => name === file)
      if (path === undefined) continue
      const all = await Fs.readdir(root, { recursive: true })
      const libraries = [...new Set(all.filter((name) => name.includes(".so")).map((name) => Path.dirname(name)))]
      return { path, argv0, libraries: libraries.map((name) => Path.join(root, name)).join(":") }
    }
    return undefined
  })

/** Unpacks the packages into a directory; `settings` say where apt has its lists. */
const download = Effect.fnUntraced(function* (
  { name }: (typeof packages)[number],
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

const fetched = Effect.fnUntraced(function* (target: string) {
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
    Effect.firstSuccessOf(packages.map((one) => download(one, staging, settings)))
  // Lists may be absent, or so old that what they name is gone.
  const root = yield* any([]).pipe(Effect.catch(() => Effect.andThen(update, any(ownLists))))
  // Somebody beside us may have been faster: what is there is as good.
  yield* files(() => Fs.rename(root, target).catch((cause) => (existsSync(target) ? undefined : Promise.reject(cause))))
  const binary = yield* cached(target)
  return binary ?? (yield* Effect.fail(`${target} holds no server`))
}, Effect.scoped)

const say = (line: string) => Effect.sync(() => void process.stderr.write(`${line}\n`))

const install = Effect.fnUntraced(function* (problem: string) {
  if (process.getuid?.() !== 0) return yield* Effect.fail(problem)
  yield* say(`Installing redis-tools with apt-get, because its package cannot be used without (${problem})`)
  yield* Effect.ignore(run("apt-get", ["update"], "/"))
  yield* run("apt-get", ["install", "--yes", "--no-install-recommends", "redis-tools"], "/")
  const path = onPath("redis-check-rdb")
  return path === undefined
    ? yield* Effect.fail(problem)
    : ({ path, argv0: "redis-server", libraries: undefined } satisfies RedisBinary)
})

const one = Semaphore.makeUnsafe(1)

/** Finds the program, or fetches it; fails with one line that says how to get it. */
export const find: Effect.Effect<RedisBinary, string> = one.withPermit(
  Effect.gen(function* () {
    const found = installed()
    if (found !== undefined) return found
    const target = Path.join(cacheDirectory(), cacheName())
    const kept = yield* cached(target)
    if (kept !== undefined) return kept
    if (onPath("apt-get") === undefined || onPath("dpkg") === undefined) return yield* Effect.fail(advice)
    yield* say(`Fetching the distribution's Redis into ${target}, because there is no redis-server on PATH`)
    return yield* fetched(target).pipe(
      Effect.catch(install),
      Effect.mapError((problem) => `${advice} (It could not be fetched: ${problem})`)
    )
  })
)
