import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as LogEvent from "../../src/lifetime/internal/LogEvent.ts"
import * as LogFormat from "../../src/server/LogFormat.ts"

const nasty = 'a "b"\nlevel=error \u001b[2J\u009b= \u2028'

const said = {
  timestamp: "2026-11-30T02:16:15.103Z",
  level: "warn",
  message: `Words ${nasty}`,
  fields: { event: "login.failed", user: nasty, device: { ip: "192.0.2.1", userAgent: "x y" }, none: undefined },
  cause: "Error: why\n    at somewhere"
}

const control = /[\p{Cc}\u2028\u2029]/u

describe("a line of the log", () => {
  it("is one line in logfmt and JSON, whatever is in it", () => {
    for (const line of [LogFormat.logfmt(said), LogFormat.json(said)]) {
      assert.notInclude(line, "\n")
      assert.notInclude(line, "\u001b")
    }
    assert.notMatch(LogFormat.logfmt(said), control)
    assert.deepStrictEqual(
      JSON.parse(LogFormat.json(said)),
      JSON.parse(JSON.stringify({ ...said, ...said.fields, fields: undefined }))
    )
    assert.strictEqual(
      LogFormat.logfmt({
        ...said,
        message: "A login failed",
        cause: undefined,
        fields: { event: "a.b", n: 1, o: { p: "q r" }, l: [1, "x"] }
      }),
      'timestamp=2026-11-30T02:16:15.103Z level=warn message="A login failed" event=a.b n=1 o.p="q r" l="[1,\\"x\\"]"'
    )
  })

  it("begins with date and level where a person reads it, and moves no cursor", () => {
    const line = LogFormat.pretty(false)(said)
    assert.match(line, /^2026-11-30 02:16:15\.103 WARN {2}Words a "b"\n {4}level=error /)
    assert.notMatch(line.replaceAll("\n", ""), /\p{Cc}/u)
    assert.isTrue(LogFormat.pretty(true)(said).startsWith("\u001b[2m2026"))
  })

  it.effect("has what Effect's logger is told: words, values, annotations and cause", () =>
    Effect.gen(function* () {
      const entries: Array<LogFormat.Entry> = []
      const logger = Logger.map(LogFormat.entry, (entry) => void entries.push(entry))
      yield* LogEvent.warning({ event: "a.b", user: undefined, n: 2 }, "Words", "more", { site: "here" }).pipe(
        Effect.provide(Logger.layer([logger]))
      )
      assert.lengthOf(entries, 1)
      const [entry] = entries
      assert.deepInclude(entry, { level: "warn", message: "Words: more", cause: undefined })
      assert.deepInclude(entry?.fields, { event: "a.b", n: 2, site: "here" })
    })
  )
})
