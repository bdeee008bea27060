/**
 * What an instance knows of the newest token of an account: how good it is, and whether it is of any use to replace it.
 *
 * It lives as long as the `AccessTokens` that asks it; nothing here waits or asks anybody. Times are in milliseconds of the
 * monotonic clock that it is given.
 */
import type * as Redacted from "effect/Redacted"
import { ClientError, RefreshFailed } from "../../client/ClientError.ts"

/** A token as it becomes known. */
export interface News {
  readonly value: Redacted.Redacted
  /** The repository's; of a token that could not be kept, that of what is kept instead. Any higher one is newer. */
  readonly version: number
  readonly isKept: boolean
  readonly obtainedAt: number
  readonly validUntil: number
  /** Whether somebody is known to have rejected it, or the one before it. */
  readonly isRejected: boolean
  readonly isSecondTry: boolean
}

/** How tokens are looked after. */
export interface Options {
  /** How long before its expiry a token is due; at most half its lifetime. */
  readonly marginMillis: number
  /** How old a token that took the place of a rejected one has to be, to be replaced for being rejected, too. */
  readonly pauseMillis: number
  readonly nowMillis: () => number
}

/** The token. Each one that becomes known is another object, whatever its value. */
export interface Token {
  readonly value: Redacted.Redacted
}

interface State extends News {
  readonly token: Token
  readonly dueAt: number
  readonly rejectedAt: number | undefined
}

/** Makes what knows no token yet. */
export const make = ({ marginMillis, nowMillis, pauseMillis }: Options) => {
  let state: State | undefined

  return {
    /** The token, good or not. */
    token: () => state?.token,
    isNewer: (version: number) => state === undefined || version > state.version,
    learn: (news: News): Token => {
      const { obtainedAt, validUntil, value } = news
      const dueAt = validUntil - Math.min(marginMillis, (validUntil - obtainedAt) / 2)
      const isSecondTry = news.isSecondTry || state?.rejectedAt !== undefined
      const rejectedAt = news.isRejected ? nowMillis() : undefined
      state = { ...news, token: { value }, dueAt, isSecondTry, rejectedAt }
      return state.token
    },
    /** Remembers that it was rejected. Tells the version that others should know of, once, where they can. */
    reject: (): number | undefined => {
      if (state === undefined || state.rejectedAt !== undefined) return undefined
      state = { ...state, rejectedAt: nowMillis() }
      return state.isKept ? state.version : undefined
    },
    good: (): Token | undefined =>
      state !== undefined && state.rejectedAt === undefined && nowMillis() < state.validUntil ? state.token : undefined,
    /** Whether it is within the margin, or over, or rejected. */
    isDue: (): boolean => state === undefined || state.rejectedAt !== undefined || nowMillis() >= state.dueAt,
    /** The rejected token, where one was replaced a moment ago and that did not help. */
    tooYoung: (): Token | undefined => {
      if (state?.rejectedAt === undefined || !state.isSecondTry) return undefined
      return nowMillis() < Math.min(state.obtainedAt + pauseMillis, state.validUntil) ? state.token : undefined
    },
    /** Tells an error that may pass how things stand now. */
    dated: (error: ClientError): ClientError => {
      if (error.reason._tag !== "RefreshFailed") return error
      const { origin, problem } = error.reason
      const now = nowMillis()
      const last = state && {
        ageMillis: now - state.obtainedAt,
        validForMillis: Math.min(state.validUntil, state.rejectedAt ?? Infinity) - now
      }
      return new ClientError({ reason: new RefreshFailed({ origin, problem, last }) })
    }
  }
}
