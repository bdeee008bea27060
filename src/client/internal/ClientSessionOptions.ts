/**
 * What a `ClientSession` may be told: limits and times, what they are where nothing is said, and what makes no sense.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as Option from "effect/Option"
import { createSecureContext, type SecureContextOptions } from "node:tls"
import * as Timers from "../../lifetime/internal/Timers.ts"
import { ClientError, InvalidConfig } from "../ClientError.ts"

/** Where the cookies of a session are kept between its requests. Both are called for every request and every redirect. */
export interface CookieJar {
  /** The value of the `Cookie` header for a URL; undefined for none. Must not throw. */
  readonly cookieFor: (url: URL) => string | undefined
  /** Keeps what a server set, each as it stood in a `Set-Cookie` header. What may not be set is ignored. Must not throw. */
  readonly keep: (url: URL, setCookies: ReadonlyArray<string>) => void
}

/** Retries of failures that may pass, for methods that may be repeated (RFC 9110, 9.2.2) and bodies that can be. */
export interface RetryOptions {
  /** Retries of one request at most. Default: 2. */
  readonly times?: number | undefined
  /** The wait before the first one, doubled for each further and less up to a half. Default: 100 milliseconds. */
  readonly delay?: Duration.Input | undefined
  /** The longest wait, also where `Retry-After` asks for more: then the answer stands. Default: 5 seconds. */
  readonly maxDelay?: Duration.Input | undefined
  /** Retries per request, over all of the session, once `burst` is used up. Default: 0.1. */
  readonly ratio?: number | undefined
  /** Retries that are free at first, and after good times again. Default: 10. */
  readonly burst?: number | undefined
}

/** Every time is finite unless it says otherwise: nothing in a session waits for ever. */
export interface Options {
  /**
   * `"none"` opens a connection per request and closes it after it; `"pooled"` (default) keeps them for the next request of the
   * session; `"shared"` keeps them for all such sessions of the runtime.
   */
  readonly reuse?: "none" | "pooled" | "shared" | undefined
  /** From the call to the last byte of the body, with redirects and retries. `"Infinity"` for endless streams. Default: 30 seconds. */
  readonly timeout?: Duration.Input | undefined
  /** Name, connection and TLS together. Default: 10 seconds. */
  readonly connectTimeout?: Duration.Input | undefined
  /** From the last byte of the request to the head of the answer. Default: 30 seconds. */
  readonly headersTimeout?: Duration.Input | undefined
  /**
   * From the last byte of the request to the first of the answer, on a connection that was used before: then it counts as dead. A
   * request that may be retried is sent again on another one, any other has its full time. The unused connections to that origin
   * which were not heard of since are closed. `"Infinity"` for never. Default: 3 seconds.
   */
  readonly silenceTimeout?: Duration.Input | undefined
  /** Between two pieces of a body, while somebody reads it. Default: 30 seconds. */
  readonly bodyTimeout?: Duration.Input | undefined
  /** Connections to one origin at once; further requests wait for one, within `timeout`. Default: 64. */
  readonly connectionsPerOrigin?: number | undefined
  /** How long an unused connection is kept. Default: 4 seconds, less than what common servers keep theirs. */
  readonly idleTime?: Duration.Input | undefined
  /** How long the end waits for running requests before it aborts them. Zero aborts at once. Default: 5 seconds. */
  readonly grace?: Duration.Input | undefined
  /** A body may have so many bytes, counted after decompression. Default: 64 MiB. */
  readonly maxResponseBytes?: number | undefined
  /** Redirects that are followed; zero hands them to the caller. Default: 10. */
  readonly maxRedirects?: number | undefined
  /** Default: the defaults of {@link RetryOptions}; false for none. */
  readonly retry?: RetryOptions | false | undefined
  /**
   * Where cookies are kept: a function makes a jar for each session, such as `ToughCookieJar.make`; a jar is for all sessions that
   * are made with these options. Default: cookies are neither kept nor sent.
   */
  readonly cookies?: CookieJar | (() => CookieJar) | undefined
  /**
   * Origins that are told which trace a request belongs to (`traceparent` and `b3`), such as `https://stock.internal`. Default:
   * none, because a trace is nobody's business but ours.
   */
  readonly traceOrigins?: ReadonlyArray<string> | undefined
  /** Effect's circuit breaker before every call, retries included. Default: none. */
  readonly circuitBreaker?: HttpClient.WithCircuitBreaker.Options<HttpClientError> | undefined
  /** Effect's rate limit before every call. What waits for it is not counted by `timeout`. Default: none. */
  readonly rateLimit?: HttpClient.WithRateLimiter.Options | undefined
  /** Whom to trust and who we are, as in `tls.connect`. Certificates are always checked. */
  readonly tls?: Pick<SecureContextOptions, "ca" | "cert" | "key" | "passphrase"> | undefined
}

/** The options as the session uses them. */
export interface Limits {
  readonly reuse: "none" | "pooled" | "shared"
  readonly timeout: Duration.Duration
  readonly connectTimeout: Duration.Duration
  readonly headersTimeout: Duration.Duration
  readonly silenceTimeout: Duration.Duration
  readonly bodyTimeout: Duration.Duration
  readonly connectionsPerOrigin: number
  readonly idleTime: Duration.Duration
  readonly grace: Duration.Duration
  readonly maxResponseBytes: number
  readonly maxRedirects: number
  readonly retry: RetryLimits | undefined
  readonly cookies: CookieJar | undefined
  readonly traceOrigins: ReadonlySet<string>
  readonly tls: Options["tls"]
}

/** Times in milliseconds. */
export interface RetryLimits {
  readonly times: number
  readonly delay: number
  readonly maxDelay: number
  readonly ratio: number
  readonly burst: number
}

const invalid = (field: string, problem: string) =>
  Effect.fail(new ClientError({ reason: new InvalidConfig({ field, problem }) }))

/** A whole number of at least `least`. */
export const count = (field: string, value: number, least: number) =>
  Number.isSafeInteger(value) && value >= least
    ? Effect.succeed(value)
    : invalid(field, `must be a whole number of at least ${least}, not ${value}`)

/**
 * A duration that makes sense where it is used: of at least a millisecond unless it may be zero, finite unless it may be
 * infinite, and at most 24 days where a timer or a setting of PostgreSQL takes it.
 */
export const time = (
  field: string,
  given: Duration.Input,
  may: { readonly be: "positive" | "zero" | "infinite"; readonly forTimer?: true }
) => {
  const allowed = Option.filter(Duration.fromInput(given), (duration) =>
    may.be === "zero"
      ? Duration.isFinite(duration) && Duration.toMillis(duration) >= 0
      : (may.be === "infinite" || Duration.isFinite(duration)) && Duration.toMillis(duration) >= 1
  )
  if (may.forTimer && Option.exists(allowed, (duration) => Duration.isGreaterThan(duration, Timers.longest))) {
    return invalid(field, `${Timers.tooLong}, not ${String(given)}`)
  }
  return Option.isSome(allowed)
    ? Effect.succeed(allowed.value)
    : invalid(
        field,
        `must be ${may.be === "zero" ? "a" : "a positive"} duration such as "10 seconds", not ${String(given)}`
      )
}

const originOf = (given: string) => {
  const url = URL.parse(given)
  return url === null || url.pathname !== "/" || url.search !== "" || !url.protocol.startsWith("http")
    ? invalid("traceOrigins", `must be origins such as "https://stock.internal"`)
    : Effect.succeed(url.origin)
}

const positive = { be: "positive" } as const

/** Else each connection would fail, as if the server were at fault. */
const secured = (tls: Options["tls"]) =>
  tls === undefined
    ? Effect.void
    : Effect.suspend(() => {
        try {
          createSecureContext(tls)
          return Effect.void
        } catch (error) {
          const code = error instanceof Error && "code" in error ? ` (${String(error.code)})` : ""
          return invalid("tls", `must be in PEM, with a key that fits its certificate and its passphrase${code}`)
        }
      })

const retries = Effect.fnUntraced(function* (given: RetryOptions) {
  const ratio = given.ratio ?? 0.1
  if (!(ratio >= 0 && ratio <= 1)) return yield* invalid("retry.ratio", `must be between 0 and 1, not ${ratio}`)
  const limits: RetryLimits = {
    times: yield* count("retry.times", given.times ?? 2, 0),
    delay: Duration.toMillis(yield* time("retry.delay", given.delay ?? "100 millis", positive)),
    maxDelay: Duration.toMillis(yield* time("retry.maxDelay", given.maxDelay ?? "5 seconds", positive)),
    ratio,
    burst: yield* count("retry.burst", given.burst ?? 10, 0)
  }
  return limits
})

const reuses: ReadonlySet<unknown> = new Set(["none", "pooled", "shared"])

const ofConnections = ["connectTimeout", "connectionsPerOrigin", "idleTime", "tls"] as const

/** Fails with `InvalidConfig` naming the first field that makes no sense. */
export const decode = Effect.fnUntraced(function* (options: Options) {
  const reuse = options.reuse ?? "pooled"
  if (!reuses.has(reuse)) return yield* invalid("reuse", `must be "none", "pooled" or "shared"`)
  const foreign = reuse === "shared" ? ofConnections.find((field) => options[field] !== undefined) : undefined
  if (foreign !== undefined) {
    const problem = `belongs to the connections that "shared" sessions share: set it in ClientSession.layerShared`
    return yield* invalid(foreign, problem)
  }
  yield* secured(options.tls)
  const limits: Limits = {
    reuse,
    timeout: yield* time("timeout", options.timeout ?? "30 seconds", { be: "infinite" }),
    connectTimeout: yield* time("connectTimeout", options.connectTimeout ?? "10 seconds", positive),
    headersTimeout: yield* time("headersTimeout", options.headersTimeout ?? "30 seconds", positive),
    silenceTimeout: yield* time("silenceTimeout", options.silenceTimeout ?? "3 seconds", { be: "infinite" }),
    bodyTimeout: yield* time("bodyTimeout", options.bodyTimeout ?? "30 seconds", positive),
    connectionsPerOrigin: yield* count("connectionsPerOrigin", options.connectionsPerOrigin ?? 64, 1),
    idleTime: yield* time("idleTime", options.idleTime ?? "4 seconds", { be: "positive", forTimer: true }),
    grace: yield* time("grace", options.grace ?? "5 seconds", { be: "zero" }),
    maxResponseBytes: yield* count("maxResponseBytes", options.maxResponseBytes ?? 64 * 1024 * 1024, 0),
    maxRedirects: yield* count("maxRedirects", options.maxRedirects ?? 10, 0),
    retry: options.retry === false ? undefined : yield* retries(options.retry ?? {}),
    cookies: typeof options.cookies === "function" ? options.cookies() : options.cookies,
    traceOrigins: new Set(yield* Effect.forEach(options.traceOrigins ?? [], originOf)),
    tls: options.tls
  }
  return limits
})
