/**
 * A query of a registry: its record, the lifetime that runs it, and the rows that belong to it.
 *
 * An entry lives as long as somebody has it; its rows until they are freed. It is the only place that changes a record.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Ledger from "../../lifetime/Ledger.ts"
import * as Submission from "../../lifetime/internal/Entry.ts"
import type * as QueryId from "../QueryId.ts"
import type { RowSink } from "../QueryDriver.ts"
import type { Notice, QueryRecord } from "../QueryRecord.ts"
import type { QueryResult } from "../QueryResults.ts"
import { keptReason } from "../../lifetime/internal/KeptText.ts"
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

/** What a record keeps of the notices of its query. */
const maxNotices = 100
const maxNoticesSize = 32 * 1024

/** Of one that is past its retention nobody asks why it failed. */
const expiredText = 200

/** A query that was submitted. */
export class Entry extends Submission.Entry<QueryRecord> {
  private current: QueryRecord
  /** What its rows take up, as far as it was measured. */
  bytes = 0
  private noticesSize = 0
  private columnsSize = 0
  private scope: Scope.Closeable | undefined
  private opened: QueryResult | undefined

  constructor(order: number, { at, engine, id, principal, retention, session, sql, steadyAt }: Submitted) {
    super(order, { retention, steadyAt })
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
      expiresAt: QueryState.isTerminal(state) && !isExpired ? this.keptUntil(at) : expiresAt,
      rowCount: change.rowCount ?? rowCount,
      bytes: change.bytes ?? bytes,
      notices: isExpired ? [] : current.notices,
      noticesDropped: current.noticesDropped,
      error: isExpired && error !== null ? keptReason(error, expiredText) : (change.error ?? error)
    }
    this.stepped()
  }

  expire(at: DateTime.Utc): void {
    this.step("Expired", at)
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
