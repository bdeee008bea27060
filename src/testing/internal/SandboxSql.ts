/**
 * What a statement means in a sandbox, where the transactions of an app are savepoints of one that never ends.
 *
 * It is told by the text alone: quoted texts, names, comments and bodies of functions are not looked into.
 */

/** What ends or begins a transaction, or belongs to a whole connection. */
export type Control =
  | { readonly _tag: "Begin" }
  | { readonly _tag: "Commit" }
  | { readonly _tag: "Rollback" }
  /** It cannot be had within a transaction. */
  | { readonly _tag: "Refused"; readonly what: string }
  /** It has no meaning here, and is answered as if it had been done. */
  | { readonly _tag: "Nothing"; readonly tag: string }
  | { readonly _tag: "DiscardAll" }
  | { readonly _tag: "DiscardTemporary" }
  | { readonly _tag: "DeallocateAll" }
  | { readonly _tag: "ResetAll" }

/** One of the statements of a text. */
export interface Statement {
  readonly sql: string
  readonly control: Control | undefined
}

const controls: ReadonlyArray<readonly [words: RegExp, control: Control]> = [
  [/^(BEGIN|START TRANSACTION)\b/, { _tag: "Begin" }],
  [/^(COMMIT|ROLLBACK) PREPARED\b/, { _tag: "Refused", what: "A prepared transaction" }],
  [/^PREPARE TRANSACTION\b/, { _tag: "Refused", what: "A prepared transaction" }],
  [/^(COMMIT|END|ROLLBACK|ABORT)( WORK| TRANSACTION)? AND CHAIN\b/, { _tag: "Refused", what: "AND CHAIN" }],
  [/^(COMMIT|END)\b/, { _tag: "Commit" }],
  [/^(ROLLBACK|ABORT)(?!( WORK| TRANSACTION)? TO\b)/, { _tag: "Rollback" }],
  [/^SET (SESSION CHARACTERISTICS|TRANSACTION)\b/, { _tag: "Nothing", tag: "SET" }],
  [/^DISCARD ALL\b/, { _tag: "DiscardAll" }],
  [/^DISCARD TEMP(ORARY)?\b/, { _tag: "DiscardTemporary" }],
  [/^DEALLOCATE (PREPARE )?ALL\b/, { _tag: "DeallocateAll" }],
  [/^RESET ALL\b/, { _tag: "ResetAll" }]
]

/** Pieces of a text that are passed by as they are. */
const passed =
  /[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*|\$(\p{L}[\p{L}\d_]*)?\$|;|[\p{L}_][\p{L}\d_$]*|\d[\d\w.]*|[\s\S]/uy

const endOfComment = (sql: string, from: number): number => {
  let depth = 1
  let at = from
  while (at < sql.length && depth > 0) {
    if (sql.startsWith("/*", at)) depth++
    else if (sql.startsWith("*/", at)) depth--
    else {
      at++
      continue
    }
    at += 2
  }
  return at
}

/** How the moment at which a transaction began is asked for, and what says it in a sandbox. */
const moments: Readonly<Record<string, readonly [call: boolean, instead: string]>> = {
  now: [true, "pg_temp.now"],
  transaction_timestamp: [true, "pg_temp.transaction_timestamp"],
  current_timestamp: [false, 'pg_temp."current_timestamp"()']
}

/** Made once on a connection: what `now()` would say if each transaction of the app were one. */
export const clocks = Object.values(moments)
  .map(
    ([, name]) =>
      `create function ${name.replace("()", "")}() returns timestamptz language sql stable as $$ select coalesce(nullif(pg_catalog.current_setting('holdfast.began', true), '')::timestamptz, pg_catalog.statement_timestamp()) $$`
  )
  .join(";")

/** What it is made of stays in the database's catalog, where a moment of this sandbox has no place. */
const defines = /^(CREATE|ALTER|COMMENT|DO)\b/

/** The statements of a text, in their order. With `live`, what asks for the beginning of the transaction asks the sandbox. */
export const statementsOf = (sql: string, live: boolean): ReadonlyArray<Statement> => {
  const statements: Array<Statement> = []
  let text = ""
  let words: Array<string> = []
  let isAtomic = false
  const end = () => {
    const said = words.join(" ")
    const control = controls.find(([pattern]) => pattern.test(said))?.[1]
    if (words.length > 0 || text.trim() !== "") statements.push({ sql: text, control })
    text = ""
    words = []
  }
  passed.lastIndex = 0
  for (let at = 0; at < sql.length; at = passed.lastIndex) {
    const [piece = "", tag] = passed.exec(sql) ?? []
    if (piece === "") break
    const close = /^\$.*\$$/u.test(piece) ? sql.indexOf(piece, passed.lastIndex) : -1
    if (piece === "/*") passed.lastIndex = endOfComment(sql, passed.lastIndex)
    else if (close !== -1 && (tag !== undefined || piece === "$$")) passed.lastIndex = close + piece.length
    const whole = sql.slice(at, passed.lastIndex)
    if (piece === ";" && !isAtomic) {
      end()
      continue
    }
    const isWord = /^[\p{L}_]/u.test(piece) && !/^[eE]'/.test(piece)
    const upper = isWord ? piece.toUpperCase() : ""
    if (isWord && words.length < 5) words.push(upper)
    if (upper === "ATOMIC") isAtomic = true
    const moment = live && isWord ? moments[piece.toLowerCase()] : undefined
    const isAsked =
      moment !== undefined &&
      !defines.test(words[0] ?? "") &&
      !/\.\s*$/.test(text) &&
      (moment[0] ? /^\s*\(\s*\)/.test(sql.slice(passed.lastIndex)) : true)
    text += isAsked ? moment[1] : whole
  }
  end()
  return statements
}

/** Whether temporary tables may come of it. */
export const mayBeTemporary = (sql: string): boolean => /\btemp(orary)?\b/i.test(sql)

/** Drops the temporary tables, and nothing else that is temporary. */
export const dropTemporary = `do $$ declare it record; begin
  for it in select relname, relkind from pg_catalog.pg_class where relnamespace = pg_catalog.pg_my_temp_schema() and relkind in ('r', 'v', 'p') loop
    execute pg_catalog.format('drop %s if exists pg_temp.%I cascade', case it.relkind when 'v' then 'view' else 'table' end, it.relname);
  end loop; end $$`

/** What `DISCARD ALL` does, as far as a transaction lets it. */
export const discard = "CLOSE ALL;RESET SESSION AUTHORIZATION;RESET ALL;UNLISTEN *;DISCARD SEQUENCES"

/** After the transaction of a sandbox: what is left on its connection, but for its clocks. */
export const reset: ReadonlyArray<string> = [
  ...discard.split(";"),
  "DEALLOCATE ALL",
  "SELECT pg_catalog.pg_advisory_unlock_all()"
]

export const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`
