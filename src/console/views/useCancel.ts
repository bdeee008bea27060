/**
 * Cancelling queries from a list or a page.
 */
import { useState } from "preact/hooks"
import * as Queries from "../api/queries.ts"
import { say, sayError } from "../app/status.ts"
import { useWords } from "../text/text.ts"

/** Cancels a query, and says so. */
export const useCancel = () => {
  const words = useWords()
  const [busy, setBusy] = useState<ReadonlySet<string>>(new Set())
  const cancel = async (id: string) => {
    setBusy((all) => new Set(all).add(id))
    await Queries.cancel(id).then(() => say(words.queryCanceled), sayError)
    setBusy((all) => new Set(Array.from(all).filter((one) => one !== id)))
  }
  return { busy, cancel }
}
