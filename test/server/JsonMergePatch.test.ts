import { assert, describe, it } from "@effect/vitest"
import type * as Schema from "effect/Schema"
import * as JsonMergePatch from "../../src/server/JsonMergePatch.ts"

type Json = { readonly [key: string]: Schema.Json }
const parse = (text: string): Json => JSON.parse(text)

/** The examples of RFC 7396, appendix A, whose targets and patches are objects. */
const examples = [
  ['{"a":"b"}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'],
  ['{"a":"b"}', '{"a":null}', "{}"],
  ['{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'],
  ['{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'],
  ['{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'],
  ['{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'],
  ['{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'],
  ['{"e":null}', '{"a":1}', '{"e":null,"a":1}'],
  ["{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}']
] as const

describe("JSON merge patch", () => {
  it.each(examples)("RFC 7396: %s patched with %s is %s", (target, patch, result) => {
    assert.strictEqual(JSON.stringify(JsonMergePatch.apply(parse(target), parse(patch))), result)
  })

  it("keys such as __proto__ are plain keys, and no prototype changes", () => {
    const patch = '{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}},"toString":1}'
    const once = JsonMergePatch.apply({}, parse(patch))
    const twice = JsonMergePatch.apply(once, parse(patch))
    assert.strictEqual(JSON.stringify(twice), patch)
    assert.strictEqual(Object.getPrototypeOf(twice), Object.prototype)
    assert.notProperty({}, "admin")
    assert.strictEqual(
      JSON.stringify(JsonMergePatch.apply(twice, parse('{"__proto__":null,"constructor":null}'))),
      '{"toString":1}'
    )
  })

  it("what is patched is not changed", () => {
    const target = parse('{"a":{"b":1}}')
    JsonMergePatch.apply(target, parse('{"a":{"b":2,"c":{"d":3}}}'))
    assert.strictEqual(JSON.stringify(target), '{"a":{"b":1}}')
  })
})
