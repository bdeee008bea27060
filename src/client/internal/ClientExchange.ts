/**
 * One request on one connection, and its answer.
 *
 * An exchange is over when the last byte of its answer was taken in, or with its failure, which destroys its connection at once.
 * The body waits here for its reader: up to {@link readAhead} bytes of it, and the rest in the network. No fiber and no
 * timer belongs to it, and no Node stream unless it is to be decompressed.
 */
import type * as Undici from "@effect/platform-node/Undici"
import * as Duration from "effect/Duration"
import type * as Deadlines from "../../lifetime/Deadlines.ts"
import { BadRequest, BadResponse, ClientError, Closed, NetworkError, Timeout } from "../ClientError.ts"
import * as ClientDecoding from "./ClientDecoding.ts"
import type { Limits } from "./ClientSessionOptions.ts"
import { type ClientSockets, ConnectFailure, Waiter } from "./ClientSockets.ts"

/** What all exchanges of a session have in common. */
export interface Ground {
  readonly limits: Limits
  readonly sockets: ClientSockets
  readonly silenceDeadlines: Deadlines.Deadlines
  readonly headersDeadlines: Deadlines.Deadlines
  readonly bodyDeadlines: Deadlines.Deadlines
}

/** Who is told. `head` or `failed` is called once; `over` is called once and last, before the body was read. */
export interface Listener {
  /** No byte of an answer came for `silenceTimeout` on a connection that was used before. */
  readonly silent: (exchange: Exchange) => void
  readonly head: (exchange: Exchange) => void
  readonly failed: (error: ClientError) => void
  readonly over: (exchange: Exchange) => void
}

/** A body that nobody reads waits in the network beyond so many bytes. */
const readAhead = 64 * 1024

/** Codes by which undici says that a request is no request. */
const refusals: ReadonlySet<string | undefined> = new Set([
  "UND_ERR_INVALID_ARG",
  "UND_ERR_NOT_SUPPORTED",
  "UND_ERR_REQ_CONTENT_LENGTH_MISMATCH"
])

const isBroken = ({ reason }: ClientError): boolean => reason._tag === "NetworkError" && reason.phase === "headers"

const gone = new Error("The request was given up")

/** The stream of a body failed. What it failed with is for the maker of the stream, and may hold a secret. */
export class BodyFailure extends Error {}

type Controller = Undici.Dispatcher.DispatchController
type IncomingHeaders = Record<string, string | Array<string> | undefined>

export class Exchange extends Waiter implements Undici.Dispatcher.DispatchHandler {
  readonly origin: string
  status = 0
  headers: IncomingHeaders = {}
  /** Why there is no more of it. */
  failure: ClientError | undefined
  /** Nothing more will come. */
  override isOver = false
  /** Somebody reads it, or did. */
  isTaken = false
  /** What came, decoded, and was not taken yet. */
  pieces: Array<Uint8Array> = []

  readonly ground: Ground
  readonly listener: Listener
  readonly isBodiless: boolean
  controller: Controller | undefined
  decoder: ClientDecoding.Decoder | undefined
  codings: ClientDecoding.Codings | undefined
  waiting = 0
  total = 0
  isWhole = false
  isUnwanted = false
  isPaused = false
  isSent = false
  /** When it got its connection. */
  startedAt: number | undefined
  /** The connection had an answer before. */
  isReused = false
  hasHead = false
  isTold = false
  reader: (() => void) | undefined
  forget: (() => void) | undefined
  forgetSilence: (() => void) | undefined

  constructor(ground: Ground, origin: string, method: string, listener: Listener) {
    super()
    this.ground = ground
    this.origin = origin
    this.isBodiless = method === "HEAD"
    this.listener = listener
  }

  start(options: Undici.Dispatcher.DispatchOptions): void {
    this.ground.sockets.dispatcher.dispatch(options, this)
  }

  /** Gives it up: its connection is destroyed at once. Of no effect when it is over. */
  fail(error: ClientError): void {
    if (this.isOver) return
    this.failure = error
    if (error.reason._tag === "Timeout" || (this.isReused && isBroken(error))) this.condemn()
    this.finish()
    if (this.controller === undefined) this.leave()
    else this.controller.abort(gone)
  }

  /** Like {@link fail} for an answer whose head nobody is to have. */
  refuse(error: ClientError): void {
    this.isTold = false
    this.fail(error)
  }

  /** Like {@link fail} for one whose listener needs not be told. */
  abandon(): void {
    this.isTold = true
    this.fail(this.closed())
  }

  /** The body is of no interest. One that says that it is short is let in, so that its connection can be used again. */
  discard(): void {
    this.isUnwanted = true
    this.pieces = []
    if (Number(this.headers["content-length"]) <= readAhead) {
      this.go()
      this.watch()
    } else this.fail(this.closed())
  }

  /** Calls back once, when there is a piece or an end. Without back-pressure when all of it is wanted. */
  read(reader: () => void, whole: boolean): void {
    this.isWhole = whole
    this.isTaken = true
    if (this.isOver || (!whole && this.pieces.length > 0)) return reader()
    this.reader = reader
    this.go()
    this.watch()
  }

  /** Takes what is there. */
  take(): Array<Uint8Array> {
    const pieces = this.pieces
    this.pieces = []
    this.waiting = 0
    return pieces
  }

  closed(): ClientError {
    return new ClientError({ reason: new Closed({ client: `The answer of ${this.origin}` }) })
  }

  onRequestStart(controller: Controller): void {
    // Given up while it waited for a connection: thrown here, the connection is left to the others.
    if (this.isOver) throw gone
    this.controller = controller
    this.startedAt = this.ground.sockets.nowMillis()
    this.isReused = this.line?.heardAt !== undefined
  }

  onRequestSent(): void {
    this.isSent = true
    if (this.hasHead || this.isOver) return
    this.forget = this.ground.headersDeadlines.add(() => this.late("headers", this.ground.limits.headersTimeout))
    if (this.isReused) this.forgetSilence = this.ground.silenceDeadlines.add(() => this.silent())
  }

  onResponseStart(_: Controller, status: number, headers: IncomingHeaders): void {
    this.forgetSilence?.()
    if (status < 200 || this.isOver) return
    this.forget?.()
    this.forget = undefined
    this.hasHead = true
    this.status = status
    this.headers = headers
    if (!this.isBodiless && status !== 204 && status !== 304) {
      const codings = ClientDecoding.codingsOf(textOf(headers["content-encoding"]))
      if (typeof codings === "string") return this.unusable(codings)
      this.codings = codings
      if (codings === undefined && Number(headers["content-length"] ?? 0) > this.ground.limits.maxResponseBytes) {
        return this.tooLarge()
      }
    }
    this.isTold = true
    this.listener.head(this)
  }

  onResponseData(_: Controller, bytes: Uint8Array): void {
    if (this.isOver) return
    if (this.reader !== undefined || this.isUnwanted) this.watch()
    // It is no longer than it says: undici sees to that.
    if (this.isUnwanted) return
    if (this.codings === undefined) {
      this.decoded(bytes)
    } else {
      this.decoder ??= ClientDecoding.make(this.codings, bytes[0] ?? 0, this)
      if (!this.decoder.write(bytes)) this.pause()
    }
  }

  onResponseEnd(): void {
    if (this.line !== undefined) this.line.heardAt = this.ground.sockets.nowMillis()
    if (this.decoder === undefined) return this.ended()
    this.unwatch()
    this.decoder.end()
  }

  onResponseError(_: Controller | null, error: Error): void {
    if (!this.isOver) this.fail(new ClientError({ reason: this.reasonOf(error) }))
  }

  decoded(bytes: Uint8Array): void {
    if (this.isOver) return
    this.total += bytes.length
    if (this.total > this.ground.limits.maxResponseBytes) return this.tooLarge()
    this.pieces.push(bytes)
    this.waiting += bytes.length
    if (this.isWhole) return
    if (this.waiting >= readAhead) {
      this.decoder?.pause()
      this.pause()
    }
    this.wake()
  }

  ended(): void {
    if (!this.isOver) this.finish()
  }

  failed(problem: string): void {
    this.unusable(problem)
  }

  drained(): void {
    if (this.waiting < readAhead || this.isWhole) this.go()
  }

  private go(): void {
    if (this.isOver) return
    this.decoder?.resume()
    if (!this.isPaused) return
    this.isPaused = false
    if (this.reader !== undefined) this.watch()
    this.controller?.resume()
  }

  private pause(): void {
    this.isPaused = true
    this.unwatch()
    this.controller?.pause()
  }

  private finish(): void {
    this.isOver = true
    this.forgetSilence?.()
    this.unwatch()
    if (this.failure !== undefined) this.decoder?.destroy()
    if (this.failure !== undefined && !this.isTold) this.listener.failed(this.failure)
    this.listener.over(this)
    this.wake()
  }

  private wake(): void {
    const reader = this.reader
    this.reader = undefined
    this.unwatch()
    reader?.()
  }

  private watch(): void {
    this.unwatch()
    this.forget = this.ground.bodyDeadlines.add(() => this.late("body", this.ground.limits.bodyTimeout))
  }

  private unwatch(): void {
    this.forget?.()
    this.forget = undefined
  }

  private late(phase: "headers" | "body", limit: Duration.Duration): void {
    this.fail(
      new ClientError({ reason: new Timeout({ origin: this.origin, phase, limitMillis: Duration.toMillis(limit) }) })
    )
  }

  private silent(): void {
    this.condemn()
    this.listener.silent(this)
  }

  // What cut this connection off is likely to have cut off those, too, that were not heard of since.
  private condemn(): void {
    if (this.startedAt !== undefined) this.ground.sockets.condemn(this.origin, this.startedAt)
  }

  private tooLarge(): void {
    this.unusable(
      `its body has more than the ${this.ground.limits.maxResponseBytes} bytes of \`maxResponseBytes\`; raise it, or ask for less.`
    )
  }

  private unusable(problem: string): void {
    this.fail(new ClientError({ reason: new BadResponse({ origin: this.origin, problem }) }))
  }

  private reasonOf(error: Error & { readonly code?: string }): ClientError["reason"] {
    const { origin } = this
    if (error instanceof ConnectFailure) {
      const { code, phase } = error
      return phase === "timeout"
        ? new Timeout({ origin, phase: "connect", limitMillis: Duration.toMillis(this.ground.limits.connectTimeout) })
        : new NetworkError({ origin, phase, code })
    }
    if (error instanceof BodyFailure) {
      return new BadRequest({ problem: "its body, a stream, failed before its end. See to the stream." })
    }
    const { code } = error
    if (refusals.has(code)) {
      return new BadRequest({ problem: "its method, its path or one of its headers is not what HTTP allows" })
    }
    if (code === "UND_ERR_DESTROYED" || code === "UND_ERR_CLOSED") return new Closed({ client: "The client session" })
    if (error.name === "HTTPParserError") return new BadResponse({ origin, problem: "it is not valid HTTP" })
    if (code === "UND_ERR_RES_CONTENT_LENGTH_MISMATCH") {
      return new BadResponse({ origin, problem: "its length is not what it says" })
    }
    if (code === "UND_ERR_HEADERS_OVERFLOW") return new BadResponse({ origin, problem: "its headers are too large" })
    const phase = this.hasHead ? "body" : this.isSent ? "headers" : this.controller === undefined ? "connect" : "send"
    return new NetworkError({ origin, phase, code })
  }
}

const textOf = (header: string | Array<string> | undefined): string | undefined =>
  Array.isArray(header) ? header.join(",") : header
