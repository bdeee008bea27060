/**
 * What a program outside can import: every module that `exports` of package.json leaves open, and the names it exports, read
 * off the sources.
 */
import { globSync, readFileSync } from "node:fs"
import * as Path from "node:path"

export interface PublicModule {
  /** As a program imports it. */
  readonly specifier: string
  readonly file: string
  /** The names in the order of the alphabet, each with its kinds: `class`, `const`, `interface`, `namespace`, `type`. */
  readonly names: ReadonlyArray<{ readonly name: string; readonly kinds: ReadonlyArray<string> }>
}

const root = Path.join(import.meta.dirname, "../..")

interface Manifest {
  readonly name: string
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>> | string | null>>
}
const manifest: Manifest = JSON.parse(readFileSync(Path.join(root, "package.json"), "utf8"))

/** The entry of `exports` that Node takes for a subpath: the exact one, else the longest with a star. */
const entryOf = (subpath: string) => {
  if (subpath in manifest.exports) return manifest.exports[subpath]
  const pattern = Object.keys(manifest.exports)
    .filter((key) => key.endsWith("*") && subpath.startsWith(key.slice(0, -1)))
    .toSorted((left, right) => right.length - left.length)[0]
  return pattern === undefined ? null : manifest.exports[pattern]
}

const declaration =
  /^export (?:declare )?(?:(?:abstract )?(class|const|enum|function|interface|namespace|type) (\w+)|\* as (\w+) from |(type )?\{([^}]*)\})/

const namesOf = (file: string): PublicModule["names"] => {
  const names = new Map<string, Set<string>>()
  const add = (name: string, kind: string) => names.set(name, (names.get(name) ?? new Set()).add(kind))
  const source = readFileSync(Path.join(root, "src", file), "utf8")
  for (const statement of source.split(/^(?=export\b)/m).slice(1)) {
    const [, kind, name, namespace, isType, list] = declaration.exec(statement) ?? []
    if (kind !== undefined && name !== undefined) add(name, kind)
    else if (namespace !== undefined) add(namespace, "namespace")
    else if (list !== undefined) {
      for (const part of list.split(",").map((part) => part.trim())) {
        const type = isType !== undefined || part.startsWith("type ")
        if (part !== "") add(part.replace(/^type /, "").replace(/^.* as /, ""), type ? "type" : "const")
      }
    } else throw new Error(`src/${file}: what does this export? ${statement.split("\n")[0]}`)
  }
  return Array.from(names, ([name, kinds]) => ({ name, kinds: Array.from(kinds).toSorted() })).toSorted(
    (left, right) => (left.name < right.name ? -1 : 1)
  )
}

/** All of them, the package's own name first. */
export const publicModules = (): ReadonlyArray<PublicModule> =>
  globSync("**/*.ts", { cwd: Path.join(root, "src") })
    .map((file) => file.replaceAll("\\", "/"))
    .map((file) => ({ file, subpath: file === "index.ts" ? "." : `./${file.slice(0, -".ts".length)}` }))
    .filter(({ subpath }) => entryOf(subpath) !== null)
    .map(({ file, subpath }) => ({ specifier: manifest.name + subpath.slice(1), file, names: namesOf(file) }))
    .toSorted((left, right) => (left.specifier < right.specifier ? -1 : 1))
