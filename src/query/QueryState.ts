/**
 * The states of a query and the steps between them.
 *
 * ```
 *             ┌───────────────► Failed
 * Queued ─► Starting ─► Running ─► Succeeded ─► Expired (also from Failed and Canceled)
 *    │          │          │
 *    └──────────┴──────────┴─► Canceling ─► Canceled | Succeeded | Failed   (whichever the server says)
 * ```
 *
 * Over a journal that several instances share, a query that goes from one instance to another is `Queued` again, from whichever state
 * it was in.
 *
 * A terminal state is published after everything the query held was released, never before.
 */
import * as RunState from "../lifetime/internal/RunState.ts"

/** `Queued` waits for admission, `Starting` for a connection. */
export type QueryState = RunState.RunState

/** Every state, in the order of a query's life. */
export const all: ReadonlyArray<QueryState> = RunState.all

/** Whether a query may go from one state to the other in one step. */
export const isStep = (from: QueryState, to: QueryState): boolean => RunState.isStep(from, to)

/** Whether the outcome is known: nothing but expiry can follow. */
export const isTerminal = (state: QueryState): boolean => RunState.isTerminal(state)
