/**
 * The records of a registry, each with what belongs to it, and the only place that changes one.
 *
 * An entry is listed from its submission until it is forgotten; then its rows are freed. What it was can still be seen by
 * whoever has the entry.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Ledger from "../Ledger.ts"
import type * as Lifetime from "../Lifetime.ts"
import type * as QueryId from "./QueryId.ts"
import type { QueryRecord } from "./QueryRecord.ts"
import type { QueryResult } from "./QueryResults.ts"
import * as QueryState from "./QueryState.ts"

/** What an entry begins with. */
export interface Submitted {
  readonly id: QueryId.QueryId
  readonly principal: string
  readonly session: string | null
  readonly sql: string
  readonly at: DateTime.Utc
  readonly retention: Duration.Duration
}

/** What may change in a record besides its state. */
export type Change = Partial<Pick<QueryRecord, "rowCount" | "bytes" | "error">>

/** A query that was submitted. */
export class Entry {
  /** Counts the submissions of its principal: an entry comes after those of a smaller number. */
  readonly order: number
  private readonly retention: Duration.Duration
  /** On the steady clock, in milliseconds: when it started, and once it is over, when it ended. */
  private turnedAt: number | undefined
  private current: QueryRecord
  private running: Lifetime.Lifetime | undefined
  /** What its rows take up, as far as it was measured. */
  bytes = 0
  private scope: Scope.Closeable | undefined
  private opened: QueryResult | undefined
  private watchers: Set<() => void> | undefined

  constructor(order: number, { at, id, principal, retention, session, sql }: Submitted) {
    this.order = order
    this.retention = retention
    this.current = {
      id,
      principal,
      session,
      sql,
      state: "Queued",
      transitions: [{ state: "Queued", at }],
      expiresAt: null,
      rowCount: null,
      bytes: null,
      error: null
    }
  }

  get record(): QueryRecord {
    return this.current
  }

  get isOver(): boolean {
    return QueryState.isTerminal(this.current.state)
  }

  /** Its rows, from when it started until they are freed. */
  get result(): QueryResult | undefined {
    return this.opened
  }

  /** Takes note of when its turn came. */
  started(now: number): void {
    this.turnedAt = now
  }

  /** Takes note of when it is over. Returns how long it took, if its turn ever came. */
  ended(now: number): number | undefined {
    const from = this.turnedAt
    this.turnedAt = now
    return from === undefined ? undefined : now - from
  }

  /** Whether it is over for longer than it is kept. */
  isPast(now: number): boolean {
    const { retention, turnedAt } = this
    return this.isOver && turnedAt !== undefined && now - turnedAt >= Duration.toMillis(retention)
  }

  /** The query runs, or waits to. */
  begun(lifetime: Lifetime.Lifetime): void {
    if (this.isOver) return
    this.running = lifetime
    this.tell()
  }

  /** The only place that changes a record. */
  step(state: QueryState.QueryState, at: DateTime.Utc, change: Change = {}): void {
    const { bytes, error, expiresAt, id, principal, rowCount, session, sql, state: from, transitions } = this.current
    if (!QueryState.isStep(from, state)) throw new Error(`A query cannot go from ${from} to ${state}`)
    const isExpired = state === "Expired"
    this.current = {
      id,
      principal,
      session,
      // An idempotency key remembers the entry for long.
      sql: isExpired ? "" : sql,
      state,
      transitions: [...transitions, { state, at }],
      expiresAt: QueryState.isTerminal(state) && !isExpired ? after(at, this.retention) : expiresAt,
      rowCount: change.rowCount ?? rowCount,
      bytes: change.bytes ?? bytes,
      error: change.error ?? error
    }
    if (this.isOver) this.running = undefined
    this.tell()
  }

  /** Lets whoever waits look again. */
  tell(): void {
    for (const look of this.watchers ?? []) look()
  }

  /** Waits until `look` sees something; it looks in the very moment in which something about the entry changes. */
  when<A>(look: () => A | undefined): Effect.Effect<A> {
    return Effect.callback((resume) => {
      const watchers = (this.watchers ??= new Set())
      const leave = () => {
        watchers.delete(tell)
      }
      const tell = () => {
        const seen = look()
        if (seen === undefined) return
        leave()
        resume(Effect.succeed(seen))
      }
      watchers.add(tell)
      tell()
      return Effect.sync(leave)
    })
  }

  /** The lifetime of a query that is not over. One that was submitted a moment ago has none yet. */
  lifetime(): Effect.Effect<Lifetime.Lifetime | null> {
    return this.when(() => (this.isOver ? null : this.running))
  }

  /** Asks for the end of the query and waits for it. */
  end(): Effect.Effect<void> {
    return Effect.flatMap(this.lifetime(), (lifetime) => lifetime?.end() ?? Effect.void)
  }

  /**
   * Opens the result, which is the entry's to free. What frees it is kept for long, and keeps nothing of the query that runs: it
   * has these services only.
   */
  open<E, R>(open: Effect.Effect<QueryResult, E, R | Scope.Scope>, services: Context.Context<R>) {
    return Effect.suspend(() => {
      const scope = Scope.makeUnsafe()
      this.scope = scope
      return Effect.map(
        open.pipe(Effect.updateContext<never, R | Scope.Scope>(() => Context.add(services, Scope.Scope, scope))),
        (result) => (this.opened = result)
      )
    })
  }

  /** Learns what the rows take up, to be told with the outcome. */
  measure(): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.opened === undefined
        ? Effect.void
        : Effect.map(this.opened.bytes, (bytes) => {
            this.bytes = bytes
          })
    )
  }

  /**
   * Frees the rows. What takes longer than the limit (default: 3 seconds) goes on in the background and stands in the ledger as
   * `stalled`. Must not be interrupted.
   */
  free(limit?: Duration.Input): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { current, scope } = this
      this.scope = undefined
      this.opened = undefined
      return scope === undefined ? Effect.void : freeWithin(current.id, Scope.close(scope, Exit.void), limit)
    })
  }
}

/** The last moment that a date can tell (ECMA-262, 21.4.1.1). */
const endOfTime = 8.64e15

const after = (at: DateTime.Utc, duration: Duration.Duration): DateTime.Utc =>
  DateTime.makeUnsafe(Math.min(at.epochMilliseconds + Duration.toMillis(duration), endOfTime))

/** What is free at once needs no account. */
const freeWithin = (id: QueryId.QueryId, free: Effect.Effect<void>, limit: Duration.Input | undefined) =>
  Effect.flatMap(Effect.forkDetach(free, { startImmediately: true, uninterruptible: true }), (freeing) => {
    const exit = freeing.pollUnsafe()
    return exit !== undefined && Exit.isSuccess(exit)
      ? Effect.void
      : Effect.scoped(Ledger.hold({ kind: "result", id, releaseLimit: limit }, Effect.void, () => Fiber.join(freeing)))
  })

/** Part of a principal's queries. */
export interface Listing {
  readonly queries: ReadonlyArray<QueryRecord>
  /** Pass it as `after` to get those that follow, if there are any. It tells nothing about the queries of others. */
  readonly next: number | undefined
}

/** Which of a principal's queries, and how many. */
export interface ListOptions {
  /** Default: those in any state. */
  readonly state?: QueryState.QueryState | undefined
  /** At most so many. Default: 100. */
  readonly limit?: number | undefined
  /** The `next` of the listing before. Default: from the newest. */
  readonly after?: number | undefined
}

/** How many records of queries that are over are kept, and how many characters their statements may have together. */
export interface Bounds {
  readonly all: Bound
  readonly ofPrincipal: Bound
}

/** Of records. */
export interface Bound {
  readonly count: number
  readonly text: number
}

/** Entries in the order in which their queries ended. */
class Kept {
  readonly entries = new Set<Entry>()
  private text = 0

  add(entry: Entry): void {
    this.entries.add(entry)
    this.text += entry.record.sql.length
  }

  remove(entry: Entry): void {
    if (this.entries.delete(entry)) this.text -= entry.record.sql.length
  }

  /** The oldest, when they are too many. The last one always stays: it is about to be told. */
  excess({ count, text }: Bound): Entry | undefined {
    const { size } = this.entries
    if (size <= 1 || (size <= count && this.text <= text)) return undefined
    const [oldest] = this.entries
    return oldest
  }
}

/** The entries of one principal, as long as it has any. */
class Theirs {
  readonly entries = new Set<Entry>()
  submitted = 0
  /**
   * The place before the first of them, in microseconds of the registry: nobody submits faster than that, so it comes after every
   * place that was told of theirs before.
   */
  readonly begin: number

  constructor(begin: number) {
    this.begin = begin
  }
}

/** Every entry that is listed. Times are in milliseconds of a steady clock. */
export class Entries {
  private readonly born: number
  private readonly bounds: Bounds
  private readonly kept = new Kept()
  private readonly keptOf = new Map<string, Kept>()
  /** Taken off the list, but their rows are not freed yet. */
  private readonly unlisted = new Set<Entry>()
  private readonly byId = new Map<QueryId.QueryId, Entry>()
  private readonly byPrincipal = new Map<string, Theirs>()

  constructor(bounds: Bounds, now: number) {
    this.bounds = bounds
    this.born = now
  }

  add(submitted: Submitted, now: number): Entry {
    const { id, principal } = submitted
    const theirs = this.byPrincipal.get(principal) ?? new Theirs(Math.floor((now - this.born) * 1000))
    this.byPrincipal.set(principal, theirs)
    const entry = new Entry(++theirs.submitted, submitted)
    theirs.entries.add(entry)
    this.byId.set(id, entry)
    return entry
  }

  find(principal: string, id: QueryId.QueryId): Entry | undefined {
    const entry = this.byId.get(id)
    return entry?.record.principal === principal ? entry : undefined
  }

  has(entry: Entry): boolean {
    return this.byId.get(entry.record.id) === entry
  }

  all(): ReadonlyArray<Entry> {
    return Array.from(this.byId.values())
  }

  of(principal: string): ReadonlyArray<Entry> {
    return Array.from(this.byPrincipal.get(principal)?.entries ?? [])
  }

  /** Those whose rows are to be freed: whose retention is over, or that were taken off the list. */
  due(now: number): ReadonlyArray<Entry> {
    const due = Array.from(this.unlisted)
    for (const entry of this.byId.values()) if (entry.isPast(now)) due.push(entry)
    return due
  }

  /** Takes note of a query that is over, and takes those off the list that there is no room for any more. */
  ended(entry: Entry, at: DateTime.Utc): void {
    if (!this.has(entry)) return
    const { principal } = entry.record
    const theirs = this.keptOf.get(principal) ?? new Kept()
    this.keptOf.set(principal, theirs)
    theirs.add(entry)
    this.kept.add(entry)
    const excess = () => theirs.excess(this.bounds.ofPrincipal) ?? this.kept.excess(this.bounds.all)
    for (let old = excess(); old !== undefined; old = excess()) {
      this.unlist(old, at)
      this.unlisted.add(old)
    }
  }

  private unlist(entry: Entry, at: DateTime.Utc): void {
    const { id, principal } = entry.record
    this.byId.delete(id)
    this.kept.remove(entry)
    const kept = this.keptOf.get(principal)
    kept?.remove(entry)
    if (kept?.entries.size === 0) this.keptOf.delete(principal)
    const theirs = this.byPrincipal.get(principal)
    theirs?.entries.delete(entry)
    if (theirs?.entries.size === 0) this.byPrincipal.delete(principal)
    if (entry.isOver) entry.step("Expired", at)
    else entry.tell()
  }

  /** Takes an entry off the list and frees its rows, as {@link Entry.free}. */
  forget(entry: Entry, at: DateTime.Utc, limit?: Duration.Input): Effect.Effect<void> {
    return Effect.uninterruptible(
      Effect.suspend(() => {
        if (this.has(entry)) this.unlist(entry, at)
        this.unlisted.delete(entry)
        return entry.free(limit)
      })
    )
  }

  /** A principal's queries, the newest first. */
  list(principal: string, { after = Number.POSITIVE_INFINITY, limit = 100, state }: ListOptions = {}): Listing {
    const queries: Array<QueryRecord> = []
    const begin = this.byPrincipal.get(principal)?.begin ?? 0
    let last: number | undefined
    for (const { order, record } of this.of(principal).toReversed()) {
      const place = begin + order
      if (place >= after || (state !== undefined && record.state !== state)) continue
      if (queries.length === limit) return { queries, next: last }
      queries.push(record)
      last = place
    }
    return { queries, next: undefined }
  }
}
