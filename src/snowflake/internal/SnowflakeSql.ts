/**
 * What the first word of a statement tells about it, with the benefit of doubt never given: the server does not tell more.
 */

const space = /\s+/y
const lineComment = /(?:--|\/\/)[^\n\r]*/y
const blockComment = /\/\*[\s\S]*?(?:\*\/|$)/y
const word = /[a-z]+/iy
const skipped = [space, lineComment, blockComment, /[(;]/y]

/** In capitals, without what may stand in front of it; empty where there is none. */
export const firstWord = (sql: string): string => {
  for (let at = 0; at < sql.length;) {
    const found = skipped.find((pattern) => {
      pattern.lastIndex = at
      return pattern.test(sql)
    })
    if (found === undefined) {
      word.lastIndex = at
      return (word.exec(sql)?.[0] ?? "").toUpperCase()
    }
    at = found.lastIndex
  }
  return ""
}

const reads: ReadonlySet<string> = new Set([
  "SELECT",
  "WITH",
  "VALUES",
  "TABLE",
  "SHOW",
  "DESCRIBE",
  "DESC",
  "EXPLAIN",
  "LIST",
  "LS"
])

/** Statements that are one transaction: what fails of them is undone. A script, a procedure or a copy may have committed on the way. */
const undone: ReadonlySet<string> = new Set([
  ...reads,
  ..."INSERT UPDATE DELETE MERGE TRUNCATE CREATE ALTER DROP UNDROP GRANT REVOKE COMMENT SET UNSET USE".split(" ")
])

/** An anonymous procedure (`WITH … AS PROCEDURE … CALL`), or a chain of statements (`->>`). */
const mayBeMore = /\bprocedure\b|->>/i

/** Whether nothing can be lost when the rows of a statement are. */
export const onlyReads = (sql: string): boolean => reads.has(firstWord(sql)) && !mayBeMore.test(sql)

/** Whether all of a statement is undone when it fails. False where that is not certain. */
export const isUndone = (sql: string): boolean => {
  const first = firstWord(sql)
  return undone.has(first) && !(reads.has(first) && mayBeMore.test(sql)) && !sql.includes("->>")
}

const names: Readonly<Record<string, string>> = {
  WITH: "SELECT",
  VALUES: "SELECT",
  TABLE: "SELECT",
  DESC: "DESCRIBE",
  LS: "LIST"
}

/** What a summary calls it. */
export const commandOf = (sql: string): string => {
  const first = firstWord(sql)
  return names[first] ?? first
}

/** Counts from 1, where the server's message tells a line and a column, as in `error line 2 at position 7`. */
export const positionOf = (sql: string, message: string): number | undefined => {
  const [, line, column] = /\bline (\d+) at position (\d+)/.exec(message) ?? []
  if (line === undefined || column === undefined) return undefined
  const before = sql.split("\n").slice(0, Number(line) - 1)
  const position = before.reduce((sum, text) => sum + text.length + 1, 0) + Number(column) + 1
  return before.length === Number(line) - 1 && position <= sql.length + 1 ? position : undefined
}
