import { assert, describe, it } from "@effect/vitest"
import { DataType, type Table, tableFromIPC } from "apache-arrow"
import { batch, end, NoPlace, schema } from "../../src/console/grid/arrow.ts"
import { parse } from "../../src/console/grid/values.ts"

const read = (types: ReadonlyArray<string>, ...pages: ReadonlyArray<string>): Table => {
  const columns = types.map((type, index) => ({ name: `${type} ${index}`, type }))
  const names = columns.map(({ name }) => name)
  const batches = pages.map((rows) => batch(columns, parse(`{"columns":[],"rows":${rows},"next":null}`).rows))
  return tableFromIPC([schema(columns, names), ...batches, end])
}
const valuesOf = (table: Table) => table.schema.fields.map((_, index) => [...(table.getChildAt(index) ?? [])])

describe("rows as a stream of Arrow", () => {
  it("have the types of Arrow that hold them exactly, and are text where none does", () => {
    const names =
      "bool int2 int4 oid int8 float4 float8 bytea date timestamp timestamptz numeric text jsonb int8[] constructor"
    assert.deepStrictEqual(
      read(names.split(" "), "[]").schema.fields.map(
        ({ name, nullable, type }) => `${name}: ${String(type)} ${nullable}`
      ),
      [
        "bool 0: Bool true",
        "int2 1: Int16 true",
        "int4 2: Int32 true",
        "oid 3: Uint32 true",
        "int8 4: Int64 true",
        "float4 5: Float32 true",
        "float8 6: Float64 true",
        "bytea 7: Binary true",
        "date 8: Date32<DAY> true",
        "timestamp 9: Timestamp<MICROSECOND> true",
        "timestamptz 10: Timestamp<MICROSECOND, UTC> true",
        "numeric 11: Utf8 true",
        "text 12: Utf8 true",
        "jsonb 13: Utf8 true",
        "int8[] 14: Utf8 true",
        "constructor 15: Utf8 true"
      ]
    )
  })

  it("keep every value, over several batches", () => {
    const table = read(
      ["int8", "float8", "numeric", "bool", "bytea", "jsonb"],
      `[["9223372036854775807",1.5,"1.10",true,"AP8=","\\"ä😀\\""],["-9223372036854775808","-0","NaN",false,"",{"a":[1]}]]`,
      `[[null,null,null,null,null,null],["0","NaN","",true,"QQ==","null"],["1","-Infinity","-1e400",null,null,true]]`
    )
    assert.strictEqual(table.batches.length, 2)
    assert.deepStrictEqual(valuesOf(table), [
      [9223372036854775807n, -9223372036854775808n, null, 0n, 1n],
      [1.5, -0, null, Number.NaN, -Infinity],
      ["1.10", "NaN", null, "", "-1e400"],
      [true, false, null, true, null],
      [new Uint8Array([0, 255]), new Uint8Array(), null, new Uint8Array([65]), null],
      ['"ä😀"', '{"a":[1]}', null, "null", "true"]
    ])
  })

  it("keep moments to the microsecond, in UTC where they have an offset", () => {
    const table = read(
      ["timestamptz", "timestamp", "date"],
      `[["2026-01-02T03:04:05.678901+05:30","0001-01-01T00:00:00","2024-02-29"],["1969-12-31T23:59:59.999999Z","9999-12-31T23:59:59.999999","1969-12-31"]]`
    )
    const micros = (index: number) => Array.from(table.getChildAt(index)?.data[0]?.values as Iterable<bigint | number>)
    assert.deepStrictEqual(micros(0), [BigInt(Date.UTC(2026, 0, 1, 21, 34, 5, 678)) * 1000n + 901n, -1n])
    assert.deepStrictEqual(micros(1), [
      BigInt(Date.parse("0001-01-01T00:00:00Z")) * 1000n,
      BigInt(Date.parse("9999-12-31T23:59:59.999Z")) * 1000n + 999n
    ])
    assert.deepStrictEqual(micros(2), [Date.parse("2024-02-29") / 86_400_000, -1])
    assert.isTrue(DataType.isTimestamp(table.getChildAt(0)?.type))
  })

  it("are refused where Arrow has no such value, and the error says which and what to do", () => {
    for (const [type, value] of [
      ["timestamptz", '"infinity"'],
      ["timestamp", '"0044-03-15 00:00:00 BC"'],
      ["timestamp", '"2026-02-30T00:00:00"'],
      ["date", '"29.02.2024"'],
      ["int8", '"9223372036854775808"'],
      ["int4", "1.5"],
      ["float8", '"many"'],
      ["bool", '"yes"']
    ] as const) {
      assert.throws(() => read([type], `[[${value}]]`), NoPlace, "Select the column as text, or save as CSV or JSON.")
    }
  })

  it("may be of any number: none, and more than one byte of bits", () => {
    assert.strictEqual(read(["int4"], "[]").numRows, 0)
    const rows = Array.from({ length: 1001 }, (_, n) => [n % 3 === 0 ? null : n, n % 2 === 0])
    const table = read(["int4", "bool"], JSON.stringify(rows), JSON.stringify(rows))
    assert.strictEqual(table.numRows, 2002)
    const both = [...rows, ...rows]
    assert.deepStrictEqual(valuesOf(table), [both.map(([n]) => n), both.map(([, isEven]) => isEven)])
  })
})
