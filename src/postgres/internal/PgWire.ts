/**
 * The one place that reaches into the PostgreSQL driver: talks with the server on a connection while the driver is idle.
 *
 * A wire lives as long as the connection it is attached to. What is answered to its own messages is kept from the driver:
 * those of a {@link PgWire.send statement}, whose values travel as PostgreSQL's own text, so that every type arrives exact
 * (microseconds, `numeric`, `infinity`, types of extensions) and columns that share a name stay apart; and those of an
 * {@link PgWire.exchange exchange}.
 *
 * **Details**
 *
 * {@link attach} finds the driver's socket in a private field (`session.socket`, `@effect/sql-pg` 4.0), and while a statement
 * is under way it takes the place of the driver's own (`consumer`), so that the driver can cancel it and judges by the answer
 * whether the connection may be used again. Where these are not there, there is no wire, and the code that needs one says so when its
 * layer is built. Frames: https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { hasProperty } from "effect/Predicate"
import { Buffer } from "node:buffer"
import { Duplex } from "node:stream"
import {
  code,
  DataRow,
  endReport,
  ErrorResponse,
  errorOf,
  headerBytes,
  maxReportBytes,
  NoticeResponse,
  outsideTransaction,
  ReadyForQuery,
  valuesOf
} from "./PgFrames.ts"
import { type Flow, maxMessageBytes, PgStatement, type Texts } from "./PgStatement.ts"

/** Messages, and how often the server says that it is ready when it has answered them. */
export interface Messages {
  readonly messages: Uint8Array
  readonly cycles: number
}

export interface PgWire {
  /** Whether the server said, when it was last ready, that no transaction is open: what was done is committed. */
  readonly isOutsideTransaction: () => boolean
  /**
   * Sends messages of one's own and returns, for each cycle of them, the rows that came back, their values as text, when
   * the server has said for the last one that it is ready. The driver must be idle, and hears nothing of it. Fails with the
   * first error of the server's, or when the connection is lost. Exchanges may follow one another at once. Interrupted, what is
   * answered later is still kept from the driver.
   */
  readonly exchange: (messages: Messages) => Effect.Effect<ReadonlyArray<Rows>, ExchangeFailed>
  /**
   * Sends a statement, behind the messages that it counts as ahead of it, and returns at once. The connection must be the caller's
   * alone, and stay so until the statement is over.
   *
   * What is `behind` is an exchange that travels in the same packet; its answer is told by {@link takeBehind}, as long as
   * nothing else was sent on the connection.
   */
  readonly send: (statement: PgStatement, messages: Uint8Array, behind?: Messages) => void
  /** The answer of what travelled last on the connection, behind a statement; once. */
  readonly takeBehind: () => Effect.Effect<ReadonlyArray<Rows>, ExchangeFailed> | undefined
}

/** Rows of values as the server writes them. */
export type Rows = ReadonlyArray<Texts>

/** The server refused a message of ours, or did not answer it. */
export class ExchangeFailed extends Error {
  override readonly name = "ExchangeFailed"
  /** The SQLSTATE, where it is the server that said so. */
  readonly code: string | undefined

  constructor({ code, message }: { readonly code?: string | undefined; readonly message: string }) {
    super(message)
    this.code = code
  }
}

const lost = () => new ExchangeFailed({ message: "The connection was lost" })

const wires = new WeakMap<object, Wire>()

/** What a server may send at any time, and to nobody's question: notices, parameters and notifications. */
const unasked: ReadonlySet<number | undefined> = new Set(Array.from("NSA", code))

/** The driver's socket, where it shows it. */
export const socketOf = (connection: PgConnection): Duplex | undefined => {
  if (!hasProperty(connection, "session") || !hasProperty(connection.session, "socket")) return undefined
  const { socket } = connection.session
  return socket instanceof Duplex ? socket : undefined
}

/** The port on our side of a connection, or `undefined` where it has none, as over a Unix socket. */
export const localPortOf = (connection: PgConnection): number | undefined => {
  const socket = socketOf(connection)
  return hasProperty(socket, "localPort") && typeof socket.localPort === "number" ? socket.localPort : undefined
}

/** The wire of a connection, or `undefined` where the driver does not show what it needs. Idempotent. */
export const attach = (connection: PgConnection): PgWire | undefined => {
  const known = wires.get(connection)
  if (known !== undefined) return known
  const socket = socketOf(connection)
  const [deliver] = socket?.listeners("data") ?? []
  if (socket === undefined || deliver === undefined || !hasProperty(connection, "consumer")) return undefined
  const wire = new Wire(connection, socket, (chunk) => Reflect.apply(deliver, socket, [chunk]))
  socket.off("data", deliver as (chunk: Buffer) => void)
  socket.on("data", wire.receive)
  wires.set(connection, wire)
  return wire
}

/** Whether somebody waits for an answer to messages of ours. */
export const isAwaited = (connection: PgConnection): boolean => wires.get(connection)?.isAwaited() ?? false

/** How long the server may take to close its side before the socket is destroyed. */
const farewell = Duration.seconds(1)

/**
 * Waits until a connection is closed on both sides: the server's is closed by the end of its backend, so that there is none any
 * more. One that takes longer than a second has its socket destroyed.
 */
export const gone = (connection: PgConnection): Effect.Effect<void> =>
  Effect.timeoutOrElse(closed(connection), {
    duration: farewell,
    orElse: () => Effect.sync(() => socketOf(connection)?.destroy())
  })

/** Waits until a connection is closed, and so all that the server had to say was heard. */
export const closed = (connection: PgConnection): Effect.Effect<void> =>
  Effect.suspend(() => {
    const socket = socketOf(connection)
    if (socket === undefined || socket.closed) return Effect.void
    return Effect.callback<void>((resume) => {
      const done = () => resume(Effect.void)
      socket.once("close", done)
      return Effect.sync(() => socket.off("close", done))
    })
  })

/** Messages of ours that are not answered yet. */
class Exchange {
  readonly answer = Deferred.makeUnsafe<ReadonlyArray<Rows>, ExchangeFailed>()
  private readonly cycles: number
  private readonly rows: Array<Rows> = []
  private current: Array<Texts> = []
  private failure: ExchangeFailed | undefined
  isOver = false
  readonly isBroken = false

  constructor(cycles: number) {
    this.cycles = cycles
  }

  hear(bytes: Buffer, at: number, end: number): void {
    const type = bytes[at]
    if (type === DataRow) this.current.push(valuesOf(bytes, at))
    else if (type === ErrorResponse) this.failure ??= new ExchangeFailed(errorOf(bytes.subarray(at, end)))
    else if (type === ReadyForQuery) {
      this.rows.push(this.current)
      this.current = []
      this.isOver = this.rows.length === this.cycles
    }
  }

  tells(): boolean {
    return false
  }

  breaks(): void {}

  notices(): void {}

  ends(): void {
    this.failure = lost()
    this.isOver = true
  }

  /** All that arrived was heard: the fibers that wait may go on. */
  heard(): void {
    if (!this.isOver) return
    Deferred.doneUnsafe(this.answer, this.failure === undefined ? Effect.succeed(this.rows) : Effect.fail(this.failure))
  }
}

/** Whose messages are answered. */
type Conversation = Exchange | PgStatement

/** For the driver, in place of a statement of its own. */
const consumer = { onMessage: () => {}, onFatal: () => {} }

class Wire implements PgWire {
  /** In the order they were sent, which is that of their answers. */
  private readonly conversations: Array<Conversation> = []
  private behind: Exchange | undefined
  private status: number | undefined
  /** As many bytes as there must be to go on with a message whose rest has not arrived, and how many of them are there. */
  private held: Buffer | undefined
  private heldBytes = 0
  /** Bytes of a message that may pass unread. */
  private passing = 0
  /** Bytes of a message that nobody is to hear. */
  private dropping = 0
  private readonly connection: PgConnection
  private readonly socket: Duplex
  private readonly deliver: (chunk: Buffer) => void
  private readonly flow: Flow

  constructor(connection: PgConnection, socket: Duplex, deliver: (chunk: Buffer) => void) {
    this.connection = connection
    this.socket = socket
    this.deliver = deliver
    this.flow = { pause: () => socket.pause(), resume: () => socket.resume() }
    const write = socket.write.bind(socket) as (chunk: Uint8Array, ...rest: ReadonlyArray<unknown>) => boolean
    socket.write = (chunk: Uint8Array, ...rest: ReadonlyArray<unknown>) => {
      this.behind = undefined
      return write(chunk, ...rest)
    }
    socket.once("close", this.ends)
  }

  readonly isAwaited = (): boolean => this.conversations.length > 0

  readonly isOutsideTransaction = (): boolean => this.status === outsideTransaction

  readonly exchange: PgWire["exchange"] = ({ cycles, messages }) =>
    Effect.suspend(() => {
      if (this.socket.destroyed) return Effect.fail(lost())
      const exchange = new Exchange(cycles)
      this.conversations.push(exchange)
      this.socket.write(messages)
      return Deferred.await(exchange.answer)
    })

  readonly send: PgWire["send"] = (statement, messages, behind) => {
    if (this.socket.destroyed) return statement.ends()
    statement.sent(this.flow)
    this.conversations.push(statement)
    Reflect.set(this.connection, "consumer", consumer)
    this.socket.write(behind === undefined ? messages : Buffer.concat([messages, behind.messages]))
    if (behind === undefined) return
    this.behind = new Exchange(behind.cycles)
    this.conversations.push(this.behind)
  }

  readonly takeBehind: PgWire["takeBehind"] = () => {
    const { behind } = this
    this.behind = undefined
    return behind === undefined ? undefined : Deferred.await(behind.answer)
  }

  readonly receive = (arrived: Buffer): void => {
    /** The last first. */
    const done: Array<Conversation> = []
    try {
      for (let rest = arrived; rest.length > 0 && !this.socket.destroyed;) {
        const taken = this.gather(rest)
        const chunk = this.held ?? rest
        rest = rest.subarray(taken)
        if (this.held !== undefined && this.heldBytes < this.held.length) break
        this.held = undefined
        this.read(chunk, done)
      }
    } catch {
      // No message of the protocol. The fiber that waits hears of it when the socket is closed.
      this.socket.destroy()
    }
    this.conversations[0]?.heard()
    // The next statement finds what travelled behind it answered, where it is.
    for (const conversation of done) conversation.heard()
  }

  private read(chunk: Buffer, done: Array<Conversation>): void {
    let passed = Math.min(this.dropping, chunk.length)
    this.dropping -= passed
    let at = Math.min(passed + this.passing, chunk.length)
    this.passing -= at - passed
    while (at < chunk.length) {
      const type = chunk[at]
      const [conversation] = this.conversations
      const isOurs = conversation !== undefined && !unasked.has(type)
      const isReport = type === ErrorResponse || type === NoticeResponse
      const left = chunk.length - at
      const size = left < headerBytes ? headerBytes : 1 + chunk.readUInt32BE(at + 1)
      if (size < headerBytes) throw new RangeError("A message is never so short")
      const needed = isReport ? Math.min(size, maxReportBytes) : size
      if (isOurs && needed > 1 + maxMessageBytes) {
        conversation.breaks("too large")
        return void this.socket.destroy()
      }
      if (left < headerBytes || (left < needed && (isOurs || isReport || type === ReadyForQuery))) {
        this.hold(chunk.subarray(at), needed)
        break
      }
      const end = at + size
      if (needed < size) {
        if (at > passed) this.deliver(chunk.subarray(passed, at))
        const report = endReport(chunk.subarray(at, at + needed))
        if (!isOurs || conversation.tells(type)) this.deliver(report)
        if (isOurs) conversation.hear(report, 0, report.length)
        else conversation?.notices(report, 0, report.length)
        passed = Math.min(end, chunk.length)
        this.dropping = end - passed
      } else if (isOurs) {
        if (at > passed) this.deliver(chunk.subarray(passed, at))
        if (type === ReadyForQuery) this.status = chunk[at + headerBytes]
        if (conversation.tells(type)) this.deliver(chunk.subarray(at, end))
        conversation.hear(chunk, at, end)
        if (conversation.isBroken) return void this.socket.destroy()
        if (conversation.isOver) done.unshift(this.leave(conversation))
        passed = end
      } else if (type === ReadyForQuery) this.status = chunk[at + headerBytes]
      else if (type === NoticeResponse) conversation?.notices(chunk, at, end)
      if (end > chunk.length && needed === size) this.passing = end - chunk.length
      at = Math.min(end, chunk.length)
    }
    if (at > passed) this.deliver(passed === 0 && at === chunk.length ? chunk : chunk.subarray(passed, at))
  }

  /** Adds what is wanted of what arrived to what is held, and says how much that is; all of it where nothing is held. */
  private gather(arrived: Buffer): number {
    if (this.held === undefined) return arrived.length
    const taken = arrived.copy(this.held, this.heldBytes)
    this.heldBytes += taken
    return taken
  }

  /** Memory for the whole is taken at once: a large message is in memory once, and copied once. */
  private hold(begun: Buffer, wantedBytes: number): void {
    if (wantedBytes > 1 + maxMessageBytes) throw new RangeError("A message is never so long")
    this.held = Buffer.allocUnsafeSlow(wantedBytes)
    this.heldBytes = begun.copy(this.held)
  }

  private leave(conversation: Conversation): Conversation {
    this.conversations.shift()
    if (conversation instanceof PgStatement) Reflect.set(this.connection, "consumer", undefined)
    return conversation
  }

  private readonly ends = (): void => {
    for (const conversation of this.conversations.splice(0)) {
      conversation.ends()
      conversation.heard()
    }
  }
}
