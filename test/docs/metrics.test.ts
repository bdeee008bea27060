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

  it("has every event of the audit log, and who may have ended a session", () => {
    const audit = readFileSync("src/session/SessionAudit.ts", "utf8")
    const section = /^## The audit log of sessions\n([\s\S]*?)^## /m.exec(page)?.[1] ?? ""
    const events = Array.from(audit.matchAll(/"(session\.\w+)"/g), ([, name = ""]) => name)
    const [, union = ""] = /export type EndedBy =([^\n]*(?:\n\s+\|[^\n]*)*)/.exec(audit) ?? []
    const enders = Array.from(union.matchAll(/"([^"]+)"/g), ([, name = ""]) => name)
    assert.isAbove(enders.length, 3)
    const rows = Array.from(section.matchAll(/^\| `([^`]+)` +\|/gm), ([, name = ""]) => name)
    assert.deepStrictEqual(rows.filter((name) => name !== "by").toSorted(), [...events, ...enders].toSorted())
  })
})
