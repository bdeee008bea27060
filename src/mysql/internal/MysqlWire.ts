/**
 * One connection of `mysql2`, as effects.
 *
 * It lives as long as the scope that it was opened in, and is closed without another word. What is asked of it is answered in
 * order. An effect here is over when the server is done with what was asked; interrupting it ends nothing.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { ConnectionError, SqlError, UnknownError } from "effect/sql/SqlError"
import * as Mysql from "mysql2"
import type { Connection, ResultSetHeader } from "mysql2"
import type { Socket } from "node:net"
import * as SteadyClock from "../../lifetime/internal/SteadyClock.ts"
import type { Field } from "./MysqlValues.ts"
import type { Target } from "./MysqlTarget.ts"

/** What is made of a result while it comes. Each waits for the one before; the server waits, too. */
export interface Taker {
  readonly fields: (fields: ReadonlyArray<Field>) => Effect.Effect<void>
  readonly rows: (rows: ReadonlyArray<ReadonlyArray<unknown>>) => Effect.Effect<void>
}

/** What the server said when it was done; `undefined` where it has sent rows. */
export type Header = ResultSetHeader | undefined

export interface Wire {
  /** The server's id of it, for `KILL`. */
  readonly threadId: number
  readonly isMariaDb: boolean
  readonly isClosed: () => boolean
  /** In milliseconds of the steady clock. */
  readonly heardAt: () => number
  readonly heard: () => void
  /** The server is given up. */
  readonly destroy: () => void
  readonly run: (sql: string, params: ReadonlyArray<unknown>, taker: Taker) => Effect.Effect<Header, SqlError>
  /** Rows of a short statement of our own. */
  readonly ask: (sql: string, params?: ReadonlyArray<unknown>) => Effect.Effect<Asked, SqlError>
  /** A statement of our own without rows, sent in one round trip. */
  readonly query: (sql: string) => Effect.Effect<void, SqlError>
  readonly ping: Effect.Effect<void, SqlError>
  readonly reset: Effect.Effect<void, SqlError>
}

export interface Asked {
  readonly rows: ReadonlyArray<ReadonlyArray<unknown>>
  readonly fields: ReadonlyArray<Field>
  readonly header: Header
}

/** Rows that wait to be taken before the server is held up, and their characters. */
const maxRows = 256
const maxText = 256 * 1024

const isFatal = (cause: unknown): boolean => {
  if (!(cause instanceof Error)) return false
  const { code, errno, fatal } = cause as { fatal?: boolean; code?: string; errno?: number }
  return fatal === true || code?.startsWith("PROTOCOL_") === true || (typeof errno === "number" && errno < 0)
}

/** What went wrong, as clients of SQL know it. */
export const errorOf = (cause: unknown, operation: string): SqlError => {
  const message = cause instanceof Error ? cause.message : String(cause)
  const Reason = isFatal(cause) ? ConnectionError : UnknownError
  return new SqlError({ reason: new Reason({ cause, message, operation }) })
}

const lost = () => Object.assign(new Error("The connection is closed"), { fatal: true })

/** A row that is the header of a result without rows is none. */
const sizeOf = (row: ReadonlyArray<unknown>) =>
  row.reduce<number>(
    (sum, value) => sum + (typeof value === "string" || value instanceof Uint8Array ? value.length : 8),
    0
  )

/** Bounds what waits, and lets the server go on when that was taken. */
const runOn =
  (connection: Connection, isClosed: () => boolean, onClose: (listener: () => void) => () => void) =>
  (sql: string, params: ReadonlyArray<unknown>, taker: Taker): Effect.Effect<Header, SqlError> =>
    Effect.suspend(() => {
      if (isClosed()) return Effect.fail(errorOf(lost(), "execute"))
      let rows: Array<ReadonlyArray<unknown>> = []
      let text = 0
      let fields: ReadonlyArray<Field> | undefined
      let areFieldsTold = false
      let header: Header
      let failure: unknown
      let isOver = false
      let results = 0
      let wake: (() => void) | undefined
      const tell = () => {
        const woken = wake
        wake = undefined
        woken?.()
      }
      const attach = (method: "execute" | "query") => {
        const command = connection[method]({ sql, values: [...params], rowsAsArray: true } as Mysql.QueryOptions)
        let isDone = false
        const done = (cause?: unknown) => {
          if (isDone) return
          isDone = true
          leave()
          // Some statements cannot be prepared; nothing was executed then (ER_UNSUPPORTED_PS).
          if (
            method === "execute" &&
            (cause as { errno?: number } | undefined)?.errno === 1295 &&
            params.length === 0
          ) {
            attach("query")
            return
          }
          failure = cause
          isOver = true
          tell()
        }
        const leave = onClose(() => done(lost()))
        command.on("fields", (told: ReadonlyArray<Field> | undefined) => {
          results++
          if (told !== undefined && fields === undefined) fields = told
          tell()
        })
        command.on("result", (row: ReadonlyArray<unknown> | ResultSetHeader) => {
          if (!Array.isArray(row)) {
            header = row as ResultSetHeader
            return
          }
          // Of several results the first one is told.
          if (results > 1) return
          rows.push(row)
          text += sizeOf(row)
          if (rows.length >= maxRows || text >= maxText) connection.pause()
          tell()
        })
        command.on("error", done)
        command.on("end", () => done())
      }
      attach("execute")
      const next = Effect.callback<void>((resume) => {
        if (isOver || rows.length > 0 || (fields !== undefined && !areFieldsTold)) resume(Effect.void)
        else wake = () => resume(Effect.void)
      })
      const step: Effect.Effect<Header, SqlError> = Effect.flatMap(next, () => {
        if (fields !== undefined && !areFieldsTold) {
          areFieldsTold = true
          return Effect.andThen(taker.fields(fields), step)
        }
        if (rows.length > 0) {
          const some = rows
          rows = []
          text = 0
          return taker.rows(some).pipe(Effect.andThen(Effect.sync(() => connection.resume())), Effect.andThen(step))
        }
        if (!isOver) return step
        return failure === undefined
          ? Effect.succeed(fields === undefined ? header : undefined)
          : Effect.fail(errorOf(failure, "execute"))
      })
      return Effect.ensuring(
        step,
        Effect.sync(() => connection.resume())
      )
    })

/** A call of the driver's with a callback. */
const call = (
  isClosed: () => boolean,
  onClose: (listener: () => void) => () => void,
  operation: string,
  begin: (done: (cause: unknown) => void) => void
) =>
  Effect.callback<void, SqlError>((resume) => {
    if (isClosed()) return resume(Effect.fail(errorOf(lost(), operation)))
    const leave = onClose(() => resume(Effect.fail(errorOf(lost(), operation))))
    begin((cause) => {
      leave()
      resume(cause === null || cause === undefined ? Effect.void : Effect.fail(errorOf(cause, operation)))
    })
  })

/** Opens a connection for the current scope. */
export const open = Effect.fnUntraced(function* (
  target: Target,
  password: Redacted.Redacted<string> | undefined,
  connectTimeout: Duration.Duration
): Effect.fn.Return<Wire, SqlError, Scope.Scope> {
  const clock = yield* Clock.Clock
  const connection = yield* Effect.acquireRelease(
    Effect.sync(() =>
      Mysql.createConnection({
        host: target.host,
        port: target.port,
        user: target.user,
        database: target.database,
        connectTimeout: Duration.toMillis(connectTimeout),
        charset: "UTF8MB4_GENERAL_CI",
        // What the server asks of our files is refused, and so is a second statement in one.
        flags: ["-LOCAL_FILES"],
        multipleStatements: false,
        // Exact values, as the server has them.
        dateStrings: true,
        supportBigNumbers: true,
        bigNumberStrings: true,
        decimalNumbers: false,
        jsonStrings: true,
        timezone: "Z",
        maxPreparedStatements: 1,
        ...(password !== undefined && { password: Redacted.value(password) }),
        ...(target.ssl !== undefined && { ssl: target.ssl })
      } as Mysql.ConnectionOptions)
    ),
    (connection) => Effect.sync(() => destroy(connection))
  )
  let isGone = false
  const listeners = new Set<() => void>()
  let heardAt = SteadyClock.millis(clock)
  const heard = () => {
    heardAt = SteadyClock.millis(clock)
  }
  const gone = () => {
    isGone = true
    for (const listener of listeners) listener()
  }
  connection.on("error", gone)
  connection.on("end", gone)
  const isClosed = () => isGone
  const onClose = (listener: () => void) => {
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }
  yield* Effect.callback<void, SqlError>((resume) => {
    connection.connect((cause) =>
      resume(cause === null || cause === undefined ? Effect.void : Effect.fail(errorOf(cause, "connect")))
    )
  }).pipe(
    Effect.timeoutOrElse({
      duration: connectTimeout,
      orElse: () => Effect.fail(errorOf(new Error("The server did not answer in time"), "connect"))
    })
  )
  // With TLS it is another one than before.
  const stream = streamOf(connection)
  stream.on("data", heard)
  stream.on("close", gone)
  const run = runOn(connection, isClosed, onClose)
  const ask = (sql: string, params: ReadonlyArray<unknown> = []) =>
    Effect.suspend(() => {
      const all: Array<ReadonlyArray<unknown>> = []
      let known: ReadonlyArray<Field> = []
      const taker: Taker = {
        fields: (fields) =>
          Effect.sync(() => {
            known = fields
          }),
        rows: (rows) => Effect.sync(() => void all.push(...rows))
      }
      return Effect.map(run(sql, params, taker), (header): Asked => ({ rows: all, fields: known, header }))
    })
  return {
    threadId: connection.threadId ?? 0,
    isMariaDb: (connection as unknown as { readonly _isMariaDB?: boolean })._isMariaDB === true,
    isClosed,
    heardAt: () => heardAt,
    heard,
    destroy: () => destroy(connection),
    run,
    ask,
    query: (sql) => call(isClosed, onClose, "query", (done) => connection.query(sql, done)),
    ping: call(isClosed, onClose, "ping", (done) => connection.ping(done)),
    reset: call(isClosed, onClose, "reset", (done) => connection.reset(done))
  }
})

/** The driver would only end its side. What waits for an answer learns that none comes. */
const destroy = (connection: Connection) => {
  connection.on("error", () => undefined)
  streamOf(connection).destroy()
}

/** The driver does not declare it. */
const streamOf = (connection: Connection) => (connection as unknown as { readonly stream: Socket }).stream
