/**
 * The rows of a query, as far as they are looked at.
 *
 * A source lives as long as the grid that shows it. It asks for pages by their place and keeps those that were looked at last, so that
 * a million rows take no more room than ten thousand.
 */
import { json } from "../api/queries.ts"
import { type Column, type Page, parse, type Row } from "./values.ts"

/** Asks for rows of a query. */
export const ask = async (id: string, offset: number, limit: number, signal?: AbortSignal): Promise<Page> =>
  parse(
    await (
      await json(`/queries/${id}/rows?offset=${offset}&limit=${limit}`, signal === undefined ? {} : { signal })
    ).text()
  )

const pageSize = 200
const keptPages = 50

export interface RowSource {
  readonly id: string
  readonly total: number
  readonly columns: ReadonlyArray<Column>
  /** Undefined while it is on its way. */
  readonly row: (index: number) => Row | undefined
  /** Asks for what is not there. */
  readonly want: (from: number, to: number) => void
  readonly subscribe: (listener: () => void) => () => void
  readonly problem: () => string
  readonly close: () => void
}

/** Asks for the first rows, and is ready then. Fails with `CallFailed`. */
export const open = async (id: string, total: number): Promise<RowSource> => {
  const first = await ask(id, 0, pageSize)
  const pages = new Map<number, ReadonlyArray<Row>>()
  const asked = new Set<number>()
  const listeners = new Set<() => void>()
  const halt = new AbortController()
  let problem = ""

  const changed = () => {
    for (const listener of listeners) listener()
  }
  const keep = (page: number, rows: ReadonlyArray<Row>) => {
    pages.delete(page)
    pages.set(page, rows)
    for (const oldest of pages.keys()) {
      if (pages.size <= keptPages) break
      pages.delete(oldest)
    }
  }
  // A page that is long in bytes ends early: the rest of it is asked for.
  const fill = async (page: number) => {
    const rows: Array<Row> = page === 0 ? Array.from(first.rows) : []
    const wanted = Math.min(pageSize, total - page * pageSize)
    while (rows.length < wanted) {
      const more = await ask(id, page * pageSize + rows.length, wanted - rows.length, halt.signal)
      if (more.rows.length === 0) break
      rows.push(...more.rows)
    }
    keep(page, rows)
  }
  const load = async (page: number) => {
    asked.add(page)
    try {
      await fill(page)
      problem = ""
    } catch (error) {
      if (halt.signal.aborted) return
      problem = error instanceof Error ? error.message : String(error)
    }
    asked.delete(page)
    changed()
  }
  keep(0, first.rows)
  if (first.rows.length < Math.min(pageSize, total)) void load(0)

  return {
    id,
    total,
    columns: first.columns,
    row: (index) => pages.get(Math.floor(index / pageSize))?.[index % pageSize],
    want: (from, to) => {
      for (let page = Math.floor(from / pageSize); page <= Math.floor(Math.max(from, to - 1) / pageSize); page++) {
        const rows = pages.get(page)
        if (rows !== undefined) keep(page, rows)
        else if (!asked.has(page) && page * pageSize < total && problem === "") void load(page)
      }
    },
    subscribe: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    problem: () => problem,
    close: () => halt.abort()
  }
}
