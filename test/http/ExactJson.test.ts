import { assert, describe, it } from "@effect/vitest"
import * as Schema from "effect/Schema"
import * as JsonText from "../../src/http/internal/JsonText.ts"

describe("JSON that would be changed without a word", () => {
  for (const number of [
    "9007199254740993",
    "-9007199254740993",
    "0.10000000000000000001",
    "1e309",
    "-1e309",
    "1e-400",
    "-0",
    "-0.0",
    "123456789012345678901234567890",
    "1.7976931348623158e308000"
  ]) {
    it(`${number} is refused wherever it stands`, () => {
      for (const [text, path] of [
        [number, ""],
        [`[1, ${number}]`, "[1]"],
        [`{"a":{"b\\u0063":[{},[],${number}]}}`, '["a"]["bc"][2]'],
        [`{"x":[1,2],"a":${number}}`, '["a"]']
      ] as const) {
        assert.isTrue(JsonText.problemOf(text)?.endsWith(`at ${path}`), `${text}: ${JsonText.problemOf(text)}`)
      }
    })
  }

  for (const text of [
    "9007199254740992",
    "0",
    "1.0",
    "100",
    "1e2",
    "1E+2",
    "0.1",
    "1.50",
    "0.000001",
    "1e-7",
    "5e-324",
    "1.7976931348623157e308",
    "10000000000000000000000",
    '"9007199254740993"',
    '{"9007199254740993":"-0"}',
    '{"a":{"a":1},"b":[{"a":1},{"a":1}]}',
    '["a","a",{"b":"a"}]',
    '{"a\\"":1,"a":2}',
    "",
    "{",
    '{"a":"',
    "nonsense",
    "[1.2.3]".slice(0, 1)
  ]) {
    it(`${JSON.stringify(text)} is left alone`, () => assert.isUndefined(JsonText.problemOf(text)))
  }

  it("a name that is there twice is refused, however it is written", () => {
    assert.match(JsonText.problemOf('{"a":{"é":1,"\\u00e9":2}}') ?? "", /each name once\n {2}at \["a"\]\["é"\]$/)
    assert.match(JsonText.problemOf('{"__proto__":1,"__proto__":2}') ?? "", /each name once/)
  })

  it.prop("whatever JSON.stringify writes is left alone", [Schema.Json], ([json]) => {
    assert.isUndefined(JsonText.problemOf(JSON.stringify(json)))
  })
})
