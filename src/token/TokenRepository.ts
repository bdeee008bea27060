/**
 * Where tokens are kept, so that all instances of a program use the same one: what a repository promises.
 *
 * What is kept under a key lives until it is replaced. Only the holder of the key's lock replaces it: the
 * lock is had by one owner at a time, for a limited time, and only by one who knows what is kept at that moment. So a late
 * refresh never takes the place of a newer token, and a holder that was killed is followed by another one.
 *
 * **Details**
 *
 * All times are told by the repository's clock, as what is left of them: the clocks of instances may differ as they like. A
 * token's lifetime counts from when the lock was taken, which is before its server was asked.
 *
 * A failure is kept, too, for a short pause: those who waited for the token elsewhere need not ask the server to be told the
 * same.
 *
 * Operations are over within the repository's own time limit and fail with `RefreshFailed` where it cannot be reached, and with
 * nothing else. What cannot be read (it was encrypted with a key that is gone, or belongs to somebody else) is
 * logged and as good as absent.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import { BadResponse, type ClientError, RefreshFailed, TokenRefused } from "../client/ClientError.ts"
import * as TokenKey from "./internal/TokenKey.ts"

/** An access token that is kept. */
export interface KeptAccess {
  readonly value: Redacted.Redacted
  readonly ageMillis: number
  /** 0 when it is over. */
  readonly validForMillis: number
  /** Whether somebody found it bad, for as long as it was said to be good. */
  readonly isRejected: boolean
  /** Whether the one before it was found bad, so that it is of no use to replace this one at once, should it be bad, too. */
  readonly isSecondTry: boolean
}

/** What is kept under a key. */
export interface Kept {
  /** Another one each time a token is put; 0 where there never was one. */
  readonly version: number
  /** What requests carry. */
  readonly access: KeptAccess | undefined
  /** What the next one can be had with, as long as it is good. */
  readonly refresh: Redacted.Redacted | undefined
}

/** What takes the place of what is kept. */
export interface Replacement {
  readonly access: { readonly value: Redacted.Redacted; readonly lifetime: Duration.Duration }
  /** Without a lifetime the token is the one that was kept before, and is good for as long as it was. */
  readonly refresh: { readonly value: Redacted.Redacted; readonly lifetime: Duration.Duration | undefined } | undefined
}

/** Why there was no new token. */
export const Failure = Schema.Union([TokenRefused, RefreshFailed, BadResponse])
export type Failure = typeof Failure.Type

/** Who wants to replace what is kept. */
export interface Claim {
  /** Unique to this attempt. */
  readonly owner: string
  /** What the owner knows to be kept. */
  readonly version: number
  /** How long the lock may be held; then another may take it. */
  readonly limit: Duration.Duration
}

/** What came of it. */
export type Attempt =
  | { readonly _tag: "Locked" }
  /** Another owner has the lock, at most for this long. */
  | { readonly _tag: "Busy"; readonly forMillis: number }
  /** Something else is kept by now: look again. */
  | { readonly _tag: "Changed" }
  /** Another owner failed a moment ago: there will be no lock for this long. */
  | { readonly _tag: "Paused"; readonly failure: Failure; readonly forMillis: number }

export class TokenRepository extends Context.Service<
  TokenRepository,
  {
    readonly get: (key: string) => Effect.Effect<Kept, ClientError>
    readonly lock: (key: string, claim: Claim) => Effect.Effect<Attempt, ClientError>
    /**
     * Replaces what is kept and gives the lock back. Tells the new version, or nothing where the lock is not the owner's any
     * more and nothing was replaced.
     */
    readonly put: (
      key: string,
      owner: string,
      replacement: Replacement
    ) => Effect.Effect<number | undefined, ClientError>
    /** Gives the lock back, where it is still the owner's, and lets nobody have it for the time of the pause. */
    readonly unlock: (
      key: string,
      owner: string,
      pause?: { readonly failure: Failure; readonly length: Duration.Duration }
    ) => Effect.Effect<void, ClientError>
    /** The access token of this version was found bad, whatever it seemed. A newer one is left alone. */
    readonly invalidate: (key: string, version: number) => Effect.Effect<void, ClientError>
  }
>()("holdfast/token/TokenRepository") {}

interface Row {
  version: number
  replacement: Replacement | undefined
  obtainedAt: number
  accessUntil: number
  refreshUntil: number
  isRejected: boolean
  isSecondTry: boolean
  owner: string | undefined
  lockedAt: number
  lockedUntil: number
  failure: Failure | undefined
  pausedUntil: number
}

const empty: Row = {
  version: 0,
  replacement: undefined,
  obtainedAt: 0,
  accessUntil: 0,
  refreshUntil: 0,
  isRejected: false,
  isSecondTry: false,
  owner: undefined,
  lockedAt: 0,
  lockedUntil: 0,
  failure: undefined,
  pausedUntil: 0
}

/** Makes a repository for the instance alone, which forgets everything when the process ends. */
export const makeMemory = Effect.map(Clock.Clock, (clock): TokenRepository["Service"] => {
  const rows = new Map<string, Row>()
  const nowMillis = () => SteadyClock.millis(clock)
  const rowOf = (key: string): Row => rows.get(key) ?? empty

  const get = (key: string): Kept => {
    const { accessUntil, isRejected, isSecondTry, obtainedAt, refreshUntil, replacement, version } = rowOf(key)
    const now = nowMillis()
    return {
      version,
      access: replacement && {
        value: replacement.access.value,
        ageMillis: now - obtainedAt,
        validForMillis: Math.max(accessUntil - now, 0),
        isRejected,
        isSecondTry
      },
      refresh: refreshUntil > now ? replacement?.refresh?.value : undefined
    }
  }

  const lock = (key: string, { limit, owner, version }: Claim): Attempt => {
    const row = rowOf(key)
    const now = nowMillis()
    if (row.version !== version) return { _tag: "Changed" }
    if (row.lockedUntil > now) return { _tag: "Busy", forMillis: row.lockedUntil - now }
    if (row.failure !== undefined && row.pausedUntil > now) {
      return { _tag: "Paused", failure: row.failure, forMillis: row.pausedUntil - now }
    }
    rows.set(key, { ...row, owner, lockedAt: now, lockedUntil: now + Duration.toMillis(limit) })
    return { _tag: "Locked" }
  }

  const put = (key: string, owner: string, replacement: Replacement): number | undefined => {
    const row = rowOf(key)
    if (row.owner !== owner) return undefined
    const { access, refresh } = replacement
    rows.set(key, {
      ...empty,
      version: row.version + 1,
      replacement,
      isSecondTry: row.isRejected,
      obtainedAt: row.lockedAt,
      accessUntil: row.lockedAt + Duration.toMillis(access.lifetime),
      refreshUntil:
        refresh?.lifetime === undefined ? row.refreshUntil : row.lockedAt + Duration.toMillis(refresh.lifetime)
    })
    return row.version + 1
  }

  return TokenKey.checked({
    get: (key) => Effect.sync(() => get(key)),
    lock: (key, claim) => Effect.sync(() => lock(key, claim)),
    put: (key, owner, replacement) => Effect.sync(() => put(key, owner, replacement)),
    unlock: (key, owner, pause) =>
      Effect.sync(() => {
        const row = rowOf(key)
        if (row.owner !== owner) return
        const pausedUntil = pause === undefined ? 0 : nowMillis() + Duration.toMillis(pause.length)
        rows.set(key, { ...row, owner: undefined, lockedUntil: 0, failure: pause?.failure, pausedUntil })
      }),
    invalidate: (key, version) =>
      Effect.sync(() => {
        const row = rowOf(key)
        if (row.version === version) rows.set(key, { ...row, isRejected: true })
      })
  })
})

/** A repository for tests, and for programs of one instance to which a login at each start is no loss. */
export const layerMemory: Layer.Layer<TokenRepository> = Layer.effect(TokenRepository, makeMemory)
