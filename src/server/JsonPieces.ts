/**
 * JSON of values that a user can make long, piece by piece, so that no turn of the event loop and no memory is as large as the
 * value.
 */
import type * as Schema from "effect/Schema"

/** Characters that one piece is made of. */
const pieceLength = 32 * 1024

/** The place up to `end` that is not within a surrogate pair. */
const wholeUpTo = (text: string, end: number): number =>
  end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800 ? end - 1 : end

function* string(text: string): Generator<string, void> {
  yield '"'
  for (let at = 0; at < text.length;) {
    const end = wholeUpTo(text, Math.min(at + pieceLength, text.length))
    yield JSON.stringify(text.slice(at, end)).slice(1, -1)
    at = end
  }
  yield '"'
}

/** The JSON of an object whose members are short, but for those that are long strings. */
export function* ofObject(value: Schema.JsonObject): Generator<string, void> {
  let begun = "{"
  for (const [name, member] of Object.entries(value)) {
    begun += `${begun === "{" ? "" : ","}${JSON.stringify(name)}:`
    if (typeof member !== "string" || member.length <= pieceLength) begun += JSON.stringify(member)
    else {
      yield begun
      yield* string(member)
      // A member has been written, so that a comma comes next.
      begun = " "
    }
  }
  yield `${begun}}`
}

/** The JSON of a list whose items are made when their turn comes. */
export function* ofList<A>(items: Iterable<A>, item: (item: A) => Schema.JsonObject): Generator<string, void> {
  let begun = "["
  for (const each of items) {
    yield begun
    yield* ofObject(item(each))
    begun = ","
  }
  yield begun === "[" ? "[]" : "]"
}
