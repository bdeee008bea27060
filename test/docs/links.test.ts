import { assert, describe, it } from "@effect/vitest"
import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join, normalize, relative } from "node:path"

const documents = ["README.md", "CHANGELOG.md", ...globSync("docs/*.md")]

/** Without what is code: nothing in it is a link or a heading. */
const proseOf = (file: string) => readFileSync(file, "utf8").replaceAll(/^```[\s\S]*?^```$/gm, "")

/** As GitHub makes an anchor of a heading, and counts those that are the same. */
const anchorsOf = (file: string): ReadonlySet<string> => {
  const anchors = new Set<string>()
  for (const [, heading = ""] of proseOf(file).matchAll(/^#{1,6} (.+)$/gm)) {
    const text = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, "$1").replaceAll(/[`*]/g, "")
    const anchor = text
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-")
    let own = anchor
    for (let count = 1; anchors.has(own); count++) own = `${anchor}-${count}`
    anchors.add(own)
  }
  return anchors
}

const isOutside = (target: string) => /^[a-z]+:/.test(target)

/** The words of a module outside its comments. */
const wordsOf = (source: string): ReadonlySet<string> =>
  new Set(source.replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "").match(/\w+/g))

describe("links", () => {
  for (const document of documents) {
    it(`of ${document} lead somewhere`, () => {
      const prose = proseOf(document).replaceAll(/`[^`\n]*`/g, "")
      const broken = Array.from(prose.matchAll(/\]\(([^()\s]+)\)/g), ([, target = ""]) => target)
        .filter((target) => !isOutside(target))
        .filter((target) => {
          const [path = "", anchor] = target.split("#")
          const file = path === "" ? document : normalize(join(dirname(document), path))
          if (!existsSync(file)) return true
          return anchor !== undefined && !anchorsOf(file).has(anchor)
        })
      assert.deepStrictEqual(broken, [])
    })
  }

  it("every page is linked from the README or from a page that is", () => {
    const reached = new Set(["README.md", "CHANGELOG.md"])
    for (const page of reached) {
      for (const [, target = ""] of readFileSync(page, "utf8").matchAll(/\]\(([^()\s#]+\.md)(?:#[^()\s]*)?\)/g)) {
        if (!isOutside(target)) reached.add(relative(".", join(dirname(page), target)))
      }
    }
    assert.deepStrictEqual(
      documents.filter((document) => !reached.has(document)),
      []
    )
  })

  it("in docstrings name something that the module declares or imports", () => {
    const broken = globSync("src/**/*.ts").flatMap((file) => {
      const source = readFileSync(file, "utf8")
      const words = wordsOf(source)
      return Array.from(source.matchAll(/\{@link\s+(?:\* )?\s*([\w.]+)/g), ([, target = ""]) => target)
        .filter((target) => !target.split(".").every((word) => words.has(word)))
        .map((target) => `${file}: ${target}`)
    })
    assert.deepStrictEqual(broken, [])
  })
})
