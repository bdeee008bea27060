import { assert, describe, it } from "@effect/vitest"
import { globSync, readFileSync } from "node:fs"

const region = (file: string, name: string): string => {
  const lines = readFileSync(file, "utf8").split("\n")
  const begin = lines.indexOf(`// #region ${name}`)
  const end = lines.indexOf("// #endregion", begin)
  if (begin < 0 || end < 0) throw new Error(`${file} has no region ${name}`)
  return lines.slice(begin + 1, end).join("\n")
}

describe("code in the documents", () => {
  for (const document of ["README.md", ...globSync("docs/*.md")]) {
    const text = readFileSync(document, "utf8")
    for (const [, file = "", name = "", code] of text.matchAll(
      /<!-- region (\S+)#(\S+) -->\n\n```ts\n([\s\S]*?)```/g
    )) {
      it(`${document} shows ${file}#${name} as it is`, () => {
        assert.strictEqual(code, `${region(file, name)}\n`)
      })
    }

    it(`${document} shows no TypeScript that is not run`, () => {
      const fences = text.match(/^```ts/gm)?.length ?? 0
      const regions = text.match(/<!-- region \S+ -->\n\n```ts/g)?.length ?? 0
      assert.strictEqual(fences, regions)
    })
  }
})
