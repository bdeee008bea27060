/**
 * When a request is sent again: failures that may pass, methods that may be repeated, and only as long as few are.
 *
 * The budget is a token bucket per session, as in "Addressing Cascading Failures" of Google's SRE book: a server in trouble gets
 * one retry for ten requests (`ratio`), not three times the load.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Headers from "effect/http/Headers"
import * as Result from "effect/Result"
import type { RetryLimits } from "./ClientSessionOptions.ts"

/** Retries that a session may still make. */
export interface RetryBudget {
  /** A request was made. */
  readonly deposit: () => void
  /** True when one more may be made; then it counts. */
  readonly withdraw: () => boolean
}

/** A full bucket. */
export const makeBudget = ({ burst, ratio }: RetryLimits): RetryBudget => {
  let tokens = burst
  return {
    deposit: () => {
      tokens = Math.min(tokens + ratio, Math.max(burst, 1))
    },
    withdraw: () => {
      if (tokens < 1) return false
      tokens--
      return true
    }
  }
}

const idempotent: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"])

/** RFC 9110, 9.2.2, and QUERY, which is safe. */
export const isIdempotent = (method: string): boolean => idempotent.has(method)

/** Overload and what stands between us and the server; not 500, which says that the request is at fault or will be again. */
export const isTransientStatus = (status: number): boolean =>
  status === 429 || status === 502 || status === 503 || status === 504

/** Seconds or a date, by the clock of the server where it tells its time (RFC 9110, 10.2.3); zero where there is neither. */
export const retryAfterMillis = (
  headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>,
  nowMillis: number
): number => {
  const { date, "retry-after": asked } = headers
  const retryAfter = typeof asked === "string" ? Headers.parseRetryAfter(asked) : undefined
  if (retryAfter === undefined || Result.isFailure(retryAfter)) return 0
  const told = typeof date === "string" ? Result.getOrUndefined(Headers.parseHttpDate(date)) : undefined
  const now = told === undefined ? nowMillis : DateTime.toEpochMillis(told)
  return Duration.toMillis(Headers.retryAfterDelay(retryAfter.success, now))
}

/** Doubles, with up to a half taken off at random, so that clients which failed together do not come back together. */
export const delayMillis = ({ delay, maxDelay }: RetryLimits, retry: number): number =>
  Math.min(delay * 2 ** (retry - 1), maxDelay) * (1 - Math.random() / 2)
