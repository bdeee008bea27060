import { assert, describe, it } from "@effect/vitest"
import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"

/** The rooms, by floor. A room may use the rooms below it, and no others but those of {@link beside}. */
const rooms: Readonly<Record<string, number>> = {
  lifetime: 1,
  problem: 1,
  cipher: 1,
  connection: 2,
  session: 2,
  query: 2,
  function: 2,
  client: 2,
  token: 3,
  http: 4,
  browser: 4,
  postgres: 5,
  redis: 5,
  snowflake: 5,
  node: 5,
  sql: 5,
  mysql: 5,
  sqlite: 5,
  quickjs: 5,
  micropython: 5,
  cluster: 5,
  server: 6,
  console: 6,
  embedded: 6,
  testing: 7,
  cli: 7,
  "bin.ts": 7,
  "index.ts": 7
}

/** Arrows between two rooms of one floor. */
const beside = new Set(["mysql -> sql", "sqlite -> sql", "server -> embedded", "console -> server", "bin.ts -> cli"])

/** What a room may need besides `effect`. A peer that a program can do without is one room's alone. */
const peers: Readonly<Record<string, ReadonlyArray<string>>> = {
  client: ["@effect/platform-node", "tough-cookie"],
  postgres: ["@effect/sql-pg"],
  redis: ["@effect/platform-node"],
  mysql: ["mysql2"],
  quickjs: ["quickjs-emscripten-core", "@jitl/quickjs-wasmfile-release-sync", "amaro"],
  micropython: ["@micropython/micropython-webassembly-pyscript"],
  server: ["@effect/platform-node"],
  testing: ["@effect/vitest"],
  console: ["preact", "uplot", "vite", "@codemirror/*", "@lezer/highlight"],
  "bin.ts": ["@effect/platform-node"]
}

const files = globSync("**/*.{ts,tsx}", { cwd: "src" }).map((file) => file.replaceAll("\\", "/"))
const source = (file: string) => readFileSync(join("src", file), "utf8")
const roomOf = (file: string) => file.split("/")[0] ?? file
const importsOf = (file: string) =>
  Array.from(
    source(file).matchAll(/^(?:import|export)\b[^"]*?from "([^"]+)"|\bimport\("([^"]+)"\)/gm),
    ([, statically, lazily]) => statically ?? lazily ?? ""
  )
const packageOf = (specifier: string) =>
  specifier
    .split("/")
    .slice(0, specifier.startsWith("@") ? 2 : 1)
    .join("/")

/** Every import of another file, as it lies under `src`. */
const imports = files.flatMap((file) =>
  importsOf(file)
    .filter((to) => to.startsWith("."))
    .map((to) => ({ file, to: normalize(join(dirname(file), to)).replaceAll("\\", "/") }))
)

const isFor = (room: string, name: string): boolean =>
  ["effect", ...(peers[room] ?? [])].some(
    (peer) => peer === name || (peer.endsWith("/*") && name.startsWith(peer.slice(0, -1)))
  )

describe("the house", () => {
  it("has a floor for every room", () => {
    assert.deepStrictEqual(
      files.filter((file) => rooms[roomOf(file)] === undefined),
      []
    )
  })

  it("imports downwards only, and the rooms of one floor do not know each other", () => {
    const wrong = imports
      .map(({ file, to }) => ({ file, to, from: roomOf(file), into: roomOf(to) }))
      .filter(({ from, into }) => from !== into && !beside.has(`${from} -> ${into}`))
      .filter(({ from, into }) => (rooms[into] ?? Infinity) >= (rooms[from] ?? 0))
      .map(({ file, to }) => `${file} imports ${to}`)
    assert.deepStrictEqual(wrong, [])
  })

  it("imports in a room no package but its own, and barrels nowhere", () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((to) => !to.startsWith(".") && !to.startsWith("node:"))
        .filter((to) => to === "effect" || !isFor(roomOf(file), packageOf(to)))
        .map((to) => `${file} imports ${to}`)
    )
    const barrels = imports.filter(({ to }) => to.endsWith("index.ts")).map(({ file }) => `${file} imports a barrel`)
    assert.deepStrictEqual([...wrong, ...barrels], [])
  })

  it("says which package to install where a public module needs one that a program can do without", () => {
    const optional = {
      postgres: "@effect/sql-pg",
      redis: "redis",
      mysql: "mysql2",
      quickjs: "quickjs-emscripten-core",
      micropython: "@micropython/micropython-webassembly-pyscript"
    } as const
    const silent = Object.entries(optional).flatMap(([room, peer]) =>
      globSync(`${room}/*.ts`, { cwd: "src" }).filter((file) => !source(file).includes(`Install \`${peer}\``))
    )
    assert.deepStrictEqual(silent, [])
    // In the room of tests the suites of laws need a package, and nothing else does.
    const suites = globSync("testing/**/*.ts", { cwd: "src" }).filter((file) =>
      importsOf(file).some((to) => packageOf(to) === "@effect/vitest")
    )
    assert.deepStrictEqual(
      suites.filter((file) => !/Laws?|Samples|Trial/.test(file)),
      []
    )
    const open = globSync("testing/*Laws.ts", { cwd: "src" })
    assert.deepStrictEqual(
      open.filter((file) => !source(file).includes("Install `@effect/vitest`")),
      []
    )
  })

  it("closes what is not public", () => {
    const { exports } = JSON.parse(readFileSync("package.json", "utf8"))
    const open = Object.keys(rooms)
      .filter((room) => existsSync(join("src", room, "internal")))
      .filter((room) => exports[`./${room}/internal/*`] !== null && exports[`./${room}/*`] !== null)
    // Node reads one star in a key: a line for all rooms at once would close nothing.
    assert.deepStrictEqual(open, [])
  })

  it("keeps a file to 300 lines of code", () => {
    const code = (file: string) =>
      source(file)
        .split("\n")
        .filter((line) => !/^\s*(\/\/|\/?\*|$)/.test(line)).length
    assert.deepStrictEqual(
      files.filter((file) => code(file) > 300),
      []
    )
  })
})
