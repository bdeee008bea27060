import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"
import { eventsOf } from "../support/logEvents.ts"

const levels: Readonly<Record<string, string>> = { debug: "D", info: "I", warning: "W", error: "E" }

/** The names of the members of an object literal; what is in their values is nobody's name. */
const membersOf = (literal: string): ReadonlyArray<string> => {
  let flat = literal
  for (let last = ""; last !== flat;) {
    last = flat
    flat = flat.replace(/\([^()]*\)|\[[^[\]]*\]/g, "")
  }
  return flat.split(",").flatMap((member) => /^\s*(\w+)/.exec(member)?.[1] ?? [])
}

const emitted = globSync("src/**/*.ts").flatMap((file) =>
  Array.from(
    readFileSync(file, "utf8").matchAll(
      /\bLogEvent\.(debug|info|warning|error)\(\s*\{\s*event: "([a-z_.]+)"([^{}]*)\}/g
    ),
    ([, level = "", event = "", rest = ""]) => `${event} ${levels[level]} ${membersOf(rest.replace(/^,/, "")).join()}`
  )
)
/** Written for each request, past the loggers. */
const access = /event: "(http.request)",([\s\S]*?)\n +\}/.exec(readFileSync("src/server/AccessLog.ts", "utf8"))

describe("the log's events", () => {
  it("are those of the docs, with their levels and fields, and no other", () => {
    assert.isAbove(emitted.length, 50)
    const all = new Set([...emitted, `${access?.[1]} I ${membersOf(access?.[2] ?? "").join()}`])
    // The same event may be looked for by developers, too.
    all.delete("tables.failed D ")
    all.delete("connection.refused D source")
    const listed = new Set(eventsOf().map(({ event, fields, level }) => `${event} ${level} ${fields.join()}`))
    assert.sameMembers([...listed], [...all])
  })

  it("have a name wherever something is logged", () => {
    for (const file of globSync("src/**/*.ts")) {
      if (/LogEvent\.ts$|SessionAudit\.ts$/.test(file)) continue
      assert.notMatch(readFileSync(file, "utf8"), /\bEffect\.log[A-Z]?\w*\(/, file)
      const calls = readFileSync(file, "utf8").match(/\bLogEvent\.(?:debug|info|warning|error)\(/g)?.length ?? 0
      const named =
        readFileSync(file, "utf8").match(/\bLogEvent\.(?:debug|info|warning|error)\(\s*\{\s*event: "/g)?.length ?? 0
      assert.strictEqual(calls, named, file)
    }
  })
})
