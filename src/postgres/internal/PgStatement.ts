/**
 * One statement on a connection: what the server has said of it so far, and its rows as they come.
 *
 * It is under way from the moment `PgWire.send` sends it until the server says that it is ready for the next one, or the
 * connection is lost. Rows are taken from the server only as fast as somebody asks for them.
 */
import type { Buffer } from "node:buffer"
import * as Effect from "effect/Effect"
import {
  code,
  type Column,
  columnsOf,
  DataRow,
  ErrorResponse,
  errorOf,
  headerBytes,
  noticeOf,
  NotUtf8,
  outsideTransaction,
  parameterTypesOf,
  ReadyForQuery,
  type Report,
  type ServerError,
  valueBytesOf,
  valuesOf
} from "./PgFrames.ts"

/** Values as the server writes them. */
export type Texts = ReadonlyArray<string | null>

/** The values of a row that is too large to be read at once, in UTF-8. */
export class LargeRow {
  readonly values: ReadonlyArray<Buffer | null>

  constructor(values: ReadonlyArray<Buffer | null>) {
    this.values = values
  }
}

/** A row as it came. */
export type Arrived = Texts | LargeRow

/** A longer row is a {@link LargeRow}. */
const maxRowBytes = 64 * 1024

/** How far a statement came: the server has `answered` when it reported an error or that it is ready for the next one. */
type Stage = "unsent" | "sent" | "answered"

/** Why the server's own word on a statement will not come. */
export type Broken = "lost" | "copy in" | "copy out" | "too large"

/** The longest row, and any other message, that is taken, without its type; the same as the driver's own limit. */
export const maxMessageBytes = 16 * 1024 * 1024

/** With so many rows that nobody has asked for yet, or so many bytes of them, no more are read. */
const enoughRows = 512
const enoughBytes = 1024 * 1024

const RowDescription = code("T")
const CommandComplete = code("C")
const ParameterDescription = code("t")
const BindComplete = code("2")
const CopyIn = code("G")
const copiesOut: ReadonlySet<number | undefined> = new Set(Array.from("HW", code))

const noColumns: ReadonlyArray<Column> = []

/** What a statement may do with the connection that it is sent on. */
export interface Flow {
  /** Takes no more from the server, or goes on. */
  readonly pause: () => void
  readonly resume: () => void
}

export class PgStatement {
  /** The columns, from when the server has told them; none of a statement without rows. */
  columns = noColumns
  /** The types of the parameters, by their object ids, where they were asked for. */
  parameterTypes: ReadonlyArray<number> = []
  /** The server began to execute it: an error that comes earlier means that it wrote nothing. */
  isBegun = false
  /** The command tag, such as `SELECT 3` or `INSERT 0 1`; empty until the server says it, and when an error came after it. */
  command = ""
  stage: Stage = "unsent"
  /** Rows that the server has sent, also those that were dropped. */
  rowCount = 0
  error: ServerError | undefined
  /** The server had said that it is done before it reported an error: only the commit was left, and may have happened. */
  isErrorLate = false
  /** Told of what the server remarks, as long as it is under way. */
  onNotice: ((notice: Report) => void) | undefined
  broken: Broken | undefined
  /** A row had a value that is no text; it was dropped, and those after it. */
  isUnreadable = false
  /** The server, or what broke the connection, has said the last word. */
  isOver = false
  /** A transaction was open when the server was done. */
  isTransactionOpen = false
  /** Cycles of messages that travel ahead of it and are not answered yet. */
  ahead: number
  private rows: Array<Arrived> = []
  private rowBytes = 0
  private isDropped = false
  private isPaused = false
  private flow: Flow | undefined
  private look: (() => void) | undefined

  constructor(ahead = 0) {
    this.ahead = ahead
  }

  /** The rows that have come since, at least one; none when there will be no more. */
  readonly next: Effect.Effect<ReadonlyArray<Arrived>> = Effect.callback((resume) => {
    const look = () => {
      if (this.rows.length === 0 && !this.isOver) return
      this.look = undefined
      const { rows } = this
      this.rows = []
      this.rowBytes = 0
      resume(Effect.succeed(rows))
    }
    this.go()
    this.look = look
    look()
  })

  /** Waits until nothing is ahead of it any more. */
  get begun(): Effect.Effect<void> {
    return this.when(() => this.ahead === 0 || this.isOver)
  }

  /** Drops all further rows and waits until it is over. */
  get over(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.isDropped = true
      this.rows = []
      this.go()
      return this.when(() => this.isOver)
    })
  }

  private when(seen: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      this.look = () => {
        if (!seen()) return
        this.look = undefined
        resume(Effect.void)
      }
      this.look()
    })
  }

  /** @internal */
  get isBroken(): boolean {
    return this.broken !== undefined
  }

  private go(): void {
    if (!this.isPaused) return
    this.isPaused = false
    this.flow?.resume()
  }

  /** @internal */
  sent(flow: Flow): void {
    this.flow = flow
    this.stage = "sent"
  }

  /** @internal Whether the driver is to hear a message, too: it judges by those whether its cancel was confirmed. */
  tells(type: number | undefined): boolean {
    return this.ahead === 0 && (type === ErrorResponse || type === ReadyForQuery)
  }

  /** @internal A whole message, which is the part of `bytes` between `at` and `end`. */
  hear(bytes: Buffer, at: number, end: number): void {
    const type = bytes[at]
    if (this.ahead > 0) {
      if (type === ReadyForQuery) this.ahead--
    } else if (type === DataRow) {
      this.rowCount++
      if (this.isDropped || this.isUnreadable) return
      try {
        this.rows.push(end - at > maxRowBytes ? new LargeRow(valueBytesOf(bytes, at)) : valuesOf(bytes, at))
      } catch (error) {
        if (!(error instanceof NotUtf8)) throw error
        this.isUnreadable = true
      }
      this.rowBytes += end - at
    } else if (type === RowDescription) this.columns = columnsOf(bytes, at)
    else if (type === ParameterDescription) this.parameterTypes = parameterTypesOf(bytes, at)
    else if (type === BindComplete) this.isBegun = true
    else if (type === CommandComplete) this.command = bytes.toString("utf8", at + headerBytes, end - 1)
    else if (type === ErrorResponse) {
      this.isErrorLate = this.command !== ""
      this.command = ""
      this.stage = "answered"
      this.error = errorOf(bytes.subarray(at, end))
    } else if (type === ReadyForQuery) {
      this.stage = "answered"
      this.isTransactionOpen = bytes[at + headerBytes] !== outsideTransaction
      this.isOver = true
    } else if (type === CopyIn) this.breaks("copy in")
    else if (copiesOut.has(type)) this.breaks("copy out")
  }

  /** @internal A notice, which is the part of `bytes` between `at` and `end`. */
  notices(bytes: Buffer, at: number, end: number): void {
    if (this.ahead === 0) this.onNotice?.(noticeOf(bytes.subarray(at, end)))
  }

  /** @internal What comes next cannot be read: the connection is to be closed. */
  breaks(how: Broken): void {
    this.broken ??= how
  }

  /** @internal The connection is closed. */
  ends(): void {
    this.breaks("lost")
    this.isOver = true
  }

  /** @internal All that arrived was heard: the fibers that wait may look. */
  heard(): void {
    this.look?.()
    if (this.isOver || this.isPaused || this.isDropped) return
    if (this.rows.length < enoughRows && this.rowBytes < enoughBytes) return
    this.isPaused = true
    this.flow?.pause()
  }
}
