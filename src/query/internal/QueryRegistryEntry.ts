/**
 * A query of a registry: its record, the lifetime that runs it, and the rows that belong to it.
 *
 * An entry lives as long as somebody has it; its rows until they are freed. It is the only place that changes a record.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as Submission from "../../lifetime/internal/Entry.ts"
import type * as QueryId from "../QueryId.ts"
import type { RowSink } from "../QueryDriver.ts"
import type { Claim, Work } from "../QueryJournal.ts"
import type { Notice, QueryRecord } from "../QueryRecord.ts"
import type { QueryResult } from "../QueryResults.ts"
import { keptReason } from "../../lifetime/internal/KeptText.ts"
import * as QuerySizes from "./QuerySizes.ts"
import * as QueryState from "../QueryState.ts"

/** What a record says from the beginning. */
export type Described = Pick<QueryRecord, "id" | "principal" | "session" | "engine" | "sql"> &
  Partial<Pick<QueryRecord, "instance">>

/** What an entry begins with. */
export interface Submitted extends Described {
  readonly at: DateTime.Utc
  /** The same moment on the steady clock, in milliseconds. */
  readonly steadyAt: number
  readonly retention: Duration.Duration
  /** Of one that was another instance's before, `Queued` again. Default: it is `Queued` from now on. */
  readonly transitions?: QueryRecord["transitions"] | undefined
}

/** What may change in a record besides its state. */
export type Change = Partial<Pick<QueryRecord, "rowCount" | "bytes" | "error">>

/** What a record keeps of the notices of its query. */
const maxNotices = 100
const maxNoticesSize = 32 * 1024

/** The record of a query that is `Queued`. */
export const newRecord = (
  { engine, id, instance = null, principal, session, sql }: Described,
  at: DateTime.Utc,
  transitions: QueryRecord["transitions"] = [{ state: "Queued", at }]
): QueryRecord => ({
  id,
  principal,
  session,
  engine,
  instance,
  sql,
  state: "Queued",
  transitions,
  expiresAt: null,
  rowCount: null,
  bytes: null,
  notices: [],
  noticesDropped: 0,
  error: null
})

/** How a query stands with a shared journal. */
export interface Sharing {
  /** What another instance would need to run it. */
  readonly work: Work
  /** Waits until the journal has taken it in or refused it. */
  readonly entered: Deferred.Deferred<void>
  /** There once the journal has taken it in. */
  claim: Claim | undefined
  /** By what its statement can be ended from elsewhere. */
  readonly handles: Array<string>
  /** Whether it is written as `Queued`, and so has to be written as begun first. */
  isWaiting: boolean
  /** Whether somebody asked for its end. */
  isCanceled: boolean
  /** Whether its outcome is being written: others may know of it already. */
  isEnding: boolean
  /** Whether all of it is found in the journal, so that nothing need be kept here. */
  isElsewhere: boolean
}

/** Of one that is past its retention nobody asks why it failed. */
const expiredText = 200

/** A query that was submitted. */
export class Entry extends Submission.Entry<QueryRecord> {
  private current: QueryRecord
  /** What its rows take up, as far as it was measured. */
  bytes = 0
  /** How it stands with a journal that is shared, where there is one. */
  sharing: Sharing | undefined
  private noticesSize = 0
  private columnsSize = 0
  private scope: Scope.Closeable | undefined
  private opened: QueryResult | undefined

  constructor(order: number, submitted: Submitted) {
    super(order, submitted)
    this.current = newRecord(submitted, submitted.at, submitted.transitions)
  }

  /** Characters that are kept of it, its rows aside. */
  get size(): number {
    return this.columnsSize + QuerySizes.sizeOfRecord(this.current)
  }

  get record(): QueryRecord {
    return this.current
  }

  /** Its rows, from when it started until they are freed. */
  get result(): QueryResult | undefined {
    return this.opened
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
    this.become(this.after(state, at, change))
  }

  /** Goes on as a record that is {@link after} its own. */
  become(record: QueryRecord): void {
    this.current = record
    this.stepped()
  }

  /** Its record as it will be in a state. */
  after(state: QueryState.QueryState, at: DateTime.Utc, change: Change = {}): QueryRecord {
    const { current } = this
    const { bytes, engine, error, expiresAt, id, instance, principal, rowCount, session, sql, transitions } = current
    if (!QueryState.isStep(current.state, state)) throw new Error(`A query cannot go from ${current.state} to ${state}`)
    const isExpired = state === "Expired"
    return {
      id,
      principal,
      session,
      engine,
      instance,
      // An idempotency key remembers the entry for long.
      sql: isExpired ? "" : sql,
      state,
      transitions: [...transitions, { state, at }],
      expiresAt: QueryState.isTerminal(state) && !isExpired ? this.keptUntil(at) : expiresAt,
      rowCount: change.rowCount ?? rowCount,
      bytes: change.bytes ?? bytes,
      notices: isExpired ? [] : current.notices,
      noticesDropped: current.noticesDropped,
      error: isExpired && error !== null ? keptReason(error, expiredText) : (change.error ?? error)
    }
  }

  override isPast(now: number): boolean {
    return super.isPast(now) || (this.isOver && this.sharing?.isElsewhere === true)
  }

  expire(at: DateTime.Utc): void {
    // What is kept elsewhere is over there, when its retention is.
    if (this.sharing === undefined) this.step("Expired", at)
    else this.tell()
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

/** What is free at once needs no account. */
const freeWithin = (id: QueryId.QueryId, free: Effect.Effect<void>, limit: Duration.Input | undefined) =>
  Effect.flatMap(Effect.forkDetach(free, { startImmediately: true, uninterruptible: true }), (freeing) => {
    const exit = freeing.pollUnsafe()
    return exit !== undefined && Exit.isSuccess(exit)
      ? Effect.void
      : Effect.scoped(Ledger.hold({ kind: "result", id, releaseLimit: limit }, Effect.void, () => Fiber.join(freeing)))
  })
