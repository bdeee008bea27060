import { assert, describe, it } from "@effect/vitest"
import { Buffer } from "node:buffer"
import * as PgRowText from "../../src/postgres/internal/PgRowText.ts"
import * as PgValues from "../../src/postgres/internal/PgValues.ts"

const { bool, bytea, float8, int4, json, jsonb } = PgValues.id
const [text, numeric, texts, ints, bools, floats, jsons, byteas, boxes, ranges, domains] = [
  25, 1700, 1009, 1007, 1000, 1022, 199, 1001, 1020, 3905, 99_999
]

const many = (part: string, count = 9000) => part.repeat(count)
const list = (part: string, count = 9000) => Array.from({ length: count }, () => part).join(",")

/** Values that are too large to be read at once, as the server writes them. */
const values: ReadonlyArray<readonly [name: string, typeId: number, value: string]> = [
  ["text of control characters", text, many('\u0001\u001f\n\r\t\b\f"\\')],
  ["text of characters of one to four bytes", text, many("aé€😀")],
  ["text whose characters lie across every cut", text, `x${many("€😀")}`],
  ["numeric", numeric, many("9876543210")],
  ["a type that is not built in", domains, many('(1,"a b")')],
  ["bytea as hexadecimal digits", bytea, `\\x${many("00ff10a")}0`],
  ["bytea with escapes", bytea, `${many("a\\\\\\000\\377z")}`],
  ["bytea with an escape at each place", bytea, `b${many("\\001")}`],
  ["json of lists", json, `[${list("1")}]`],
  ["jsonb of objects", jsonb, `[${list('{"a": [true, null, {"b": "é"}]}')}]`],
  ["json on many lines", json, `[\n${list('"a\\n b"\r\n')}\n]`],
  ["json of wide objects", json, `{${Array.from({ length: 9000 }, (_, at) => `"k${at}":${at}`).join(",")}}`],
  ["json whose names are the same when they are read", json, `[${list("1")},{"é":1,"\\u00e9":2}]`],
  ["json whose names differ", json, `[${list("1")},{"é":1,"Ã©":2}]`],
  [
    "json with more members than are kept apart",
    jsonb,
    `{${Array.from({ length: 9000 }, (_, at) => `"k${at}":{}`).join(",")}}`
  ],
  ["json that is a string", json, `"${many("a\\n")}"`],
  ["json that is a string behind spaces", json, `  "${many("a\\n")}"`],
  ["json with a number that JavaScript does not keep", jsonb, `[${list("1")},9007199254740993]`],
  ["json of fractions", json, `[${list("1.50")},1e3,0.1]`],
  ["json that nests deeply", json, `[${list("1")},${"[".repeat(501)}${"]".repeat(501)}]`],
  ["an array of integers", ints, `{${list("-12")},NULL,0}`],
  ["an array of arrays", ints, `{${list("{{1,NULL},{3,4}}", 4000)}}`],
  ["an array whose bounds are told", ints, `[0:8999]={${list("1")}}`],
  ["an array of texts", texts, `{${list('plain,NULL,"NULL","","a \\"b\\" \\\\ {c},d","é😀"')}}`],
  ["an array of one long text", texts, `{"${many('a\\\\\\"é')}",short,${many("plain")}}`],
  ["an array of truths", bools, `{${list("t,f,NULL")}}`],
  ["an array of fractions", floats, `{${list("1.5,NaN,-0,1e+20,Infinity")}}`],
  ["an array of bytea", byteas, `{${list('"\\\\x00ff",NULL,"\\\\x"')},"\\\\x${many("0a")}"}`],
  ["an array of json", jsons, `{${list('"{\\"a\\": [1]}","[1]","\\"a\\"",NULL,null,1')}}`],
  [
    "an array of long json",
    jsons,
    `{"{\\"a\\": [${list("1")}]}","[${list("1")}]","${many(" ", 20_000)}[1]","[9007199254740993,${list("1")}]"}`
  ],
  ["an array of boxes", boxes, `{${Array.from({ length: 9000 }, () => "(1,1),(0,0)").join(";")}}`],
  ["an array of ranges", ranges, `{${list('"[1,2)",empty,NULL,"(,5]"')}}`]
]

const piecesOf = (all: ReadonlyArray<string | null>, typeIds: ReadonlyArray<number>) =>
  Array.from(
    PgRowText.of(
      all.map((value) => (value === null ? null : Buffer.from(value))),
      typeIds
    ),
    Buffer.from
  )

const read = (all: ReadonlyArray<string | null>, typeIds: ReadonlyArray<number>): unknown =>
  JSON.parse(Buffer.concat(piecesOf(all, typeIds)).toString("utf8"))

const decoded = (value: string, typeId: number) => PgValues.decoderOf(typeId)(value)

describe("Q8 a row that is made into JSON piece by piece", () => {
  for (const [name, typeId, value] of values) {
    it(`shows the same value as one that is read at once: ${name}`, () => {
      assert.isAbove(Buffer.byteLength(value), 16 * 1024)
      assert.deepStrictEqual(read([value], [typeId]), [decoded(value, typeId)])
    })
  }

  it("has all its columns, small and large", () => {
    const row = ["1", null, many("x"), "t", "{1,2}", "1.5", many("9"), '{"a":1}', ""]
    const typeIds = [int4, text, text, bool, ints, float8, numeric, jsonb, text]
    assert.deepStrictEqual(read(row, typeIds), [1, null, many("x"), true, [1, 2], 1.5, many("9"), { a: 1 }, ""])
    assert.deepStrictEqual(read([], []), [])
  })

  it("is one line, and no piece is long", () => {
    for (const [name, typeId, value] of values) {
      for (const piece of piecesOf([value, value], [typeId, typeId])) {
        assert.isFalse(piece.includes("\n"), name)
        assert.isBelow(piece.length, 256 * 1024, name)
      }
    }
  })
})
