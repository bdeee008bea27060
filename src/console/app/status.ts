/**
 * The status line: the last thing that happened in the view, in words. Screen readers are told of it.
 */
import { route } from "./router.ts"
import * as Store from "./store.ts"

export interface Status {
  readonly text: string
  readonly kind: "info" | "error"
}

export const status: Store.Store<Status> = Store.make<Status>({ text: "", kind: "info" })

// What was said of one view means nothing in another.
route.subscribe(() => status.set({ text: "", kind: "info" }))

/** Says what happened. */
export const say = (text: string): void => status.set({ text, kind: "info" })

/** Says what went wrong. */
export const sayError = (error: unknown): void =>
  status.set({ text: error instanceof Error ? error.message : String(error), kind: "error" })
