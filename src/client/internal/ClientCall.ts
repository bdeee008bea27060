/**
 * A request as the caller sees it: one exchange, or several where the server redirects or a failure is retried.
 *
 * A call is over when the body of its answer was taken in, with its failure, or when it was given up. It stands in the session's
 * `running` until then, and `timeout` runs until then.
 */
import type * as Undici from "@effect/platform-node/Undici"
import * as Duration from "effect/Duration"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type * as Deadlines from "../../lifetime/Deadlines.ts"
import { BadRequest, BadResponse, ClientError, Closed, Timeout } from "../ClientError.ts"
import * as ClientDecoding from "./ClientDecoding.ts"
import { Exchange, type Ground, type Listener } from "./ClientExchange.ts"
import type { RetryBudget } from "./ClientRetries.ts"
import * as ClientRetries from "./ClientRetries.ts"

/** What all calls of a session have in common. */
export interface Home extends Ground {
  readonly totalDeadlines: Deadlines.Deadlines
  readonly running: Set<Call>
  readonly budget: RetryBudget | undefined
  /** Calls back after so many milliseconds of the program's clock, unless it is taken back. */
  readonly after: (millis: number, then: () => void) => () => void
  readonly nowMillis: () => number
  /** Called when the last call of `running` is over. */
  readonly idle: () => void
}

/** A body as undici takes it. `isReplayable` when it can be sent again. */
export interface Body {
  readonly content: Exclude<Undici.Dispatcher.DispatchOptions["body"], undefined>
  readonly isReplayable: boolean
}

/** Who asked. One of the two is called, once. */
export interface Caller {
  readonly answered: (exchange: Exchange, url: URL) => void
  readonly failed: (error: ClientError) => void
}

/** Headers that are for one server only (RFC 9110, 15.4). */
const credentials: ReadonlyArray<string> = ["authorization", "cookie", "proxy-authorization"]
const bodyHeaders: ReadonlyArray<string> = [
  "content-encoding",
  "content-language",
  "content-length",
  "content-location",
  "content-type",
  "transfer-encoding"
]

const bodiless: Body = { content: null, isReplayable: true }

export class Call implements Listener {
  private readonly home: Home
  private readonly caller: Caller
  private readonly headers: Record<string, string>
  private method: string
  private body: Body
  private url: URL
  private redirects = 0
  private retries = 0
  private exchange: Exchange | undefined
  private readonly discarded: Array<Exchange> = []
  private forgetDeadline: (() => void) | undefined
  private forgetPause: (() => void) | undefined
  /** What tells a server the trace of this call. */
  private readonly traceHeaders: (() => Record<string, string>) | undefined
  private isAnswered = false
  private isOver = false
  /** Called when it is over. */
  onOver: (() => void) | undefined

  constructor(
    home: Home,
    request: HttpClientRequest,
    url: URL,
    body: Body,
    caller: Caller,
    traceHeaders?: () => Record<string, string>
  ) {
    this.home = home
    this.caller = caller
    this.method = request.method
    this.headers = { ...request.headers }
    this.headers["accept-encoding"] ??= ClientDecoding.accepted
    this.url = url
    this.body = body
    this.traceHeaders = traceHeaders
  }

  start(): void {
    this.home.running.add(this)
    this.home.budget?.deposit()
    this.forgetDeadline = this.home.totalDeadlines.add(() => this.late())
    this.send()
  }

  /** Gives it up, wherever it is. Its connection is destroyed at once. */
  fail(error: ClientError): void {
    if (this.isOver) return
    const { exchange } = this
    if (exchange === undefined || exchange.isOver) this.failed(error)
    else exchange.fail(error)
  }

  head(exchange: Exchange): void {
    const { cookies, maxRedirects } = this.home.limits
    const set = cookies === undefined ? undefined : exchange.headers["set-cookie"]
    if (set !== undefined) cookies?.keep(this.url, Array.isArray(set) ? set : [set])
    const { location } = exchange.headers
    if (maxRedirects > 0 && location !== undefined && isRedirect(exchange.status)) {
      return this.redirect(exchange, Array.isArray(location) ? location : [location])
    }
    if (ClientRetries.isTransientStatus(exchange.status)) {
      const asked = ClientRetries.retryAfterMillis(exchange.headers, this.home.nowMillis())
      const wait = this.waitBeforeRetry(asked)
      if (wait !== undefined) {
        this.leave(exchange)
        return this.again(wait)
      }
    }
    this.isAnswered = true
    // What came with the head is there then, and nobody's work is done inside the parser of undici.
    queueMicrotask(() => this.caller.answered(exchange, this.url))
  }

  failed(error: ClientError): void {
    if (this.isOver) return
    const wait = error.reason._tag === "NetworkError" ? this.waitBeforeRetry(0) : undefined
    if (wait !== undefined) return this.again(wait)
    this.end(error)
    if (this.isAnswered) return
    this.isAnswered = true
    this.caller.failed(error)
  }

  silent(exchange: Exchange): void {
    const wait = this.waitBeforeRetry(0)
    if (wait === undefined) return
    exchange.abandon()
    this.again(wait)
  }

  over(exchange: Exchange): void {
    // Otherwise it was redirected, is retried, or failed before its answer.
    if (this.isAnswered && exchange === this.exchange) this.end(exchange.failure)
  }

  private end(error: ClientError | undefined): void {
    if (this.isOver) return
    this.isOver = true
    this.forgetDeadline?.()
    this.forgetPause?.()
    for (const exchange of this.discarded) exchange.fail(error ?? exchange.closed())
    this.onOver?.()
    const { running } = this.home
    running.delete(this)
    if (running.size === 0) this.home.idle()
  }

  private send(): void {
    const { home, url } = this
    const exchange = new Exchange(home, url.origin, this.method, this)
    this.exchange = exchange
    exchange.start({
      origin: url.origin,
      path: url.pathname + url.search,
      method: this.method,
      headers: this.headersFor(url),
      body: this.body.content,
      reset: home.limits.reuse === "none"
    })
  }

  private headersFor(url: URL): Record<string, string> {
    const { cookies, traceOrigins } = this.home.limits
    const kept = cookies?.cookieFor(url)
    const trace = traceOrigins.has(url.origin) ? this.traceHeaders?.() : undefined
    if (kept === undefined && trace === undefined) return this.headers
    const headers = { ...trace, ...this.headers }
    const own = headers["cookie"]
    if (kept !== undefined) headers["cookie"] = own === undefined ? kept : `${own}; ${kept}`
    return headers
  }

  private redirect(exchange: Exchange, [location = "", ...others]: ReadonlyArray<string>): void {
    const { maxRedirects } = this.home.limits
    const { origin } = this.url
    const refuse = (problem: string) =>
      exchange.refuse(new ClientError({ reason: new BadResponse({ origin, problem }) }))
    if (others.some((other) => other !== location)) return refuse("it redirects to more than one place")
    const to = URL.parse(utf8(location), this.url.href)
    if (to === null || !isHttp(to)) return refuse("it redirects to what is no http or https URL")
    if (this.redirects === maxRedirects) {
      return refuse(
        `it redirects once more after ${maxRedirects} redirects, for ever perhaps. See where to, or raise \`maxRedirects\`.`
      )
    }
    const toGet = exchange.status === 303 ? this.method !== "HEAD" : exchange.status < 303 && this.method === "POST"
    if (!toGet && !this.body.isReplayable)
      return refuse("it redirects a body that is a stream, which cannot be sent again")
    this.redirects++
    if (toGet) {
      this.method = "GET"
      this.body = bodiless
      this.drop(bodyHeaders)
    }
    // A downgrade to http is another origin, too.
    if (to.origin !== origin) this.drop(credentials)
    this.drop(["host"])
    this.leave(exchange)
    // What a server puts there is nobody's credentials, and is shown to nobody.
    to.username = to.password = ""
    this.url = to
    this.send()
  }

  private drop(names: ReadonlyArray<string>): void {
    for (const name of names) delete this.headers[name]
  }

  private leave(exchange: Exchange): void {
    exchange.discard()
    if (!exchange.isOver) this.discarded.push(exchange)
  }

  private waitBeforeRetry(asked: number): number | undefined {
    const { retry } = this.home.limits
    if (retry === undefined || this.isAnswered || this.retries >= retry.times) return undefined
    if (!this.body.isReplayable || !ClientRetries.isIdempotent(this.method) || asked > retry.maxDelay) return undefined
    if (this.home.budget?.withdraw() !== true) return undefined
    this.retries++
    return Math.max(asked, ClientRetries.delayMillis(retry, this.retries))
  }

  private again(wait: number): void {
    this.forgetPause = this.home.after(wait, () => {
      this.forgetPause = undefined
      this.send()
    })
  }

  private late(): void {
    const limitMillis = Duration.toMillis(this.home.limits.timeout)
    this.fail(new ClientError({ reason: new Timeout({ origin: this.url.origin, phase: "total", limitMillis }) }))
  }
}

const isRedirect = (status: number): boolean => (status >= 301 && status <= 303) || status === 307 || status === 308

/** The text of a header, which has a character for each byte. */
const utf8 = (bytes: string): string => Buffer.from(bytes, "latin1").toString("utf8")

const isHttp = (url: URL): boolean => url.protocol === "http:" || url.protocol === "https:"

/** What is wrong with a URL before anything is sent there; undefined when nothing is. */
export const refusalOf = (url: URL): ClientError | undefined => {
  const problem = !isHttp(url)
    ? "its URL must begin with http:// or https://"
    : url.username !== "" || url.password !== ""
      ? "its URL holds a user name or password. Put them into an Authorization header."
      : undefined
  return problem === undefined ? undefined : new ClientError({ reason: new BadRequest({ problem }) })
}

/** The error of a caller that goes on with what was given up. */
export const givenUp = new ClientError({ reason: new Closed({ client: "The request" }) })
