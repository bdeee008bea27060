/**
 * The keys of sessions as an operator writes them: `id:key,id:key`, the first of which encrypts.
 */
import * as Redacted from "effect/Redacted"
import { readFileSync } from "node:fs"
import type * as SessionCipher from "../session/SessionCipher.ts"

/** Reads keys, separated by commas or line ends. Whether they make sense is for `SessionCipher.make` to say. */
export const parse = (text: Redacted.Redacted): ReadonlyArray<SessionCipher.Key> =>
  Redacted.value(text)
    .split(/[,\r\n]+/)
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .map((part) => {
      const at = part.indexOf(":")
      // A key without a name has one that is refused, and is not told.
      return { id: at < 0 ? "" : part.slice(0, at).trim(), secret: Redacted.make(part.slice(at + 1).trim()) }
    })

/** The text of a file; `undefined` where it cannot be read. */
export const read = (path: string): Redacted.Redacted | undefined => {
  try {
    return Redacted.make(readFileSync(path, "utf8"))
  } catch {
    return undefined
  }
}
