/**
 * Which query was submitted with which idempotency key.
 *
 * A key is remembered from the moment its query was admitted until the window is over, also when the query itself was
 * forgotten long before.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { createHash } from "node:crypto"
import type { Statement } from "../QueryDriver.ts"
import * as ExactJson from "./ExactJson.ts"
import { IdempotencyConflict, QueryError, QueryRejected } from "../QueryError.ts"
import type { QueryRecord } from "../QueryRecord.ts"
import type { Entry } from "./QueryRegistryEntry.ts"
import { Shares } from "../../lifetime/internal/Shares.ts"

/** What makes two submissions the same. */
export interface Request {
  readonly principal: string
  readonly key: string
  readonly engine: string
  readonly statement: Statement
  readonly deadline: Duration.Duration | undefined
}

/** How many principals each find room for their share of the keys: 250 by default. */
const keyShares = 100

interface Kept {
  readonly digest: string
  readonly entry: Entry
  readonly until: number
}

/** Of what has to be the same in two submissions of one key. */
export const digestOf = ({
  deadline,
  engine,
  statement: { params, settings, sql }
}: Omit<Request, "key" | "principal">): string =>
  createHash("sha256")
    .update(
      ExactJson.stringify(
        [engine, sql, params, settings ?? {}, deadline === undefined ? null : Duration.toMillis(deadline)],
        String
      )
    )
    .digest("base64url")

/** The keys of all principals. Times are in milliseconds of a steady clock. */
export class Keys {
  private readonly byPrincipal = new Map<string, Map<string, Kept>>()
  private readonly windowMillis: number
  private readonly counts: Shares

  constructor(window: Duration.Duration, max: { readonly all: number; readonly ofPrincipal: number }) {
    this.windowMillis = Duration.toMillis(window)
    this.counts = new Shares({ ...max, shares: keyShares })
  }

  /**
   * What a submission with a key comes to, when it is not to be a new query: the query it was, or an error. The statement of
   * one past its retention is the submission's: they are the same.
   */
  answer(request: Request, now: number): Effect.Effect<QueryRecord, QueryError> | undefined {
    const { principal } = request
    const keys = this.byPrincipal.get(principal)
    const kept = keys?.get(request.key)
    if (kept !== undefined && kept.until > now) {
      const { record } = kept.entry
      return kept.digest === digestOf(request)
        ? Effect.succeed({ ...record, sql: request.statement.sql })
        : Effect.fail(new QueryError({ reason: new IdempotencyConflict({ id: record.id }) }))
    }
    if (keys !== undefined) this.removeUntil(principal, keys, now)
    const isTheirs = keys !== undefined && this.counts.exceedsOwn(principal, 1)
    if (!isTheirs && this.counts.exceedsAll(principal, 1)) this.prune(now)
    if (!isTheirs && !this.counts.exceedsAll(principal, 1)) return undefined
    const [oldest] = isTheirs ? keys.values() : this.oldest()
    const millis = Math.max((oldest?.until ?? now) - now, 0)
    return Effect.fail(
      new QueryError({
        reason: new QueryRejected({
          limit: isTheirs ? "keysOfPrincipal" : "keys",
          count: isTheirs ? keys.size : this.counts.total,
          retryAfterSeconds: Math.max(1, Math.ceil(millis / 1000))
        })
      })
    )
  }

  /** The first that is forgotten. */
  private oldest(): ReadonlyArray<Kept> {
    let first: Kept | undefined
    for (const keys of this.byPrincipal.values()) {
      const [oldest] = keys.values()
      if (oldest !== undefined && oldest.until < (first?.until ?? Number.POSITIVE_INFINITY)) first = oldest
    }
    return first === undefined ? [] : [first]
  }

  /** Remembers the query of a key. */
  keep(request: Request, entry: Entry, now: number): void {
    const kept: Kept = { digest: digestOf(request), entry, until: now + this.windowMillis }
    const keys = this.byPrincipal.get(request.principal)
    if (keys?.delete(request.key) !== true) this.counts.add(request.principal, 1)
    if (keys === undefined) this.byPrincipal.set(request.principal, new Map([[request.key, kept]]))
    else keys.set(request.key, kept)
  }

  /** Forgets what is past the window. */
  prune(now: number): void {
    for (const [principal, keys] of this.byPrincipal) {
      this.removeUntil(principal, keys, now)
      if (keys.size === 0) this.byPrincipal.delete(principal)
    }
  }

  /** The window is the same for all, so the oldest are first. */
  private removeUntil(principal: string, keys: Map<string, Kept>, now: number): void {
    for (const [key, { until }] of keys) {
      if (until > now) return
      keys.delete(key)
      this.counts.add(principal, -1)
    }
  }
}
