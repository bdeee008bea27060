import { assert, describe, it } from "@effect/vitest"
import type { Json } from "effect/Schema"
import * as SnowflakeBody from "../../src/snowflake/internal/SnowflakeBody.ts"
import * as SnowflakeRowText from "../../src/snowflake/internal/SnowflakeRowText.ts"
import * as SnowflakeSql from "../../src/snowflake/internal/SnowflakeSql.ts"
import * as SnowflakeValues from "../../src/snowflake/internal/SnowflakeValues.ts"

/** Of each type: what Snowflake sends, what a row shows, and what is sent back where the type can be bound. */
const values: ReadonlyArray<readonly [type: SnowflakeValues.ColumnType, sent: string, shown: Json, back?: string]> = [
  [{ type: "fixed", precision: 9, scale: 0 }, "-123456789", -123456789, "-123456789"],
  [{ type: "fixed", precision: 10, scale: 0 }, "2147483648", "2147483648", "2147483648"],
  [
    { type: "fixed", precision: 38, scale: 0 },
    "12345678901234567890123456789012345678",
    "12345678901234567890123456789012345678",
    "12345678901234567890123456789012345678"
  ],
  [{ type: "fixed", precision: 5, scale: 2 }, "1.10", "1.10", "1.10"],
  [{ type: "FIXED" }, "1", "1", "1"],
  [{ type: "real" }, "0.1", 0.1, "0.1"],
  [{ type: "real" }, "1e+300", 1e300, "1e+300"],
  [{ type: "real" }, "-0", "-0", "-0"],
  [{ type: "real" }, "inf", "Infinity", "Infinity"],
  [{ type: "real" }, "-inf", "-Infinity", "-Infinity"],
  [{ type: "real" }, "NaN", "NaN", "NaN"],
  [{ type: "boolean" }, "true", true, "true"],
  [{ type: "boolean" }, "0", false, "false"],
  [{ type: "text" }, "", "", ""],
  [{ type: "text" }, "null", "null", "null"],
  [{ type: "date" }, "18262", "2020-01-01", "1577836800000"],
  [{ type: "date" }, "-719162", "0001-01-01", "-62135596800000"],
  [{ type: "date" }, "2932896", "9999-12-31", "253402214400000"],
  [{ type: "time" }, "82919.000000000", "23:01:59", "82919000000000"],
  [{ type: "time" }, "0.000000001", "00:00:00.000000001", "1"],
  [{ type: "timestamp_ntz" }, "1611871901.123456789", "2021-01-28T22:11:41.123456789", "1611871901123456789"],
  [{ type: "timestamp_ntz" }, "-1.500000000", "1969-12-31T23:59:58.5", "-1500000000"],
  [{ type: "timestamp_ntz" }, "-0.000000001", "1969-12-31T23:59:59.999999999", "-1"],
  [{ type: "timestamp_ltz" }, "1611871901.120000000", "2021-01-28T22:11:41.12Z", "1611871901120000000"],
  [
    { type: "timestamp_tz" },
    "1611871901.123456789 960",
    "2021-01-28T14:11:41.123456789-08:00",
    "1611871901123456789 960"
  ],
  [{ type: "timestamp_tz" }, "1611871901 1770", "2021-01-29T03:41:41+05:30", "1611871901000000000 1770"],
  [{ type: "timestamp_tz" }, "0.5 1440", "1970-01-01T00:00:00.5Z", "500000000 1440"],
  [{ type: "binary" }, "00FFa0", "AP+g", "00ffa0"],
  [{ type: "binary" }, "", "", ""],
  [{ type: "variant" }, '{"a":[1,"x",null]}', { a: [1, "x", null] }],
  [{ type: "variant" }, '"1"', '"1"'],
  [{ type: "variant" }, "null", "null"],
  [{ type: "variant" }, "1.2345678901234567890", "1.2345678901234567890"],
  [{ type: "array" }, "[\n  1,\n  undefined\n]", "[\n  1,\n  undefined\n]"],
  [{ type: "object" }, '{"a":1,"a":2}', '{"a":1,"a":2}'],
  [{ type: "geography" }, '{"type":"Point"}', '{"type":"Point"}'],
  [{ type: "decfloat" }, "1.5e-200", "1.5e-200"]
]

describe("values of Snowflake's", () => {
  for (const [type, sent, shown, back] of values) {
    const name = SnowflakeValues.typeName(type)
    it(`${name} ${JSON.stringify(sent)} is ${JSON.stringify(shown)}${back === undefined ? "" : ", and goes back as it came"}`, () => {
      assert.deepStrictEqual(SnowflakeValues.decoderOf(type)(sent), shown)
      if (back === undefined) return
      assert.strictEqual(SnowflakeValues.encode({ type: name, value: shown }).value, back)
    })
  }

  it("what is in no form that is known stays as the server sent it", () => {
    for (const type of [
      "date",
      "time",
      "timestamp_ntz",
      "timestamp_ltz",
      "timestamp_tz",
      "real",
      "boolean",
      "binary"
    ]) {
      assert.strictEqual(SnowflakeValues.decoderOf({ type })("2026-01-02 xyz"), "2026-01-02 xyz")
    }
  })

  it("parameters without a type are what JavaScript has them as", () => {
    const encode = SnowflakeValues.encode
    assert.deepStrictEqual(encode("x"), { type: "TEXT", value: "x" })
    assert.deepStrictEqual(encode(7), { type: "FIXED", value: "7" })
    assert.deepStrictEqual(encode(1.5), { type: "REAL", value: "1.5" })
    assert.deepStrictEqual(encode(-0), { type: "REAL", value: "-0" })
    assert.deepStrictEqual(encode(1e21), { type: "REAL", value: "1e+21" })
    assert.deepStrictEqual(encode(true), { type: "BOOLEAN", value: "true" })
    assert.deepStrictEqual(encode(null), { type: "TEXT", value: null })
    assert.deepStrictEqual(encode({ a: [1] }), { type: "TEXT", value: '{"a":[1]}' })
    assert.deepStrictEqual(encode({ type: "DATE", value: null }), { type: "DATE", value: null })
    assert.deepStrictEqual(encode({ type: "shoe", size: 43 }), { type: "TEXT", value: '{"type":"shoe","size":43}' })
  })
})

const bodyOf = (text: string): SnowflakeBody.Body => {
  const reading = SnowflakeBody.read(Buffer.from(text))
  for (let step = reading.next(); ; step = reading.next()) if (step.done === true) return step.value
}

describe("the rows of an answer", () => {
  const tricky = [
    ['a"]],[["b', "\\", null],
    ["{[", '"data":[[1]]', "é🎉\n"],
    ["", "]", "}"]
  ]

  it("are found wherever they are, whatever is in them and around them", () => {
    const data = JSON.stringify(tricky)
    for (const text of [
      `{"data":${data}}`,
      ` { "message" : "\\"data\\":[[" , "data" : ${data} , "stats":{"data":[[9]]} } `,
      `{"resultSetMetaData":{"data":[["x"]]},"code":"data","data":${JSON.stringify(tricky, undefined, "\t")},"links":["data"]}`
    ]) {
      const body = bodyOf(text)
      assert.strictEqual(body.rows, 3)
      assert.deepStrictEqual(
        body.pieces.flatMap((piece) => SnowflakeBody.rowsOf(body, piece)),
        tricky
      )
      const { data: _, ...rest } = JSON.parse(text)
      assert.deepStrictEqual(JSON.parse(body.head), { ...rest, data: [] })
    }
  })

  it("are none where there are none", () => {
    for (const text of [
      '{"data":[]}',
      '{"code":"x"}',
      "",
      "no json",
      '{"data":null}',
      '{"data":[[',
      '{"data":{"a":[[1]]}}'
    ]) {
      assert.strictEqual(bodyOf(text).rows, 0, text)
    }
  })

  it("are read a few at a time", () => {
    const rows = Array.from({ length: 20_000 }, (_, index) => [String(index), "x".repeat(index % 50)])
    const body = bodyOf(JSON.stringify({ data: rows }))
    assert.strictEqual(body.rows, rows.length)
    assert.isAbove(body.pieces.length, 10)
    assert.isTrue(body.pieces.every(({ from, to }) => to - from < 64 * 1024))
    assert.deepStrictEqual(
      body.pieces.flatMap((piece) => SnowflakeBody.rowsOf(body, piece)),
      rows
    )
  })
})

describe("a row that is too large to be read at once", () => {
  const filler = 'é🎉\n"\\'.repeat(20_000)
  const list = Array.from({ length: 30_000 }, (_, index) => ({
    [`n${index}`]: [index, 1.5e10, null, true, filler.slice(0, 9)]
  }))
  const pretty = JSON.stringify(list, undefined, 2)
  const cells: ReadonlyArray<readonly [type: string, text: string | null]> = [
    ["TEXT", filler],
    ["VARIANT", pretty],
    ["VARIANT", "x"],
    ["TEXT", null],
    ["ARRAY", `[undefined,${pretty}]`],
    ["OBJECT", `{"a":1e400,"b":${pretty}}`],
    ["VARIANT", JSON.stringify(filler)],
    ["BINARY", Buffer.from(filler).toString("hex")],
    ["TIMESTAMP_NTZ", "0.5"],
    ["FIXED", "1".repeat(38)],
    ["GEOGRAPHY", pretty]
  ]
  const columns = cells.map(([type]) => ({ type }))
  const row = cells.map(([, text]) => text)

  it("is the same row, in pieces that are made in little time, with no line break in them", () => {
    const body = bodyOf(JSON.stringify({ data: [["small"], row, ["small"]] }))
    assert.deepStrictEqual(
      body.pieces.map(({ rows }) => rows),
      [1, 1, 1]
    )
    const { from, to } = body.pieces[1] ?? assert.fail()
    const parts = Array.from(SnowflakeRowText.of(body.bytes, from, to, columns), (part) => Buffer.from(part))
    assert.isAbove(parts.length, 100)
    assert.isTrue(parts.every(({ length }) => length <= 100_000))
    const text = Buffer.concat(parts)
    assert.isFalse(text.includes("\n"))
    const plain = cells.map(([type, text]) => (text === null ? null : SnowflakeValues.decoderOf({ type })(text)))
    assert.deepStrictEqual(JSON.parse(text.toString()), plain)
    assert.isArray(plain[1])
    assert.isString(plain[4])
    assert.isString(plain[5])
  })
})

describe("what a statement is, by its first word", () => {
  it("is seen behind comments and brackets, and in doubt it may have committed on the way", () => {
    for (const [sql, command, onlyReads, isUndone] of [
      ["select 1", "SELECT", true, true],
      ["-- a\n/* b */ // c\n ((with x as (select 1) select * from x))", "SELECT", true, true],
      ["with p as procedure () returns int language sql as $$ begin return 1; end $$ call p()", "SELECT", false, false],
      ["show tables ->> select * from $1", "SHOW", false, false],
      ["insert into t values (1)", "INSERT", false, true],
      ["copy into t from @s", "COPY", false, false],
      ["call p()", "CALL", false, false],
      ["begin insert into t values (1); end", "BEGIN", false, false],
      ["create table t (n int)", "CREATE", false, true],
      ["", "", false, false]
    ] as const) {
      assert.deepStrictEqual(
        [SnowflakeSql.commandOf(sql), SnowflakeSql.onlyReads(sql), SnowflakeSql.isUndone(sql)],
        [command, onlyReads, isUndone],
        sql
      )
    }
  })
})
