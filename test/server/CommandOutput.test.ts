/**
 * What commands draw on a terminal: it fits, and what somebody else chose does not disturb it.
 */
import { assert, describe, it } from "@effect/vitest"
import * as CliOutput from "effect/cli/CliOutput"
import * as Output from "../../src/cli/Output.ts"

const linesOf = (rows: ReadonlyArray<Output.Row>, width?: number) => Output.table(rows, width).split("\n")

describe("a table on a terminal", () => {
  const rows = [
    { id: "q_1", state: "Running", error: null, sql: "select\n  1,\t2" },
    { id: "q_10", state: "Failed", error: "", sql: "select 'a report of the year', 2".repeat(9) }
  ]

  it("has a column for what there is, and none for what nobody has", () => {
    assert.deepStrictEqual(linesOf([{ id: "q_1", state: "Running", error: null, rows: 3 }]), [
      "id   state    rows",
      "q_1  Running  3"
    ])
  })

  it("breaks no line on a terminal of any width", () => {
    for (const width of [40, 80, 120]) {
      for (const line of linesOf(rows, width)) assert.isAtMost(CliOutput.displayWidth(line), width)
    }
    assert.strictEqual(linesOf(rows, 80)[1], "q_1   Running  select 1, 2")
    assert.match(linesOf(rows, 80)[2] ?? "", /…$/)
  })

  it("stands straight with letters that are two cells wide, or none", () => {
    const lines = linesOf([
      { user: "山田太郎", age: "1s" },
      { user: "José", age: "2s" }
    ])
    assert.deepStrictEqual(lines, ["user      age", "山田太郎  1s", "José      2s"])
    assert.strictEqual(linesOf([{ sql: "山田太郎" }], 40)[1], "山田太郎")
  })

  it("shows how deep a branch of a tree is", () => {
    const [, ...held] = linesOf([0, 1, 2].map((depth) => ({ held: `${Output.indent(depth)}it`, age: "1s" })))
    assert.deepStrictEqual(
      held.map((line) => /^[\s\u00a0]*/.exec(line)?.[0].length),
      [0, 2, 4]
    )
  })

  it("moves no cursor and turns no line around", () => {
    const [, line = ""] = linesOf([{ sql: "select '\u001b[2J\u202egnp.exe'" }])
    assert.strictEqual(line, "select '\ufffd[2J\ufffdgnp.exe'")
  })

  it("gives times as spans", () => {
    assert.deepStrictEqual([-5, 12, 1_400, 119_000, 600_000, 7_200_000, 86_400_000, 259_200_000].map(Output.span), [
      "0ms",
      "12ms",
      "1s",
      "119s",
      "10m",
      "2h",
      "24h",
      "3d"
    ])
  })
})
