/**
 * The states of an execution and the steps between them.
 *
 * ```
 *             ┌───────────────► Failed
 * Queued ─► Starting ─► Running ─► Succeeded ─► Expired (also from Failed and Canceled)
 *    │          │          │
 *    └──────────┴──────────┴─► Canceling ─► Canceled | Succeeded | Failed   (Succeeded where it was done at that moment)
 * ```
 *
 * A terminal state is published after the script was stopped and its sandbox released, never before.
 */
import * as RunState from "../lifetime/internal/RunState.ts"

/** `Queued` waits for admission, `Starting` for a sandbox. */
export type ExecutionState = RunState.RunState

/** Every state, in the order of an execution's life. */
export const all: ReadonlyArray<ExecutionState> = RunState.all

/** Whether an execution may go from one state to the other in one step. */
export const isStep = (from: ExecutionState, to: ExecutionState): boolean => RunState.isStep(from, to)

/** Whether the outcome is known: nothing but expiry can follow. */
export const isTerminal = (state: ExecutionState): boolean => RunState.isTerminal(state)
