import { assert, describe, it } from "@effect/vitest"
import { parse, textOf } from "../../src/console/grid/values.ts"
import { indexAt, placeOf, split } from "../../src/console/sql/statements.ts"

const page = (value: string) => parse(`{"columns":[],"rows":[[${value}]],"next":null}`).rows[0]?.[0]

describe("values of a grid", () => {
  it("are shown and saved with the digits that came", () => {
    for (const text of [
      "9007199254740993",
      "1.10",
      "1e400",
      "-0",
      "0.1",
      "123456789012345678901234567890",
      "1.5e-7",
      "100"
    ]) {
      assert.strictEqual(textOf(page(text)), text)
    }
    assert.strictEqual(JSON.stringify(page('{"a":[9007199254740993,1e400]}')), '{"a":[9007199254740993,1e400]}')
    assert.strictEqual(textOf(page('"<b>&amp;"')), "<b>&amp;")
    assert.strictEqual(textOf(page("null")), "")
  })
})

describe("statements of a text", () => {
  it("end at a semicolon, and not within quotes, dollar signs and comments", () => {
    const text = `select ';' as "a;b"; -- c;d
      /* e; /* f; */ g; */ select $x$ ; $$ $x$, E'\\';', 'it''s;';
      do $$ begin raise notice 'a;'; end $$; select 1`
    assert.deepStrictEqual(
      split(text).map(({ text }) => text.replaceAll(/\s+/g, " ")),
      [
        `select ';' as "a;b"`,
        `-- c;d /* e; /* f; */ g; */ select $x$ ; $$ $x$, E'\\';', 'it''s;'`,
        "do $$ begin raise notice 'a;'; end $$",
        "select 1"
      ]
    )
    for (const { from, text: found, to } of split(text)) assert.strictEqual(text.slice(from, to), found)
    assert.deepStrictEqual(split(" ;; \n;"), [])
    assert.deepStrictEqual(
      split("select 'never ends; select 2").map(({ text }) => text),
      ["select 'never ends; select 2"]
    )
  })

  it("are chosen by the cursor: the one that it is in, or that is before it", () => {
    const all = split("select 1;\n\nselect 2;\n")
    assert.deepStrictEqual(
      [0, 8, 9, 10, 11, 15, 21].map((cursor) => indexAt(all, cursor)),
      [0, 0, 0, 0, 1, 1, 1]
    )
    assert.strictEqual(indexAt([], 0), -1)
  })

  it("have their characters counted as a server counts them", () => {
    assert.deepStrictEqual(
      [1, 2, 3, 4].map((position) => placeOf("😀a😀b", position)),
      [0, 2, 3, 5]
    )
  })
})
