import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"

const page = readFileSync("docs/errors.md", "utf8")
const sources = globSync("src/**/*.ts").map((file) => readFileSync(file, "utf8"))

/** Statuses and title of a code: `409, 412 The title`. */
type Problems = ReadonlyMap<string, string>

/** Every problem as it is declared: by its class or kind, or by hand where no class could. */
const declared = (): Problems => {
  const patterns = [
    /\b(?:Class<\w+>\(\)|kind)\(\s*"(?<code>\w+)",\s*(?<status>\d{3}),\s*"(?<title>[^"]+)"/g,
    /(?<status>\d{3}): \{\s*code: "(?<code>\w+)",\s*title: "(?<title>[^"]+)"/g,
    /\{ title: "(?<title>[^"]+)", status: (?<status>\d{3}) \}\s*const body = \{ type: typeOf\("(?<code>\w+)"\)/g
  ]
  const found = sources.flatMap((source) =>
    patterns.flatMap((pattern) => Array.from(source.matchAll(pattern), ({ groups }) => groups ?? {}))
  )
  const statuses = new Map<string, Set<string>>()
  for (const { code = "", status = "" } of found) {
    statuses.set(code, (statuses.get(code) ?? new Set()).add(status))
  }
  return new Map(
    found.map(({ code = "", title = "" }) => [
      code,
      `${Array.from(statuses.get(code) ?? [])
        .toSorted()
        .join(", ")} ${title}`
    ])
  )
}

/** Every problem of the table. */
const shown = (): Problems => {
  const table = /<!-- problems -->([\s\S]*?)<!-- \/problems -->/.exec(page)?.[1] ?? ""
  const rows = table.matchAll(/^\| `(\w+)` +\| (\d{3}(?:, \d{3})*) +\| ([^|]+?) +\|/gm)
  return new Map(Array.from(rows, ([, code = "", statuses = "", title = ""]) => [code, `${statuses} ${title}`]))
}

/** The reasons of each tagged error by its name, and the errors that have no reasons. */
const errors = () => {
  const ids = sources.flatMap((source) =>
    Array.from(
      source.matchAll(/export class \w+ extends Schema\.TaggedError<\w+>\(\s*"(holdfast\/[\w/]+)"/g),
      ([, id = ""]) => id.split("/").slice(-2)
    )
  )
  const isReason = ([parent = ""]: ReadonlyArray<string>) => parent.endsWith("Error")
  const reasons = new Map<string, Array<string>>()
  for (const [parent = "", name = ""] of ids.filter(isReason)) {
    reasons.set(parent, [...(reasons.get(parent) ?? []), name])
  }
  const single = ids
    .filter((id) => !isReason(id))
    .map(([, name = ""]) => name)
    .filter((name) => !reasons.has(name))
  return { reasons, single }
}

const rowsOf = (text: string) => Array.from(text.matchAll(/^\| `(\w+)` +\|/gm), ([, name = ""]) => name)
const section = (title: string) =>
  new RegExp(`^### ${title}\\n([\\s\\S]*?)(?=^##|(?![\\s\\S]))`, "m").exec(page)?.[1] ?? ""

describe("docs/errors.md", () => {
  it("has every problem code with its status and title, and no other", () => {
    const problems = declared()
    assert.isAbove(problems.size, 25)
    assert.deepStrictEqual(Object.fromEntries(shown()), Object.fromEntries(problems))
  })

  it("has every code that a response is written with", () => {
    const written = sources.flatMap((source) =>
      Array.from(
        source.matchAll(/(?:typeOf\(|\bcode: |RawAnswer\.\w+\(\s*\d+,\s*)"([A-Z]\w+)"/g),
        ([, code = ""]) => code
      )
    )
    assert.isAbove(written.length, 5)
    assert.deepStrictEqual(
      written.filter((code) => !shown().has(code)),
      []
    )
  })

  it("has every reason of every error in the section of the error, and no other", () => {
    const { reasons, single } = errors()
    assert.isAbove(reasons.size, 4)
    for (const [error, names] of reasons) {
      assert.deepStrictEqual(rowsOf(section(error)).toSorted(), names.toSorted(), error)
    }
    assert.deepStrictEqual(rowsOf(section("Single errors")).toSorted(), single.toSorted())
  })
})
