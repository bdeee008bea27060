/**
 * How commands say what they have found: as a table where a person looks, as JSON where a program does.
 */
import * as Console from "effect/Console"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"

/** `--json`, which is the default where standard output is no terminal. */
export const json = Flag.Boolean("json").pipe(
  Flag.withDescription("JSON instead of a table; the default where standard output is no terminal"),
  Flag.withDefault(false)
)

/** A value of a table. */
export type Cell = string | number | boolean | null | undefined
export type Row = Readonly<Record<string, Cell>>

/** What would move a cursor, from names and texts that somebody else chose. */
const printable = (text: string) => text.replace(/\s+/g, " ").replace(/\p{Cc}/gu, "\uFFFD")

const textOf = (cell: Cell): string => (cell === null || cell === undefined ? "" : printable(String(cell)))

/** Of the terminal; some do not know theirs, and say 0. */
export const widthOf = ({ columns }: NodeJS.WriteStream) => (columns >= 40 ? columns : Infinity)

/** Columns in the order of the first row, as wide as what is in them, within the width of the terminal. */
export const table = (rows: ReadonlyArray<Row>, width = Infinity): string => {
  const columns = Object.keys(rows[0] ?? {})
  const lines = [columns, ...rows.map((row) => columns.map((column) => textOf(row[column])))]
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => line[at]?.length ?? 0)))
  return lines
    .map((line) => {
      const text = line
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join("  ")
        .trimEnd()
      return text.length > width ? `${text.slice(0, width - 1)}…` : text
    })
    .join("\n")
}

/** Says rows, or that there are none. */
export const rows = (found: ReadonlyArray<Row>, options: { readonly json: boolean; readonly none: string }) =>
  options.json || !process.stdout.isTTY
    ? Console.log(JSON.stringify(found, undefined, 2))
    : Console.log(found.length === 0 ? options.none : table(found, widthOf(process.stdout)))

/** Says one thing in full. */
export const one = (found: Readonly<Record<string, unknown>>, options: { readonly json: boolean }) =>
  options.json || !process.stdout.isTTY
    ? Console.log(JSON.stringify(found, undefined, 2))
    : Effect.forEach(
        Object.entries(found),
        ([name, value]) =>
          Console.log(
            `${name.padEnd(16)}${printable(typeof value === "string" ? value : (JSON.stringify(value) ?? ""))}`.trimEnd()
          ),
        { discard: true }
      )
