/**
 * The rows of a query as a file, page by page: the browser keeps what is written, and the page no more than ten thousand rows.
 *
 * A browser that can write a file as it comes does so with many rows (File System Access, `showSaveFilePicker`); any other collects
 * the pieces outside of the page, as a `Blob`, and saves them at the end.
 */
import { ask } from "./rows.ts"
import { type Column, type Row, textOf } from "./values.ts"

export const formats = ["csv", "json", "arrow"] as const
export type Format = (typeof formats)[number]

const pageSize = 10_000
/** From so many rows on, the file is written as it comes. */
const many = 50_000

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

type Piece = Uint8Array<ArrayBuffer>
interface Writer {
  readonly extension: string
  readonly type: string
  readonly begin: (columns: ReadonlyArray<Column>) => Piece
  readonly rows: (rows: ReadonlyArray<Row>, columns: ReadonlyArray<Column>, isFirst: boolean) => Piece
  readonly end: Piece
}

const encoder = new TextEncoder()

const csv: Writer = {
  extension: "csv",
  type: "text/csv",
  begin: (columns) => encoder.encode(line(namesOf(columns))),
  rows: (rows) => encoder.encode(rows.map(line).join("")),
  end: new Uint8Array()
}

const json: Writer = {
  extension: "json",
  type: "application/json",
  begin: () => encoder.encode("[\n"),
  rows: (rows, columns, isFirst) => {
    const names = namesOf(columns)
    const objects = rows.map((row) => {
      const members = row.map((value, index) => `${JSON.stringify(names[index])}:${JSON.stringify(value)}`)
      return `{${members.join(",")}}`
    })
    return encoder.encode(`${isFirst || objects.length === 0 ? "" : ",\n"}${objects.join(",\n")}`)
  },
  end: encoder.encode("\n]\n")
}

/** Each format's writer; that of Arrow is loaded when somebody asks for it. */
const writers: Readonly<Record<Format, () => Promise<Writer>>> = {
  csv: () => Promise.resolve(csv),
  json: () => Promise.resolve(json),
  arrow: async () => {
    const { batch, end, schema } = await import("./arrow.ts")
    return {
      // The name and the type that are registered for the streaming format.
      extension: "arrows",
      type: "application/vnd.apache.arrow.stream",
      begin: (columns) => schema(columns, namesOf(columns)),
      rows: (rows, columns) => batch(columns, rows),
      end
    }
  }
}

/** All rows, a page at a time. */
const streamOf = (id: string, total: number, writer: Writer, told: (rows: number) => void): ReadableStream<Piece> => {
  let offset = -1
  return new ReadableStream<Piece>(
    {
      pull: async (controller) => {
        const { columns, rows } = await ask(id, Math.max(0, offset), pageSize)
        if (offset === -1) controller.enqueue(writer.begin(columns))
        controller.enqueue(writer.rows(rows, columns, offset === -1))
        offset = Math.max(0, offset) + rows.length
        told(offset)
        if (rows.length > 0 && offset < total) return
        controller.enqueue(writer.end)
        controller.close()
      }
    },
    { highWaterMark: 0 }
  )
}

type Picker = (options: {
  readonly suggestedName: string
  readonly types: ReadonlyArray<{ readonly accept: Readonly<Record<string, ReadonlyArray<string>>> }>
}) => Promise<FileSystemFileHandle>

/** Saves the rows of a query; tells how far it is. Fails with `CallFailed`. Answers with the name of the file, or nothing if no place was chosen. */
export const save = async (
  id: string,
  total: number,
  format: Format,
  told: (rows: number) => void
): Promise<string | undefined> => {
  const writer = await writers[format]()
  const name = `${id}.${writer.extension}`
  const all = streamOf(id, total, writer, told)
  const { showSaveFilePicker: pick } = globalThis as { readonly showSaveFilePicker?: Picker }
  if (pick !== undefined && total >= many) {
    const accept = { [writer.type]: [`.${writer.extension}`] }
    const file = await pick({ suggestedName: name, types: [{ accept }] }).catch((error: unknown) => {
      if (error instanceof DOMException && error.name === "AbortError") return undefined
      throw error
    })
    // What was written so far is not kept if a page fails: the file is there when all of it is.
    if (file !== undefined) await all.pipeTo(await file.createWritable())
    return file?.name
  }
  const blob = await new Response(all, { headers: { "content-type": writer.type } }).blob()
  const url = URL.createObjectURL(blob)
  const link = document.createElement("a")
  link.href = url
  link.download = name
  link.click()
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
  return name
}
