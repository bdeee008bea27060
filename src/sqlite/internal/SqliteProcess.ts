/**
 * The program of a process that has one SQLite database open and runs statements on it, told by its parent.
 *
 * It lives until its parent ends it or is gone. SQLite runs in the thread that calls it: nothing but the end of the process ends
 * a statement for certain, and the file is then as it was before the transaction ("Atomic Commit In SQLite"). A second thread
 * sees to it that the process ends with its parent, and at the deadline of a statement that nobody cancels.
 *
 * **Details**
 *
 * A statement is one: what stands behind it is refused. It reaches the one file and nothing else: `ATTACH`, `VACUUM`, extensions and
 * all pragmas that change something are denied.
 */
import { DatabaseSync, type SQLInputValue } from "node:sqlite"
import { Worker } from "node:worker_threads"
import type { Answer, Failure, Order } from "./SqliteWire.ts"

const [path = "", mode = "rw"] = process.argv.slice(2)

/** When the process ends by itself, in milliseconds of the monotonic clock; 0 is never. */
const deadline = new BigInt64Array(new SharedArrayBuffer(8))

const watch = `
const { workerData } = require("node:worker_threads")
const { deadline, parent } = workerData
setInterval(() => {
  const at = Atomics.load(deadline, 0)
  const isLate = at !== 0n && process.hrtime.bigint() / 1000000n > at
  if (isLate || process.ppid !== parent) process.kill(process.pid, "SIGKILL")
}, 250)
`
const watchdog = new Worker(watch, { eval: true, workerData: { deadline, parent: process.ppid } })
watchdog.on("error", () => process.exit(1))

/** They tell something and change nothing (sqlite.org, "PRAGMA Statements"); with a value most of them would. */
const telling = new Set(
  `compile_options table_info table_xinfo table_list index_list index_info index_xinfo foreign_key_list foreign_key_check
  integrity_check quick_check function_list collation_list pragma_list`.split(/\s+/)
)
const withoutValue = new Set(
  "encoding page_count page_size freelist_count user_version application_id schema_version data_version".split(" ")
)

/** `SQLITE_OK`, `SQLITE_DENY`, and the actions that are looked at ("Authorizer Action Codes"). */
const ok = 0
const deny = 1
const actions = { pragma: 19, transaction: 22, attach: 24, detach: 25, function: 31, savepoint: 32 }

let isOurs = false
const authorize = (action: number, first: string | null, second: string | null): number => {
  if (isOurs) return ok
  switch (action) {
    case actions.attach:
    case actions.detach:
    case actions.transaction:
    case actions.savepoint:
      return deny
    case actions.pragma:
      return telling.has(first ?? "") || (withoutValue.has(first ?? "") && second === null) ? ok : deny
    case actions.function:
      return second === "load_extension" ? deny : ok
    default:
      return ok
  }
}

const open = (): DatabaseSync => {
  const opened = new DatabaseSync(path, {
    readOnly: mode === "ro",
    timeout: 5000,
    allowExtension: false,
    enableForeignKeyConstraints: true
  })
  if (typeof opened.setAuthorizer !== "function") throw new Error("SQLite as an engine needs Node.js 24.10 or newer")
  opened.enableDefensive?.(true)
  opened.setAuthorizer(authorize)
  return opened
}

let database: DatabaseSync | undefined
const db = () => (database ??= open())

const ours = (sql: string) => {
  isOurs = true
  try {
    db().exec(sql)
  } finally {
    isOurs = false
  }
}

const failureOf = (error: unknown): Failure => {
  const { code, errcode, message } = error as { code?: string; errcode?: number; message?: string }
  return {
    message: message ?? String(error),
    ...(typeof errcode === "number" ? { code: errcode } : {}),
    isOurs: code !== "ERR_SQLITE_ERROR"
  }
}

/** Rows that travel together, and their characters. */
const maxRows = 256
const maxText = 128 * 1024
/** Of one row: the parent has to have it as a whole. */
const maxRowText = 16 * 1024 * 1024

const short = 2n ** 31n

const told = (value: unknown): null | string | number => {
  switch (typeof value) {
    case "bigint":
      return value >= -short && value < short ? Number(value) : String(value)
    case "number":
      return Number.isFinite(value) && !Object.is(value, -0) ? value : Object.is(value, -0) ? "-0" : String(value)
    case "string":
      return value
    default:
      return value instanceof Uint8Array
        ? Buffer.from(value.buffer, value.byteOffset, value.length).toString("base64")
        : null
  }
}

/** What may stand behind a statement. */
const nothing = /^(?:\s|;|--[^\n]*(?:\n|$)|\/\*[\s\S]*?(?:\*\/|$))*$/

let more: (() => void) | undefined
const send = (answer: Answer) => void process.send?.(answer)

const run = async (sql: string, params: ReadonlyArray<SQLInputValue>) => {
  const statement = db().prepare(sql)
  const [ran, behind] = [statement.sourceSQL, sql.slice(sql.indexOf(statement.sourceSQL) + statement.sourceSQL.length)]
  if (!sql.startsWith(ran) || !nothing.test(behind)) {
    throw new Error("There is more than one statement. Submit each one as a query of its own.")
  }
  const columns = statement.columns()
  if (columns.length === 0) {
    const { changes } = statement.run(...params)
    return Number(changes)
  }
  send({ columns: columns.map(({ name, type }) => ({ name, type: (type ?? "any").toLowerCase() })) })
  statement.setReadBigInts(true)
  statement.setReturnArrays(true)
  let rows: Array<ReadonlyArray<null | string | number>> = []
  let text = 0
  let count = 0
  for (const values of statement.iterate(...params) as unknown as Iterable<ReadonlyArray<unknown>>) {
    const row = values.map(told)
    const size = row.reduce<number>((sum, value) => sum + (typeof value === "string" ? value.length : 8), 0)
    if (size > maxRowText) throw new Error("A row is longer than 16 MiB. Select less of it.")
    rows.push(row)
    text += size
    count++
    if (rows.length < maxRows && text < maxText) continue
    const taken = new Promise<void>((resolve) => {
      more = resolve
    })
    send({ rows })
    rows = []
    text = 0
    await taken
  }
  if (rows.length > 0) send({ rows })
  return count
}

const follow = async (order: Order): Promise<number> => {
  switch (order.do) {
    case "ping":
      db()
      return 0
    case "begin":
      Atomics.store(
        deadline,
        0,
        order.millis === undefined ? 0n : process.hrtime.bigint() / 1_000_000n + BigInt(Math.ceil(order.millis))
      )
      ours("BEGIN")
      return 0
    case "run":
      return await run(order.sql, order.params)
    case "commit":
      ours("COMMIT")
      return 0
    case "rollback":
      if (db().isTransaction) ours("ROLLBACK")
      return 0
    case "reset":
      // Temporary tables and everything else of the connection is gone with it.
      Atomics.store(deadline, 0, 0n)
      database?.close()
      database = undefined
      return 0
  }
}

process.on("disconnect", () => process.exit())
process.on("message", (order: Order | { readonly do: "more" }) => {
  if (order.do === "more") {
    const resume = more
    more = undefined
    resume?.()
    return
  }
  follow(order).then(
    (count) => send({ done: count }),
    (error: unknown) => send({ failed: failureOf(error) })
  )
})
