/**
 * What is known about a submitted query, until its retention is over.
 */
import type * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import { QueryError } from "./QueryError.ts"
import { QueryId } from "./QueryId.ts"
import * as QueryState from "./QueryState.ts"

/** A state and since when a query was in it. */
export const Transition = Schema.Struct({ state: Schema.Literals(QueryState.all), at: Schema.DateTimeUtc })
export type Transition = typeof Transition.Type

/** What the engine remarked while the statement ran, such as PostgreSQL's `raise notice`. Long texts are cut. */
export const Notice = Schema.Struct({
  /** Such as `NOTICE` or `WARNING`. */
  severity: Schema.String,
  /** Its SQLSTATE. */
  code: Schema.optionalKey(Schema.String),
  message: Schema.String,
  detail: Schema.optionalKey(Schema.String),
  hint: Schema.optionalKey(Schema.String)
})
export type Notice = typeof Notice.Type

export const QueryRecord = Schema.Struct({
  id: QueryId,
  /** Who may see and cancel it. */
  principal: Schema.String,
  /** The session that submitted it, where there was one. */
  session: Schema.NullOr(Schema.String),
  /** The engine that it runs on. */
  engine: Schema.String,
  /** The name of the instance that runs it, or ran it last; null where each instance knows its own queries only. */
  instance: Schema.NullOr(Schema.String),
  sql: Schema.String,
  state: Schema.Literals(QueryState.all),
  /** Every state so far in order: `Queued` is the first, and `state` the last. */
  transitions: Schema.NonEmptyArray(Transition),
  /** When record and rows are removed. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Rows returned or affected; null until it succeeded. */
  rowCount: Schema.NullOr(Schema.Int),
  /** What its rows take up where they are kept; null until it succeeded. */
  bytes: Schema.NullOr(Schema.Int),
  /** What the engine remarked, in order, as far as there is room for it. */
  notices: Schema.Array(Notice),
  /** How many more it remarked. */
  noticesDropped: Schema.Int,
  /** Why it failed or was cancelled. */
  error: Schema.NullOr(QueryError.fields.reason)
})
export type QueryRecord = typeof QueryRecord.Type

/** When the query came into a state, if it did. */
export const since = (record: QueryRecord, state: QueryState.QueryState): DateTime.Utc | null =>
  record.transitions.find((transition) => transition.state === state)?.at ?? null

/** When its connection was released and the outcome became known. */
export const endedAt = ({ transitions }: QueryRecord): DateTime.Utc | null =>
  transitions.find(({ state }) => QueryState.isTerminal(state))?.at ?? null

/** The record as it was after so many transitions, at least one. */
export const asOf = (record: QueryRecord, count: number): QueryRecord => {
  const [first, ...rest] = record.transitions
  const transitions = [first, ...rest.slice(0, count - 1)] as const
  const { state } = transitions.at(-1) ?? first
  return QueryState.isTerminal(state)
    ? { ...record, state, transitions }
    : {
        ...record,
        state,
        transitions,
        expiresAt: null,
        rowCount: null,
        bytes: null,
        notices: [],
        noticesDropped: 0,
        error: null
      }
}
