/**
 * The one place that reaches into the PostgreSQL driver: sees the frames of a connection as they pass.
 *
 * A wire lives as long as the connection it is attached to. It offers what the driver keeps to itself: the columns of a
 * streamed result with their types, the command tag, the transaction status; and it can let a statement's values travel
 * as PostgreSQL's own text, so that every type arrives exact (microseconds, `numeric`, `infinity`, types of extensions)
 * and columns that share a name stay apart.
 *
 * **Details**
 *
 * {@link attach} finds the driver's socket in a private field (`session.socket`, `@effect/sql-pg` 4.0). Where it is not
 * there, there is no wire, and whoever needs one says so when its layer is built. In text mode, outgoing `Bind` messages
 * ask for text results and incoming `RowDescription` messages are rewritten to text columns named by their position; the
 * driver never knows. Frames: https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { hasProperty } from "effect/Predicate"
import { Buffer } from "node:buffer"
import process from "node:process"
import { Duplex } from "node:stream"
import { code, errorOf, headerBytes, valuesOf } from "./PgFrames.ts"

/** One column of a result, with the object id of its type. */
export interface Column {
  readonly name: string
  readonly typeId: number
}

/** What passed for the statement that ran last. */
export interface Passed {
  readonly columns: ReadonlyArray<Column>
  /** The command tag, such as `SELECT 3` or `INSERT 0 1`; empty until the server says it, and when an error came after it. */
  readonly command: string
  /** How far it came: the server has `answered` when it reported an error or that it is ready for the next one. */
  readonly stage: "unsent" | "sent" | "answered"
}

export interface PgWire {
  /** Runs an effect during which results travel as text. The connection must be the caller's alone. */
  readonly asText: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** What passed since the last {@link asText} began. */
  readonly passed: () => Passed
  /** Whether the server said, after the last statement, that no transaction is open: what it did is committed. */
  readonly isOutsideTransaction: () => boolean
  /**
   * Sends messages of one's own and returns, for each cycle of them, the rows that came back, their values as text, when
   * the server has said for the last one that it is ready. The driver must be idle, and hears nothing of it. Fails with the first error
   * of the server's, or when the connection is lost. Exchanges may follow one another at once. Interrupted, what is answered later is still kept from the driver.
   */
  readonly exchange: (messages: Uint8Array, cycles: number) => Effect.Effect<ReadonlyArray<Rows>, ExchangeFailed>
  /**
   * Sends messages as {@link exchange} does, but at once, and in one packet with what is written in the same turn. The effect waits
   * for the answers, which are kept from the driver also when nobody runs it.
   */
  readonly sendUnsafe: (messages: Uint8Array, cycles: number) => Effect.Effect<ReadonlyArray<Rows>, ExchangeFailed>
}

/** Rows of values as the server writes them. */
export type Rows = ReadonlyArray<ReadonlyArray<string | null>>

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

const lost = () => Effect.fail(new ExchangeFailed({ message: "The connection was lost" }))

const wires = new WeakMap<object, PgWire>()

const Bind = code("B")
const RowDescription = code("T")
const CommandComplete = code("C")
const ReadyForQuery = code("Z")
const DataRow = code("D")
const ErrorResponse = code("E")
/** What a server may send at any time, and to nobody's question: notices, parameters and notifications. */
const unasked: ReadonlySet<number | undefined> = new Set(Array.from("NSA", code))
/** What is read of a result that travels as text. */
const readAsText: ReadonlySet<number | undefined> = new Set([RowDescription, CommandComplete, ErrorResponse])
const outsideTransaction = code("I")
const textTypeId = 25

const socketOf = (connection: PgConnection): Duplex | undefined => {
  if (!hasProperty(connection, "session") || !hasProperty(connection.session, "socket")) return undefined
  const { socket } = connection.session
  return socket instanceof Duplex ? socket : undefined
}

/** The wire of a connection, or `undefined` where the driver does not show its socket. Idempotent. */
export const attach = (connection: PgConnection): PgWire | undefined => {
  const known = wires.get(connection)
  if (known !== undefined) return known
  const socket = socketOf(connection)
  const [deliver] = socket?.listeners("data") ?? []
  if (socket === undefined || deliver === undefined) return undefined
  const wire = new Wire(socket, (chunk) => Reflect.apply(deliver, socket, [chunk]))
  socket.off("data", deliver as (chunk: Buffer) => void)
  socket.on("data", wire.receive)
  wires.set(connection, wire)
  return wire
}

/** How long the server may take to close its side before the socket is destroyed. */
const farewell = Duration.seconds(1)

/**
 * Waits until a connection is closed on both sides: the server's is closed by the end of its backend, so that there is none any
 * more. One that takes longer than a second has its socket destroyed.
 */
export const gone = (connection: PgConnection): Effect.Effect<void> =>
  Effect.suspend(() => {
    const socket = socketOf(connection)
    if (socket === undefined || socket.closed) return Effect.void
    const closed = Effect.callback<void>((resume) => {
      const done = () => resume(Effect.void)
      socket.once("close", done)
      return Effect.sync(() => socket.off("close", done))
    })
    return Effect.timeoutOrElse(closed, { duration: farewell, orElse: () => Effect.sync(() => socket.destroy()) })
  })

interface Exchange {
  readonly cycles: number
  readonly answers: Array<Rows>
  rows: Array<ReadonlyArray<string | null>>
  failure: ExchangeFailed | undefined
  readonly done: (result: Effect.Effect<ReadonlyArray<Rows>, ExchangeFailed>) => void
}

class Wire implements PgWire {
  /** In the order they were sent, which is that of their answers. */
  private readonly exchanges: Array<Exchange> = []
  private text = false
  private columns: ReadonlyArray<Column> = []
  private command = ""
  private stage: Passed["stage"] = "unsent"
  private status: number | undefined
  /** The beginning of a frame whose rest has not arrived: its header, or all of it where it is to be read. */
  private held: Buffer | undefined
  /** Bytes of a frame that may pass unread. */
  private passing = 0
  private readonly deliver: (chunk: Buffer) => void
  private readonly socket: Duplex

  constructor(socket: Duplex, deliver: (chunk: Buffer) => void) {
    this.deliver = deliver
    const write = socket.write.bind(socket) as (chunk: Uint8Array, ...rest: ReadonlyArray<unknown>) => boolean
    socket.write = (chunk: Uint8Array, ...rest: ReadonlyArray<unknown>) => {
      if (this.text) {
        askForText(chunk)
        this.stage = "sent"
      }
      return write(chunk, ...rest)
    }
    socket.once("close", () => {
      for (const exchange of this.exchanges.splice(0)) exchange.done(lost())
    })
    this.socket = socket
  }

  readonly sendUnsafe: PgWire["sendUnsafe"] = (messages, cycles) => {
    const { socket } = this
    if (socket.destroyed) return lost()
    const answers = Deferred.makeUnsafe<ReadonlyArray<Rows>, ExchangeFailed>()
    const done = (result: Effect.Effect<ReadonlyArray<Rows>, ExchangeFailed>) => {
      Deferred.doneUnsafe(answers, result)
    }
    this.exchanges.push({ cycles, answers: [], rows: [], failure: undefined, done })
    socket.cork()
    socket.write(messages)
    process.nextTick(() => socket.uncork())
    return Deferred.await(answers)
  }

  readonly exchange: PgWire["exchange"] = (messages, cycles) =>
    Effect.callback((resume) => {
      if (this.socket.destroyed) return resume(lost())
      this.exchanges.push({ cycles, answers: [], rows: [], failure: undefined, done: resume })
      this.socket.write(messages)
    })

  readonly isOutsideTransaction = (): boolean => this.status === outsideTransaction

  readonly passed = (): Passed => ({
    columns: this.columns,
    command: this.command,
    stage: this.stage
  })

  readonly asText = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.acquireUseRelease(
      Effect.sync(() => {
        this.text = true
        this.columns = []
        this.command = ""
        this.stage = "unsent"
      }),
      () => effect,
      () =>
        Effect.sync(() => {
          this.text = false
        })
    )

  readonly receive = (arrived: Buffer): void => {
    const chunk = this.held === undefined ? arrived : Buffer.concat([this.held, arrived])
    this.held = undefined
    let done = 0
    let at = Math.min(this.passing, chunk.length)
    this.passing -= at
    while (at < chunk.length) {
      const rest = chunk.length - at
      const size = rest < headerBytes ? undefined : 1 + chunk.readUInt32BE(at + 1)
      const read = size !== undefined && this.isRead(chunk[at])
      if (size === undefined || (read && rest < size)) {
        this.held = Buffer.from(chunk.subarray(at))
        break
      }
      if (read) {
        const frame = chunk.subarray(at, at + size)
        const [exchange] = this.exchanges
        if (exchange !== undefined) {
          if (at > done) this.deliver(chunk.subarray(done, at))
          this.answered(exchange, frame)
          done = at + size
        } else if (frame[0] === ReadyForQuery) {
          this.status = frame[headerBytes]
          this.stage = "answered"
        } else if (frame[0] === CommandComplete) {
          this.command = frame.toString("utf8", headerBytes, size - 1)
          this.status = undefined
        } else if (frame[0] === ErrorResponse) {
          this.command = ""
          this.stage = "answered"
        } else {
          if (at > done) this.deliver(chunk.subarray(done, at))
          this.deliver(this.describe(frame))
          done = at + size
        }
      }
      if (rest < size) this.passing = size - rest
      at = Math.min(at + size, chunk.length)
    }
    if (at > done) this.deliver(done === 0 && at === chunk.length ? chunk : chunk.subarray(done, at))
  }

  private answered(exchange: Exchange, frame: Buffer): void {
    if (frame[0] === DataRow) exchange.rows.push(valuesOf(frame))
    else if (frame[0] === ErrorResponse) exchange.failure ??= new ExchangeFailed(errorOf(frame))
    else if (frame[0] === ReadyForQuery) {
      this.status = frame[headerBytes]
      exchange.answers.push(exchange.rows)
      exchange.rows = []
      if (exchange.answers.length < exchange.cycles) return
      this.exchanges.shift()
      exchange.done(exchange.failure === undefined ? Effect.succeed(exchange.answers) : Effect.fail(exchange.failure))
    }
  }

  private isRead(type: number | undefined): boolean {
    if (this.exchanges.length > 0) return !unasked.has(type)
    return type === ReadyForQuery || (this.text && readAsText.has(type))
  }

  private describe(frame: Buffer): Buffer {
    const count = frame.readUInt16BE(headerBytes)
    const columns: Array<Column> = []
    const parts: Array<Buffer> = []
    let at = headerBytes + 2
    for (let index = 0; index < count; index++) {
      const end = frame.indexOf(0, at)
      columns.push({ name: frame.toString("utf8", at, end), typeId: frame.readUInt32BE(end + 7) })
      at = end + 19
      const field = Buffer.alloc(18)
      field.writeUInt32BE(textTypeId, 6)
      field.writeInt16BE(-1, 10)
      field.writeInt32BE(-1, 12)
      field.writeInt16BE(1, 16)
      parts.push(Buffer.from(`${index}\0`), field)
    }
    this.columns = columns
    const header = Buffer.alloc(headerBytes + 2)
    const body = Buffer.concat(parts)
    header[0] = RowDescription
    header.writeUInt32BE(6 + body.length, 1)
    header.writeUInt16BE(count, headerBytes)
    return Buffer.concat([header, body])
  }
}

/** Turns the last field of each `Bind` in an outgoing batch, "one result format: binary", into "text". */
const askForText = (batch: Uint8Array): void => {
  const view = Buffer.from(batch.buffer, batch.byteOffset, batch.byteLength)
  for (let at = 0; at + headerBytes <= view.length;) {
    const end = at + 1 + view.readUInt32BE(at + 1)
    if (view[at] === Bind && end <= view.length) view.writeUInt16BE(0, end - 2)
    at = end
  }
}
