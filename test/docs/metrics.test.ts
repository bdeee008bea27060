import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Programs from "../support/distributionPrograms.ts"
import { globSync, readFileSync } from "node:fs"

/** A row about a metric. */
const metric = /^\| `((?:holdfast|process|nodejs)_\w+)` +\| (\w+) +\|/gm

const page = readFileSync("docs/metrics-and-logs.md", "utf8")

describe("docs/metrics-and-logs.md", () => {
  it("has every metric with its type, and no other", () => {
    const registered = globSync("src/**/*.ts").flatMap((file) =>
      Array.from(
        readFileSync(file, "utf8").matchAll(
          /\b(?:(?:Metric|Series)\.(gauge|counter|histogram)|count|(gauge))\(\s*"((?:holdfast|process|nodejs)_\w+)"/g
        ),
        ([, type, own = "counter", name = ""]) => `${name} ${type ?? own}`
      )
    )
    const shown = Array.from(page.matchAll(metric), ([, name = "", type = ""]) => `${name} ${type}`)
    assert.isAbove(registered.length, 20)
    assert.deepStrictEqual(shown.toSorted(), registered.toSorted())
  })

  it("names the unit of what has one, and ends what counts with _total", () => {
    for (const [, name = "", type = ""] of page.matchAll(metric)) {
      if (type === "histogram") assert.match(name, /_seconds$/)
      if (type === "counter") assert.match(name, /_total$/)
    }
  })

  it("has the metrics that the dashboard and the alert rules ask for", () => {
    const known = new Set(Array.from(page.matchAll(metric), ([, name = ""]) => name))
    for (const file of ["grafana/holdfast.json", "prometheus/alerts.yml"]) {
      const asked = Array.from(
        readFileSync(`docs/deploy/${file}`, "utf8").matchAll(/\b(?:holdfast|process|nodejs)_[a-z_0-9]+/g),
        ([name]) => name.replace(/_(?:bucket|sum|count)$/, "")
      )
      assert.isAbove(asked.length, 15)
      for (const name of asked) assert.isTrue(known.has(name), `${file}: ${name}`)
    }
  })

  it.effect("the alert rules and their tests pass promtool", () =>
    Effect.gen(function* () {
      const promtool = yield* Programs.promtool
      for (const args of [
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
        ["check", "config", "prometheus.yml"]
      ]) {
        const { code, output } = yield* Programs.run(promtool, args, { cwd: "docs/deploy/prometheus" })
        assert.strictEqual(code, 0, output)
      }
    })
  )

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
