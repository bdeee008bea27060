/**
 * Whether the texts of a function are short enough, and can be stored as they came.
 */
import * as Effect from "effect/Effect"
import { Buffer } from "node:buffer"
import { FunctionError, FunctionTooLarge, ScriptInvalid } from "../FunctionError.ts"

/** Fails with `FunctionTooLarge` where a text has more bytes in UTF-8. */
export const bounded = (what: FunctionTooLarge["what"], text: string, limitBytes: number) =>
  // A character has three bytes at most.
  text.length * 3 > limitBytes && Buffer.byteLength(text) > limitBytes
    ? Effect.fail(new FunctionError({ reason: new FunctionTooLarge({ what, limitBytes }) }))
    : Effect.void

/** PostgreSQL has no NUL in a text, and UTF-8 no half of a surrogate pair. */
const isStorable = (text: string) => text.isWellFormed() && !text.includes("\0")

/** Looks at the texts of a function to be. */
export const check = (
  texts: { readonly script: string; readonly context: string; readonly title: string },
  limits: { readonly scriptBytes: number; readonly contextBytes: number }
) => {
  const odd = Object.entries(texts).find(([, text]) => !isStorable(text))
  if (odd !== undefined) {
    const problem = `its ${odd[0]} has the character NUL or half a surrogate pair. Write it as an escape.`
    return Effect.fail(new FunctionError({ reason: new ScriptInvalid({ problem }) }))
  }
  return Effect.andThen(
    bounded("script", texts.script, limits.scriptBytes),
    bounded("context", texts.context, limits.contextBytes)
  )
}
