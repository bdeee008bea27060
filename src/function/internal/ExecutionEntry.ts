/**
 * An execution of the engine's: its record, and the lifetime that runs it.
 *
 * An entry lives as long as somebody has it. It is the only place that changes a record.
 */
import type * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Submission from "../../lifetime/internal/Entry.ts"
import * as Entries from "../../lifetime/internal/Entries.ts"
import { jsonBytes, keptReason } from "../../lifetime/internal/KeptText.ts"
import type { ConsoleLine, ExecutionRecord } from "../ExecutionRecord.ts"
import * as ExecutionState from "../ExecutionState.ts"
import type { FunctionError } from "../FunctionError.ts"

/** What an entry begins with. */
export interface Submitted
  extends Submission.Times, Pick<ExecutionRecord, "id" | "function" | "principal" | "session"> {
  readonly at: DateTime.Utc
}

/** What may change in a record besides its state. */
export type Change = Partial<Pick<ExecutionRecord, "result" | "error" | "ms">>

/** What a line of the console takes besides its text. */
const lineSize = 32

/** Characters of an error, with its stack. */
export const sizeOfReason = (reason: FunctionError["reason"] | null): number =>
  reason === null ? 0 : reason.message.length + (reason._tag === "ScriptFailed" ? (reason.stack ?? "").length : 0)

/** An execution that was submitted. */
export class Entry extends Submission.Entry<ExecutionRecord> {
  private current: ExecutionRecord
  private readonly lines: Array<ConsoleLine> = []
  private consoleSize = 0

  constructor(order: number, { at, id, principal, session, ...submitted }: Submitted) {
    super(order, submitted)
    this.current = {
      id,
      function: submitted.function,
      principal,
      session,
      state: "Queued",
      transitions: [{ state: "Queued", at }],
      result: null,
      console: [],
      consoleTruncated: false,
      ms: null,
      error: null,
      expiresAt: null
    }
  }

  get record(): ExecutionRecord {
    // What is told does not change afterwards.
    if (this.current.console.length !== this.lines.length) {
      this.current = { ...this.current, console: this.lines.slice() }
    }
    return this.current
  }

  get size(): number {
    const { error, result } = this.current
    return this.consoleSize + (result?.length ?? 0) + sizeOfReason(error)
  }

  /** Adds a line; without one, it is said that there are more. */
  write(line: ConsoleLine | undefined): void {
    if (this.isOver) return
    if (line === undefined) {
      this.current = { ...this.current, consoleTruncated: true }
      return
    }
    this.lines.push(line)
    this.consoleSize += lineSize + line.text.length
  }

  /** Goes from state to state. */
  step(state: ExecutionState.ExecutionState, at: DateTime.Utc, change: Change = {}): void {
    const { record } = this
    if (!ExecutionState.isStep(record.state, state)) {
      throw new Error(`An execution cannot go from ${record.state} to ${state}`)
    }
    const isOver = ExecutionState.isTerminal(state) && state !== "Expired"
    this.current = {
      ...record,
      ...change,
      ...(change.error !== undefined && { error: change.error === null ? null : keptReason(change.error) }),
      state,
      transitions: [...record.transitions, { state, at }],
      expiresAt: isOver ? this.keptUntil(at) : record.expiresAt
    }
    this.stepped()
  }

  expire(at: DateTime.Utc): void {
    this.step("Expired", at)
  }

  free(): Effect.Effect<void> {
    return Effect.void
  }
}

/** Part of a principal's executions. */
export interface Listing {
  readonly executions: ReadonlyArray<ExecutionRecord>
  /** Pass it as `after` to get those that follow, if there are any. It tells nothing about the executions of others. */
  readonly next: number | undefined
}

const told = new WeakMap<ExecutionRecord, number>()

const jsonBytesOfRecord = (record: ExecutionRecord): number => {
  const known = told.get(record)
  if (known !== undefined) return known
  const { console, error, result } = record
  const bytes =
    1000 +
    3 * (result?.length ?? 0) +
    console.reduce((sum, { level, text }) => sum + 32 + jsonBytes(level) + jsonBytes(text), 0) +
    (error === null ? 0 : jsonBytes(JSON.stringify(error)))
  told.set(record, bytes)
  return bytes
}

/** Every execution that is listed. Times are in milliseconds of a steady clock. */
export class Executions extends Entries.Entries<ExecutionRecord, Entry> {
  add(submitted: Submitted, now: number): Entry {
    return this.enter(submitted.principal, now, (order) => new Entry(order, submitted))
  }

  /** A principal's executions, the newest first; fewer than asked for where they are long. */
  list(principal: string, options: Entries.ListOptions = {}): Listing {
    const { next, records } = this.page(principal, options, jsonBytesOfRecord)
    return { executions: records, next }
  }
}
