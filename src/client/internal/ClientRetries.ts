/**
 * When a request is sent again: failures that may pass, methods that may be repeated, and only as long as few are.
 *
 * The budget is a token bucket per session, as in "Addressing Cascading Failures" of Google's SRE book: a server in trouble gets
 * one retry for ten requests (`ratio`), not three times the load.
 */
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

/** Seconds or a date (RFC 9110, 10.2.3); zero where there is neither. */
export const retryAfterMillis = (header: string | ReadonlyArray<string> | undefined, nowMillis: number): number => {
  if (typeof header !== "string") return 0
  if (/^\d+$/.test(header)) return Number(header) * 1000
  const at = Date.parse(header)
  return Number.isNaN(at) ? 0 : Math.max(at - nowMillis, 0)
}

/** Doubles, with up to a half taken off at random, so that clients which failed together do not come back together. */
export const delayMillis = ({ delay, maxDelay }: RetryLimits, retry: number): number =>
  Math.min(delay * 2 ** (retry - 1), maxDelay) * (1 - Math.random() / 2)
