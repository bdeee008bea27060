import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"

const page = readFileSync("docs/errors.md", "utf8")
const sources = globSync("src/**/*.ts").map((file) => readFileSync(file, "utf8"))

/** Every problem as it is declared: with its class, or by hand where no class could. */
const declared = () => {
  const problems = new Map<string, string>()
  const add = (code = "", status = "", title = "") => problems.set(code, `${status} ${title}`)
  for (const source of sources) {
    for (const [, code, status, title] of source.matchAll(/\bClass<\w+>\(\)\(\s*"(\w+)",\s*(\d{3}),\s*"([^"]+)"/g)) {
      add(code, status, title)
    }
    for (const [, status, code, title] of source.matchAll(/(\d{3}): \{\s*code: "(\w+)",\s*title: "([^"]+)"/g)) {
      add(code, status, title)
    }
    for (const [, title, status, code] of source.matchAll(
      /\{ title: "([^"]+)", status: (\d{3}) \}\s*const body = \{ type: typeOf\("(\w+)"\)/g
    )) {
      add(code, status, title)
    }
    // Those that are written where there is no class.
    for (const [, code] of source.matchAll(/(?:typeOf\(|\bcode: |problem\([\w() ]+, )"([A-Z]\w+)"/g)) {
      assert.isTrue(problems.has(code ?? "") || sources.some((other) => other.includes(`()("${code}"`)), code)
    }
  }
  return problems
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
    const table = /<!-- problems -->([\s\S]*?)<!-- \/problems -->/.exec(page)?.[1] ?? ""
    const shown = new Map(
      Array.from(
        table.matchAll(/^\| `(\w+)` +\| (\d{3}) +\| ([^|]+?) +\|/gm),
        ([, code = "", status = "", title = ""]) => [code, `${status} ${title}`] as const
      )
    )
    const known = declared()
    assert.isAbove(known.size, 25)
    assert.deepStrictEqual(Object.fromEntries(shown), Object.fromEntries(known))
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
