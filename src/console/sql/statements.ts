/**
 * Which statements a text holds, as a server would read them: text between quotes and dollar signs, and comments, end none.
 */

/** A statement, without what is blank around it. Places are UTF-16 units from the start of the text. */
export interface Statement {
  readonly from: number
  readonly to: number
  readonly text: string
}

const dollarTag = /^\$(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/

/** The place behind what begins at `at` and may hold a semicolon. */
const behind = (text: string, at: number): number => {
  const two = text.slice(at, at + 2)
  if (two === "--") {
    const end = text.indexOf("\n", at)
    return end < 0 ? text.length : end + 1
  }
  if (two === "/*") {
    let depth = 1
    for (let place = at + 2; place < text.length; place++) {
      const pair = text.slice(place, place + 2)
      if (pair === "/*") depth++
      else if (pair === "*/") depth--
      else continue
      place++
      if (depth === 0) return place + 1
    }
    return text.length
  }
  const char = text[at]
  if (char === "'" || char === '"' || char === "`") {
    const escapes = char === "'" && /(?:^|[^\w])[eE]$/.test(text.slice(Math.max(0, at - 2), at))
    for (let place = at + 1; place < text.length; place++) {
      if (escapes && text[place] === "\\") place++
      else if (text[place] === char) {
        if (text[place + 1] !== char) return place + 1
        place++
      }
    }
    return text.length
  }
  if (char === "$" && !/\w/.test(text[at - 1] ?? "")) {
    const tag = dollarTag.exec(text.slice(at, at + 64))?.[0]
    if (tag !== undefined) {
      const end = text.indexOf(tag, at + tag.length)
      return end < 0 ? text.length : end + tag.length
    }
  }
  return at + 1
}

/** All statements of a text. */
export const split = (text: string): ReadonlyArray<Statement> => {
  const found: Array<Statement> = []
  const add = (from: number, to: number) => {
    const part = text.slice(from, to)
    const lead = part.length - part.trimStart().length
    const trimmed = part.trim()
    if (trimmed !== "") found.push({ from: from + lead, to: from + lead + trimmed.length, text: trimmed })
  }
  let from = 0
  for (let at = 0; at < text.length;) {
    if (text[at] === ";") {
      add(from, at)
      from = ++at
    } else at = behind(text, at)
  }
  add(from, text.length)
  return found
}

/** The statement that the cursor is in, or that is before it; the first where there is none before. */
export const indexAt = (all: ReadonlyArray<Statement>, cursor: number): number => {
  const within = all.findLastIndex(({ from }) => from <= cursor)
  return all.length === 0 ? -1 : Math.max(0, within)
}

/** The place of the character with this number, counted from 1 as a server counts, in UTF-16 units from the start. */
export const placeOf = (text: string, position: number): number => {
  let place = 0
  for (let left = position - 1; left > 0 && place < text.length; left--) {
    place += (text.codePointAt(place) ?? 0) > 0xffff ? 2 : 1
  }
  return place
}
