import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"

const page = readFileSync("docs/metrics-and-logs.md", "utf8")

describe("docs/metrics-and-logs.md", () => {
  it("has every metric with its type, and no other", () => {
    const registered = globSync("src/**/*.ts").flatMap((file) =>
      Array.from(
        readFileSync(file, "utf8").matchAll(/\b(?:Metric\.(gauge|counter|histogram)|count)\(\s*"(holdfast_\w+)"/g),
        ([, type = "counter", name = ""]) => `${name} ${type}`
      )
    )
    const shown = Array.from(
      page.matchAll(/^\| `(holdfast_\w+)` +\| (\w+) +\|/gm),
      ([, name = "", type = ""]) => `${name} ${type}`
    )
    assert.isAbove(registered.length, 20)
    assert.deepStrictEqual(shown.toSorted(), registered.toSorted())
  })
})
