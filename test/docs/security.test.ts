import { assert, describe, it } from "@effect/vitest"
import { existsSync, readFileSync } from "node:fs"

const text = readFileSync("docs/security.md", "utf8")

describe("docs/security.md", () => {
  it("the tests that it names are there", () => {
    const named = Array.from(text.matchAll(/`((?:test|src\/testing)\/[\w./-]+\.ts)` › ([^|\n]+?) *(?=\||$)/gm))
    assert.isAbove(named.length, 30)
    const missing = named.filter(([, file = "", name = ""]) => {
      if (!existsSync(file)) return true
      const title = name.replaceAll("\\_", "_").replaceAll("\\*", "*")
      return !readFileSync(file, "utf8").includes(`"${title}"`)
    })
    assert.deepStrictEqual(
      missing.map(([all]) => all),
      []
    )
  })
})
