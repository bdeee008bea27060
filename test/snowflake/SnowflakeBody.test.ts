/** Rows are found and read as JSON says, in whatever form the server writes them. */
import { assert, describe, it } from "@effect/vitest"
import { Buffer } from "node:buffer"
import * as SnowflakeBody from "../../src/snowflake/internal/SnowflakeBody.ts"

const bodyOf = (rows: string): SnowflakeBody.Body => {
  const reading = SnowflakeBody.read(Buffer.from(`{"data":${rows},"more":1}`))
  for (;;) {
    const step = reading.next()
    if (step.done === true) return step.value
  }
}

const rowsOf = (rows: string) => {
  const body = bodyOf(rows)
  return body.pieces.flatMap((piece) => SnowflakeBody.rowsOf(body, piece))
}

describe("the rows of an answer", () => {
  for (const rows of [
    `[["a",null,"b"],["","null",null]]`,
    String.raw`[["a\n","é","\"],["],["\\","\u2028"]]`,
    ` [ [ "a" , null ] ,\n ["x"] ] `,
    `[["[]","],["],["],[","],"]]`,
    `[[null]]`,
    `[[]]`,
    `[]`
  ]) {
    it(`are those of ${JSON.stringify(rows)}`, () => {
      assert.deepStrictEqual(rowsOf(rows), JSON.parse(rows))
    })
  }

  it("are those of many pieces, and nothing is left of their bytes once they are released", () => {
    const rows = Array.from({ length: 5000 }, (_, index) => [String(index), `a customer ${index}`, null])
    const text = JSON.stringify(rows)
    assert.isAbove(bodyOf(text).pieces.length, 3)
    assert.deepStrictEqual(rowsOf(text), rows)
    const body = bodyOf(text)
    SnowflakeBody.release(body)
    assert.isTrue(body.bytes.length === 0 || body.bytes.buffer.byteLength > body.bytes.length)
  })

  for (const rows of [`[["a",]]`, `[["a" "b"]]`, `[["a"]["b"]]`, `[["a\nb"]]`, `[["a"],,["b"]]`, `[[nul]]`]) {
    it(`cannot be read in ${JSON.stringify(rows)}`, () => {
      assert.throws(() => rowsOf(rows), SyntaxError)
    })
  }
})
