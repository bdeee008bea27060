/**
 * How commands say what they have found: as a table where a person looks, as JSON where a program does.
 */
import * as Console from "effect/Console"
import * as CliOutput from "effect/cli/CliOutput"
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

/** A space that begins a text and stays, such as those of a tree. */
export const indent = (depth: number) => "\u00a0\u00a0".repeat(depth)

/** What would move a cursor or turn a line around, from names and texts that somebody else chose. */
const printable = (text: string) => text.replace(/[^\S\u00a0]+/g, " ").replace(/[\p{Cc}\p{Bidi_Control}]/gu, "\uFFFD")

const textOf = (cell: Cell): string => (cell === null || cell === undefined ? "" : printable(String(cell)))

/** Of the terminal; some do not know theirs, and say 0. */
export const widthOf = ({ columns }: NodeJS.WriteStream) => (columns >= 40 ? columns : Infinity)

const letters = new Intl.Segmenter(undefined, { granularity: "grapheme" })

/** The beginning of a text that is too wide. */
const cut = (text: string, width: number): string => {
  if (CliOutput.displayWidth(text) <= width) return text
  let kept = ""
  let left = width - 1
  for (const { segment } of letters.segment(text)) {
    left -= CliOutput.displayWidth(segment)
    if (left < 0) break
    kept += segment
  }
  return `${kept}…`
}

const pad = (text: string, width: number) => `${text}${" ".repeat(Math.max(0, width - CliOutput.displayWidth(text)))}`

/** A column has no more than half of the terminal, or what an id and a word before it need. */
const widest = (width: number) => Math.max(56, Math.floor(width / 2))

/** Columns in the order of the first row, as wide as what is in them, within the width of the terminal; none that is empty. */
export const table = (rows: ReadonlyArray<Row>, width = Infinity): string => {
  const columns = Object.keys(rows[0] ?? {}).filter((column) => rows.some((row) => textOf(row[column]) !== ""))
  const lines = [columns, ...rows.map((row) => columns.map((column) => textOf(row[column])))].map((line) =>
    line.map((cell, at) => (at === columns.length - 1 ? cell : cut(cell, widest(width))))
  )
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => CliOutput.displayWidth(line[at] ?? ""))))
  return lines
    .map((line) =>
      cut(
        line
          .map((cell, at) => pad(cell, widths[at] ?? 0))
          .join("  ")
          .trimEnd(),
        width
      )
    )
    .join("\n")
}

/** Milliseconds as a person reads them: milliseconds, seconds, minutes, hours or days, as few figures as will do. */
export const span = (millis: number): string => {
  const seconds = Math.max(0, millis) / 1000
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`
  if (seconds < 120) return `${Math.round(seconds)}s`
  if (seconds < 7200) return `${Math.round(seconds / 60)}m`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)}h` : `${Math.round(seconds / 86_400)}d`
}

/** Says rows, or that there are none; a person may see them in other words, such as times as spans. */
export const rows = (
  found: ReadonlyArray<Row>,
  options: { readonly json: boolean; readonly none: string; readonly shown?: ReadonlyArray<Row> }
) =>
  options.json || !process.stdout.isTTY
    ? Console.log(JSON.stringify(found, undefined, 2))
    : Console.log(found.length === 0 ? options.none : table(options.shown ?? found, widthOf(process.stdout)))

/** Says one thing in full. */
export const one = (found: Readonly<Record<string, unknown>>, options: { readonly json: boolean }) =>
  options.json || !process.stdout.isTTY
    ? Console.log(JSON.stringify(found, undefined, 2))
    : Effect.forEach(
        Object.entries(found),
        ([name, value]) => {
          const text = value === null || typeof value !== "object" ? textOf(value as Cell) : JSON.stringify(value)
          return Console.log(`${name.padEnd(16)}${printable(text)}`.trimEnd())
        },
        { discard: true }
      )
