/**
 * Which view is shown: the part of the address behind `#`, so that a reload and the browser's back find it again.
 */
import type { Readable } from "./store.ts"

export const views = ["sql", "queries", "functions", "sessions", "holdings"] as const
export type View = (typeof views)[number]

export interface Route {
  readonly view: View
  /** What of the view, such as the id of a query. */
  readonly id: string | null
}

const isView = (text: string): text is View => views.some((view) => view === text)

const read = (): Route => {
  const [view = "", id] = location.hash.replace(/^#\/?/, "").split("/")
  return { view: isView(view) ? view : "sql", id: id === undefined || id === "" ? null : decodeURIComponent(id) }
}

let now = read()
const listeners = new Set<() => void>()
addEventListener("hashchange", () => {
  now = read()
  for (const listener of listeners) listener()
})

export const route: Readable<Route> = {
  get: () => now,
  subscribe: (listener) => {
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }
}

/** The address of a view. */
export const linkTo = (view: View, id?: string): string =>
  id === undefined ? `#/${view}` : `#/${view}/${encodeURIComponent(id)}`

export const goTo = (view: View, id?: string): void => {
  location.hash = linkTo(view, id)
}
