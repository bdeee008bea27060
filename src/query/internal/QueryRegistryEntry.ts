/**
 * A query of a registry: its record, the lifetime that runs it, and the rows that belong to it.
 *
 * An entry lives as long as somebody has it; its rows until they are freed. It is the only place that changes a record.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Ledger from "../../lifetime/Ledger.ts"
import type * as Lifetime from "../../lifetime/Lifetime.ts"
import type * as QueryId from "../QueryId.ts"
import type { RowSink } from "../QueryDriver.ts"
import type { Notice, QueryRecord } from "../QueryRecord.ts"
import type { QueryResult } from "../QueryResults.ts"
import * as QuerySizes from "./QuerySizes.ts"
import * as QueryState from "../QueryState.ts"

/** What an entry begins with. */
export interface Submitted {
  readonly id: QueryId.QueryId
  readonly principal: string
  readonly session: string | null
  readonly engine: string
  readonly sql: string
  readonly at: DateTime.Utc
  /** The same moment on the steady clock, in milliseconds. */
  readonly steadyAt: number
  readonly retention: Duration.Duration
}

/** What may change in a record besides its state. */
export type Change = Partial<Pick<QueryRecord, "rowCount" | "bytes" | "error">>

/** How long a query had its place, waited until its statement ran, and ran, in milliseconds; none of what it did not come to. */
export interface Spans {
  readonly held: number | undefined
  readonly waited: number | undefined
  readonly ran: number | undefined
}

/** What a record keeps of the notices of its query. */
const maxNotices = 100
const maxNoticesSize = 32 * 1024

/** Of one that is past its retention nobody asks why it failed. */
const expiredText = 200

/** A query that was submitted. */
export class Entry {
  /** Counts the submissions of its principal: an entry comes after those of a smaller number. */
  readonly order: number
  private readonly retention: Duration.Duration
  // On the steady clock, in milliseconds.
  private readonly submittedAt: number
  private startedAt: number | undefined
  private ranAt: number | undefined
  private endedAt: number | undefined
  private current: QueryRecord
  private running: Lifetime.Lifetime | undefined
  /** What its rows take up, as far as it was measured. */
  bytes = 0
  private noticesSize = 0
  private columnsSize = 0
  private scope: Scope.Closeable | undefined
  private opened: QueryResult | undefined
  private watchers: Set<() => void> | undefined

  constructor(order: number, { at, engine, id, principal, retention, session, sql, steadyAt }: Submitted) {
    this.order = order
    this.retention = retention
    this.submittedAt = steadyAt
    this.current = {
      id,
      principal,
      session,
      engine,
      sql,
      state: "Queued",
      transitions: [{ state: "Queued", at }],
      expiresAt: null,
      rowCount: null,
      bytes: null,
      notices: [],
      noticesDropped: 0,
      error: null
    }
  }

  /** Characters that are kept of it, its rows aside. */
  get size(): number {
    return this.columnsSize + QuerySizes.sizeOfRecord(this.current)
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

  /** Takes note of when it came to a state. */
  came(state: QueryState.QueryState, now: number): void {
    if (state === "Starting") this.startedAt = now
    if (state === "Running") this.ranAt = now
  }

  /** Takes note of when it is over. */
  ended(now: number): Spans {
    const { ranAt, startedAt, submittedAt } = this
    this.startedAt = this.ranAt = undefined
    this.endedAt = now
    return {
      held: startedAt === undefined ? undefined : now - startedAt,
      waited: ranAt === undefined ? undefined : ranAt - submittedAt,
      ran: ranAt === undefined ? undefined : now - ranAt
    }
  }

  /** Whether it is over for longer than it is kept. */
  isPast(now: number): boolean {
    const { endedAt, retention } = this
    return endedAt !== undefined && now - endedAt >= Duration.toMillis(retention)
  }

  /** The query runs, or waits to. */
  begun(lifetime: Lifetime.Lifetime): void {
    if (this.isOver) return
    this.running = lifetime
    this.tell()
  }

  /** Adds a notice, as long as there is room for it. */
  remark(notice: Notice): void {
    const { current } = this
    if (this.isOver) return
    const kept = QuerySizes.cutNotice(notice)
    const size = QuerySizes.sizeOfNotice(kept)
    if (
      current.noticesDropped > 0 ||
      current.notices.length >= maxNotices ||
      this.noticesSize + size > maxNoticesSize
    ) {
      this.current = { ...current, noticesDropped: current.noticesDropped + 1 }
      return
    }
    this.noticesSize += size
    this.current = { ...current, notices: [...current.notices, kept] }
  }

  /** Goes from state to state. */
  step(state: QueryState.QueryState, at: DateTime.Utc, change: Change = {}): void {
    const { current } = this
    const { bytes, engine, error, expiresAt, id, principal, rowCount, session, sql, state: from, transitions } = current
    if (!QueryState.isStep(from, state)) throw new Error(`A query cannot go from ${from} to ${state}`)
    const isExpired = state === "Expired"
    this.current = {
      id,
      principal,
      session,
      engine,
      // An idempotency key remembers the entry for long.
      sql: isExpired ? "" : sql,
      state,
      transitions: [...transitions, { state, at }],
      expiresAt: QueryState.isTerminal(state) && !isExpired ? after(at, this.retention) : expiresAt,
      rowCount: change.rowCount ?? rowCount,
      bytes: change.bytes ?? bytes,
      notices: isExpired ? [] : current.notices,
      noticesDropped: current.noticesDropped,
      error: isExpired && error !== null ? QuerySizes.keptReason(error, expiredText) : (change.error ?? error)
    }
    if (this.isOver) this.running = undefined
    this.tell()
  }

  /** Lets the fibers that wait look again. */
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

  /** Where its rows go; what is known of its columns is counted. */
  sinkOf({ sink }: QueryResult): RowSink {
    return {
      ...sink,
      columns: (columns) =>
        Effect.suspend(() => {
          this.columnsSize = QuerySizes.sizeOfColumns(columns)
          return sink.columns(columns)
        })
    }
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
      this.columnsSize = 0
      return scope === undefined ? Effect.void : freeWithin(current.id, Scope.close(scope, Exit.void), limit)
    })
  }
}

/** The last moment that a date can tell (ECMA-262, 21.4.1.1). */
const endOfTime = 8.64e15

const after = (at: DateTime.Utc, duration: Duration.Duration): DateTime.Utc =>
  DateTime.makeUnsafe(Math.min(at.epochMilliseconds + Duration.toMillis(duration), endOfTime))

/** Does something with some entries, side by side. */
export const inParallel = <A>(some: ReadonlyArray<Entry>, f: (entry: Entry) => Effect.Effect<A>) =>
  Effect.forEach(some, f, { concurrency: "unbounded" })

/** What is free at once needs no account. */
const freeWithin = (id: QueryId.QueryId, free: Effect.Effect<void>, limit: Duration.Input | undefined) =>
  Effect.flatMap(Effect.forkDetach(free, { startImmediately: true, uninterruptible: true }), (freeing) => {
    const exit = freeing.pollUnsafe()
    return exit !== undefined && Exit.isSuccess(exit)
      ? Effect.void
      : Effect.scoped(Ledger.hold({ kind: "result", id, releaseLimit: limit }, Effect.void, () => Fiber.join(freeing)))
  })
