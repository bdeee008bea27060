/**
 * What is known about an execution, until its retention is over.
 */
import type * as DateTime from "effect/DateTime"
import * as Schema from "effect/Schema"
import { ExecutionId } from "./ExecutionId.ts"
import * as ExecutionState from "./ExecutionState.ts"
import { FunctionError } from "./FunctionError.ts"
import { FunctionId } from "./FunctionId.ts"

/** A state and since when an execution was in it. */
export const Transition = Schema.Struct({ state: Schema.Literals(ExecutionState.all), at: Schema.DateTimeUtc })
export type Transition = typeof Transition.Type

/** A line that the script wrote. */
export const ConsoleLine = Schema.Struct({
  /** Such as `log` or `error`. */
  level: Schema.String,
  text: Schema.String
})
export type ConsoleLine = typeof ConsoleLine.Type

export const ExecutionRecord = Schema.Struct({
  id: ExecutionId,
  function: FunctionId,
  /** Who may see and cancel it. */
  principal: Schema.String,
  /** The session that executed it, where there was one. */
  session: Schema.NullOr(Schema.String),
  state: Schema.Literals(ExecutionState.all),
  /** Every state so far in order: `Queued` is the first, and `state` the last. */
  transitions: Schema.NonEmptyArray(Transition),
  /** What the function returned, as a JSON text; null until it succeeded. */
  result: Schema.NullOr(Schema.String),
  /** What the script wrote, in order, as far as there is room for it. */
  console: Schema.Array(ConsoleLine),
  /** Whether it wrote more. */
  consoleTruncated: Schema.Boolean,
  /** Milliseconds that it ran; null until it is over, or where it never ran. */
  ms: Schema.NullOr(Schema.Finite),
  /** Why it failed or was cancelled. */
  error: Schema.NullOr(FunctionError.fields.reason),
  /** When the record is removed. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc)
})
export type ExecutionRecord = typeof ExecutionRecord.Type

/** When its sandbox was released and the outcome became known. */
export const endedAt = ({ transitions }: ExecutionRecord): DateTime.Utc | null =>
  transitions.find(({ state }) => ExecutionState.isTerminal(state))?.at ?? null
