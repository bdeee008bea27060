/**
 * Whether a statement that fails has certainly written nothing.
 *
 * A statement is a transaction of its own, so that what fails is undone. Some statements commit on the way, though: a procedure
 * that commits (`CALL`, `DO`), and what cannot run inside a transaction (`CREATE INDEX CONCURRENTLY`, `VACUUM`, …). Which of
 * them it is, is told by the statement's first words, with the benefit of doubt never given.
 */

const space = /\s+/y
const lineComment = /--[^\n\r]*/y
const word = /[a-z]+/iy

/** The place behind a comment that begins at `at`; they nest. */
const endOfComment = (sql: string, at: number): number => {
  let depth = 0
  for (let end = at; end < sql.length; end++) {
    if (sql.startsWith("/*", end)) {
      depth++
      end++
    } else if (sql.startsWith("*/", end)) {
      end++
      if (--depth === 0) return end + 1
    }
  }
  return sql.length
}

/** The first words, in capitals, without what may stand around them. */
const firstWords = (sql: string, count: number): ReadonlyArray<string> => {
  const words: Array<string> = []
  for (let at = 0; at < sql.length && words.length < count;) {
    const found = [space, lineComment, word].find((pattern) => {
      pattern.lastIndex = at
      return pattern.test(sql)
    })
    if (found !== undefined) {
      if (found === word) words.push(sql.slice(at, found.lastIndex).toUpperCase())
      at = found.lastIndex
    } else if (sql.startsWith("/*", at)) at = endOfComment(sql, at)
    else if (sql[at] === "(" || sql[at] === ";") at++
    else break
  }
  return words
}

/** They run in one transaction, whatever follows; so does `REFRESH … CONCURRENTLY`. */
const plain: ReadonlySet<string | undefined> = new Set(
  `SELECT INSERT UPDATE DELETE MERGE WITH VALUES TABLE SHOW EXPLAIN EXECUTE PREPARE DEALLOCATE FETCH MOVE DECLARE CLOSE
  TRUNCATE GRANT REVOKE COMMENT SECURITY LOCK SET RESET COPY IMPORT REFRESH NOTIFY LISTEN UNLISTEN
  BEGIN START COMMIT END ABORT ROLLBACK SAVEPOINT RELEASE`.split(/\s+/)
)

/** They do so but for some kinds of things, and where nothing is done concurrently. */
const definitions: ReadonlySet<string | undefined> = new Set(["CREATE", "ALTER", "DROP"])
const outside: ReadonlySet<string | undefined> = new Set(["DATABASE", "TABLESPACE", "SYSTEM", "SUBSCRIPTION"])

/** What a block of code would have to say to commit, or to have somebody else do it. A backslash may hide a word. */
const mayCommit = /commit|call|execute|\\|u&/i

/** Whether all of a statement is undone when it fails. False where that is not certain. */
export const isUndone = (sql: string): boolean => {
  const [first, second] = firstWords(sql, 2)
  if (plain.has(first)) return true
  if (definitions.has(first)) return !outside.has(second) && !/concurrently/i.test(sql)
  return first === "DO" && !mayCommit.test(sql)
}
