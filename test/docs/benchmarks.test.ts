/** The page of the benchmarks shows what they found. */
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { page, render } from "../bench/page.ts"
import { read } from "../bench/record.ts"

describe("docs/benchmarks.md", () => {
  it("shows the figures of test/bench/results.json; `node test/bench/page.ts` makes its tables", async () => {
    const shown = readFileSync(page, "utf8")
    assert.include(shown, "<!-- results: goals -->")
    assert.strictEqual(shown, await render(shown, read()))
  })
})
