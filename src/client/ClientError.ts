/**
 * Why a request to another service, or the token it needs, could not be had. One error for the area; the `reason` says which
 * case it is. No reason holds a secret: servers are named by their origin, never by a whole URL, and no header is repeated.
 *
 * The ordinary `HttpClient` of a `ClientSession` fails with `HttpClientError`, as every `HttpClient` does; the error here is the
 * `cause` of its reason, and {@link ClientError.from} gives it back.
 */
import type { HttpClientError } from "effect/http/HttpClientError"
import * as Schema from "effect/Schema"

/** Where on its way an exchange was: the first thing that was not yet done. */
export const Phase = Schema.Literals(["resolve", "connect", "tls", "send", "headers", "body"])
export type Phase = typeof Phase.Type

const undone: Record<Phase, string> = {
  resolve: "its name could not be resolved. Check the host name and the DNS server.",
  connect: "no connection could be made. Check that it runs and may be reached from here.",
  tls: "no secure connection could be agreed on. Check its certificate, and the `tls` options of the session.",
  send: "the connection broke before the request was sent.",
  headers: "the connection broke before the answer began.",
  body: "the connection broke before the answer was complete."
}

/** The network, or the server's end of a connection, failed. Retrying later may help. */
export class NetworkError extends Schema.TaggedError<NetworkError>("holdfast/client/ClientError/NetworkError")(
  "NetworkError",
  {
    origin: Schema.String,
    phase: Phase,
    /** What the system calls it, such as `ECONNREFUSED`. */
    code: Schema.UndefinedOr(Schema.String)
  }
) {
  override get message(): string {
    return `${this.origin} failed us${this.code === undefined ? "" : ` (${this.code})`}: ${undone[this.phase]}`
  }
}

/** A time limit of the session passed. The connection of the request is closed. */
export class Timeout extends Schema.TaggedError<Timeout>("holdfast/client/ClientError/Timeout")("Timeout", {
  origin: Schema.String,
  phase: Schema.Literals(["connect", "headers", "body", "total"]),
  limitMillis: Schema.Finite
}) {
  override get message(): string {
    const option = this.phase === "total" ? "timeout" : `${this.phase}Timeout`
    return `${this.origin} took longer than the ${this.limitMillis} ms of \`${option}\`. Ask again later, or raise it.`
  }
}

/** The client, or what provides its tokens, is closed or closing. */
export class Closed extends Schema.TaggedError<Closed>("holdfast/client/ClientError/Closed")("Closed", {
  client: Schema.String
}) {
  override get message(): string {
    return (
      `${this.client} is closed. Use it within the lifetime of the layer or scope that provides it; ` +
      `a worker or a task that outlives it makes its own.`
    )
  }
}

/** The request cannot be sent as it is; nothing was. */
export class BadRequest extends Schema.TaggedError<BadRequest>("holdfast/client/ClientError/BadRequest")("BadRequest", {
  problem: Schema.String
}) {
  override get message(): string {
    return `The request was not sent: ${this.problem}`
  }
}

/** The session's circuit breaker or rate limit held the request back; nothing was sent. */
export class HeldBack extends Schema.TaggedError<HeldBack>("holdfast/client/ClientError/HeldBack")("HeldBack", {
  origin: Schema.String,
  by: Schema.Literals(["circuit breaker", "rate limit"]),
  /** Undefined where nobody knows, such as when the store of the limit is down. */
  retryAfterMillis: Schema.UndefinedOr(Schema.Finite)
}) {
  override get message(): string {
    const when = this.retryAfterMillis === undefined ? "later" : `in ${Math.ceil(this.retryAfterMillis)} ms`
    return `A request to ${this.origin} was held back by the ${this.by}. Try again ${when}.`
  }
}

/** The answer is not what the protocol, or a limit of the session, says. */
export class BadResponse extends Schema.TaggedError<BadResponse>("holdfast/client/ClientError/BadResponse")(
  "BadResponse",
  { origin: Schema.String, problem: Schema.String }
) {
  override get message(): string {
    return `The answer of ${this.origin} cannot be used: ${this.problem}`
  }
}

/** The server will have none of our credentials: to ask again with the same is of no use. */
export class TokenRefused extends Schema.TaggedError<TokenRefused>("holdfast/client/ClientError/TokenRefused")(
  "TokenRefused",
  {
    origin: Schema.String,
    status: Schema.Int,
    /** What RFC 6749 calls it, such as `invalid_grant`, where the server says one of its words. */
    code: Schema.UndefinedOr(Schema.String)
  }
) {
  override get message(): string {
    const answer = this.code === undefined ? String(this.status) : `${this.status}, ${this.code}`
    return `${this.origin} refused the credentials (${answer}). Check them: the same will be refused again.`
  }
}

/** The token that was there, as of the failure. Zero is the moment of it; what is over is negative. */
export const LastToken = Schema.Struct({ ageMillis: Schema.Finite, validForMillis: Schema.Finite })

/** There is no new token: who issues or keeps them did not answer. Retrying later may help. */
export class RefreshFailed extends Schema.TaggedError<RefreshFailed>("holdfast/client/ClientError/RefreshFailed")(
  "RefreshFailed",
  {
    /** The token server, or where tokens are kept. */
    origin: Schema.String,
    problem: Schema.String,
    last: Schema.UndefinedOr(LastToken)
  }
) {
  override get message(): string {
    return `No new token from ${this.origin}: ${this.problem}. ${standing(this.last)} Try again later.`
  }
}

const seconds = (millis: number) => `${Math.round(Math.abs(millis) / 1000)} s`

const standing = (last: typeof LastToken.Type | undefined): string => {
  if (last === undefined) return "There is no older one."
  const { ageMillis, validForMillis } = last
  return validForMillis > 0
    ? `The last one, ${seconds(ageMillis)} old, is good for another ${seconds(validForMillis)}.`
    : `The last one, ${seconds(ageMillis)} old, is over since ${seconds(validForMillis)}.`
}

/** The configuration makes no sense; `field` names what to change. */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>("holdfast/client/ClientError/InvalidConfig")(
  "InvalidConfig",
  { field: Schema.String, problem: Schema.String }
) {
  override get message(): string {
    return `Invalid client configuration: ${this.field} ${this.problem}`
  }
}

/** The error of everything under `holdfast/client`. */
export class ClientError extends Schema.TaggedError<ClientError>("holdfast/client/ClientError")("ClientError", {
  reason: Schema.Union([
    NetworkError,
    Timeout,
    Closed,
    BadRequest,
    HeldBack,
    BadResponse,
    TokenRefused,
    RefreshFailed,
    InvalidConfig
  ])
}) {
  override get message(): string {
    return this.reason.message
  }

  /** What an `HttpClientError` means here: its cause where the client is ours, the nearest reason for any other client. */
  static from(error: HttpClientError): ClientError {
    const { reason, request } = error
    if (reason.cause instanceof ClientError) return reason.cause
    const origin = URL.parse(request.url)?.origin ?? "the server"
    switch (reason._tag) {
      case "TransportError":
        return new ClientError({ reason: new NetworkError({ origin, phase: "headers", code: undefined }) })
      case "EncodeError":
        return new ClientError({ reason: new BadRequest({ problem: "its body could not be encoded" }) })
      case "InvalidUrlError":
        return new ClientError({ reason: new BadRequest({ problem: "its URL is not valid" }) })
      case "StatusCodeError": {
        const problem = `its status is ${reason.response.status}, which was not expected`
        return new ClientError({ reason: new BadResponse({ origin, problem }) })
      }
      case "DecodeError":
        return new ClientError({ reason: new BadResponse({ origin, problem: "its body could not be read" }) })
      case "EmptyBodyError":
        return new ClientError({ reason: new BadResponse({ origin, problem: "it has no body" }) })
    }
  }
}
