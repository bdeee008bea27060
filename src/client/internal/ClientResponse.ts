/**
 * The answer to a request of a `ClientSession`. Its body is taken in once, whole or as a stream, and can be asked for again where
 * it was taken whole. A reader that lets go of a body in the middle, or is interrupted there, destroys the connection it came on.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import { DecodeError, HttpClientError, StatusCodeError } from "effect/http/HttpClientError"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as UrlParams from "effect/http/UrlParams"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type * as Schema from "effect/Schema"
import type * as Socket from "effect/socket/Socket"
import * as Stream from "effect/Stream"
import { BadResponse, ClientError } from "../ClientError.ts"
import type { Exchange } from "./ClientExchange.ts"

type Bytes = Effect.Effect<Uint8Array, HttpClientError>

const utf8 = new TextDecoder()
const formUtf8 = new TextDecoder("utf-8", { ignoreBOM: true })

const joined = (pieces: ReadonlyArray<Uint8Array>): Uint8Array => {
  const [first, second] = pieces
  return first !== undefined && second === undefined ? first : Buffer.concat(pieces)
}

/** What an error or an answer says of its request: the method and the origin. */
export const named = ({ method, url }: HttpClientRequest.HttpClientRequest): HttpClientRequest.HttpClientRequest =>
  HttpClientRequest.makeWith(
    method,
    URL.parse(url)?.origin ?? "the server",
    UrlParams.empty,
    Option.none(),
    Headers.empty,
    HttpBody.empty
  )

export class ClientResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse, Pipeable {
  readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: typeof HttpClientResponse.TypeId = HttpClientResponse.TypeId
  private readonly original: HttpClientRequest.HttpClientRequest
  private readonly exchange: Exchange
  private readonly at: URL
  private whole: Uint8Array | undefined
  private isStreamed = false
  private readers: Array<() => void> | undefined
  private knownHeaders: Headers.Headers | undefined
  private knownCookies: Cookies.Cookies | undefined

  constructor(request: HttpClientRequest.HttpClientRequest, exchange: Exchange, at: URL) {
    super()
    this.original = request
    this.exchange = exchange
    this.at = at
  }

  /** By its method and its origin: what is shown of an answer, or in an error about it, holds no secret. */
  get request(): HttpClientRequest.HttpClientRequest {
    return named(this.original)
  }

  get url(): string {
    const { href, hash } = this.at
    return hash === "" ? href : href.slice(0, -hash.length)
  }

  get status(): number {
    return this.exchange.status
  }

  /** As the body is handed out: decompressed. */
  get headers(): Headers.Headers {
    if (this.knownHeaders !== undefined) return this.knownHeaders
    const headers = Headers.fromInput(this.exchange.headers)
    return (this.knownHeaders =
      this.exchange.codings === undefined
        ? headers
        : Headers.removeMany(headers, ["content-encoding", "content-length"]))
  }

  get cookies(): Cookies.Cookies {
    if (this.knownCookies !== undefined) return this.knownCookies
    const set = this.exchange.headers["set-cookie"]
    return (this.knownCookies = set === undefined ? Cookies.empty : Cookies.fromSetCookie(set))
  }

  get remoteAddress(): Option.Option<string> {
    return Option.none()
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, HttpClientError> {
    return Effect.map(this.bytes, (bytes) => new Uint8Array(bytes).buffer)
  }

  get text(): Effect.Effect<string, HttpClientError> {
    return Effect.map(this.bytes, (bytes) => utf8.decode(bytes))
  }

  get json(): Effect.Effect<Schema.Json, HttpClientError> {
    return this.parsed("JSON", (text): Schema.Json => (text === "" ? null : JSON.parse(text)))
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, HttpClientError> {
    // A leading "?" is form data; URLSearchParams would drop it as the beginning of a query.
    return Effect.map(this.bytes, (bytes) =>
      UrlParams.fromInput(new URLSearchParams(formUtf8.decode(bytes).replace(/^\?/, "%3F")))
    )
  }

  get formData(): Effect.Effect<FormData, HttpClientError> {
    return Effect.flatMap(this.arrayBuffer, (body) =>
      Effect.tryPromise({
        try: () => new Response(body, { headers: this.headers }).formData(),
        catch: () => this.bad("its body is not a form")
      })
    )
  }

  /** Its pieces as they come. Letting go of it before its end destroys the connection. */
  get stream(): Stream.Stream<Uint8Array, HttpClientError> {
    const claim = Effect.suspend(() => {
      if (this.isStreamed || this.readers !== undefined) {
        return Effect.fail(this.bad("its body was taken in before; take it in once, or whole"))
      }
      this.isStreamed = true
      this.exchange.isTaken = true
      return Effect.void
    })
    const release = Effect.sync(() => this.exchange.fail(this.exchange.closed()))
    return Stream.suspend(() =>
      this.whole === undefined
        ? Stream.unwrap(
            Effect.as(
              Effect.acquireRelease(claim, () => release),
              Stream.fromPull(Effect.succeed(this.pull))
            )
          )
        : Stream.make(this.whole)
    )
  }

  /** There is none: a `ClientSession` sends no upgrade. */
  get upgrade(): Effect.Effect<Socket.Socket, HttpClientError> {
    return Effect.fail(
      new HttpClientError({
        reason: new StatusCodeError({ request: this.request, response: this, description: "not an upgrade" })
      })
    )
  }

  override toJSON(): unknown {
    return { _id: "effect/http/HttpClientResponse", request: this.request.toJSON(), status: this.status }
  }

  pipe() {
    return pipeArguments(this, arguments)
  }

  private parsed<A>(what: string, parse: (text: string) => A): Effect.Effect<A, HttpClientError> {
    return Effect.flatMap(this.bytes, (bytes) => {
      try {
        return Effect.succeed(parse(utf8.decode(bytes)))
      } catch {
        return Effect.fail(this.bad(`its body is not ${what}`))
      }
    })
  }

  private get bytes(): Bytes {
    return Effect.suspend(() => {
      if (this.whole === undefined && !this.isStreamed && this.exchange.isOver && this.exchange.failure === undefined) {
        this.whole = joined(this.exchange.take())
      }
      return this.whole === undefined ? this.wait : Effect.succeed(this.whole)
    })
  }

  private get wait(): Bytes {
    return Effect.callback((resume) => {
      const done = () => resume(this.outcome())
      if (this.whole !== undefined || this.isStreamed) return done()
      if (this.readers !== undefined) {
        this.readers.push(done)
      } else {
        const readers = (this.readers = [done])
        const look = () => {
          if (!this.exchange.isOver) return this.exchange.read(look, true)
          if (this.exchange.failure === undefined) this.whole = joined(this.exchange.take())
          this.readers = undefined
          for (const reader of readers) reader()
        }
        this.exchange.read(look, true)
      }
      // The last one who reads takes the connection with him.
      return Effect.sync(() => {
        const { readers } = this
        if (readers === undefined) return
        readers.splice(readers.indexOf(done), 1)
        if (readers.length === 0) this.exchange.fail(this.exchange.closed())
      })
    })
  }

  private outcome(): Bytes {
    if (this.whole !== undefined) return Effect.succeed(this.whole)
    const { failure } = this.exchange
    return Effect.fail(
      failure === undefined ? this.bad("its body was taken in as a stream before") : this.failed(failure)
    )
  }

  private readonly pull: Effect.Effect<[Uint8Array, ...Array<Uint8Array>], HttpClientError | Cause.Done> =
    Effect.callback((resume) => {
      const { exchange } = this
      const look = () => {
        const [first, ...rest] = exchange.take()
        if (first !== undefined) return resume(Effect.succeed([first, ...rest]))
        if (!exchange.isOver) return exchange.read(look, false)
        resume(exchange.failure === undefined ? Cause.done() : Effect.fail(this.failed(exchange.failure)))
      }
      exchange.read(look, false)
    })

  private bad(problem: string): HttpClientError {
    return this.failed(new ClientError({ reason: new BadResponse({ origin: this.exchange.origin, problem }) }))
  }

  private failed(cause: ClientError): HttpClientError {
    return new HttpClientError({ reason: new DecodeError({ request: this.request, response: this, cause }) })
  }
}
