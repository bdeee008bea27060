/**
 * The rows of a query as a file, page by page: the browser keeps what is written, and the page no more than ten thousand rows.
 */
import { ask } from "./rows.ts"
import { type Column, type Row, textOf } from "./values.ts"

export const formats = ["csv", "json"] as const
export type Format = (typeof formats)[number]

const pageSize = 10_000

/** RFC 4180; null is nothing, an empty text is two quotes. */
const field = (value: unknown): string => {
  const text = textOf(value)
  return value !== null && (text === "" || /[",\r\n]|^\s|\s$/.test(text)) ? `"${text.replaceAll('"', '""')}"` : text
}
const line = (values: ReadonlyArray<unknown>): string => `${values.map(field).join(",")}\r\n`

/** Names of columns, each once. */
const namesOf = (columns: ReadonlyArray<Column>): ReadonlyArray<string> => {
  const seen = new Map<string, number>()
  return columns.map(({ name }) => {
    const count = (seen.get(name) ?? 0) + 1
    seen.set(name, count)
    return count === 1 ? name : `${name}_${count}`
  })
}

interface Writer {
  readonly type: string
  readonly begin: (columns: ReadonlyArray<Column>) => string
  readonly rows: (rows: ReadonlyArray<Row>, columns: ReadonlyArray<Column>, isFirst: boolean) => string
  readonly end: string
}

const writers: Readonly<Record<Format, Writer>> = {
  csv: {
    type: "text/csv;charset=utf-8",
    begin: (columns) => line(namesOf(columns)),
    rows: (rows) => rows.map(line).join(""),
    end: ""
  },
  json: {
    type: "application/json",
    begin: () => "[\n",
    rows: (rows, columns, isFirst) => {
      const names = namesOf(columns)
      const objects = rows.map((row) => {
        const members = row.map((value, index) => `${JSON.stringify(names[index])}:${JSON.stringify(value)}`)
        return `{${members.join(",")}}`
      })
      return `${isFirst || objects.length === 0 ? "" : ",\n"}${objects.join(",\n")}`
    },
    end: "\n]\n"
  }
}

/** All rows as text, a page at a time. */
async function* pieces(
  id: string,
  total: number,
  writer: Writer,
  told: (rows: number) => void
): AsyncGenerator<string, void> {
  for (let offset = 0; ;) {
    const { columns, rows } = await ask(id, offset, pageSize)
    if (offset === 0) yield writer.begin(columns)
    yield writer.rows(rows, columns, offset === 0)
    offset += rows.length
    told(offset)
    if (rows.length === 0 || offset >= total) break
  }
  yield writer.end
}

/** Saves the rows of a query; tells how far it is. Fails with `CallFailed`. Answers with the name of the file. */
export const save = async (
  id: string,
  total: number,
  format: Format,
  told: (rows: number) => void
): Promise<string> => {
  const writer = writers[format]
  const all = pieces(id, total, writer, told)
  const encoder = new TextEncoder()
  const stream = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull: async (controller) => {
      const { done, value } = await all.next()
      if (done === true) controller.close()
      else controller.enqueue(encoder.encode(value))
    },
    cancel: () => void all.return(undefined)
  })
  const blob = await new Response(stream, { headers: { "content-type": writer.type } }).blob()
  const name = `${id}.${format}`
  const url = URL.createObjectURL(blob)
  const link = document.createElement("a")
  link.href = url
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
  return name
}
