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
 * A terminal state is published after everything the query held was released, never before.
 */

/** `Queued` waits for admission, `Starting` for a connection. */
export type QueryState =
  "Queued" | "Starting" | "Running" | "Canceling" | "Succeeded" | "Failed" | "Canceled" | "Expired"

const steps: Readonly<Record<QueryState, ReadonlyArray<QueryState>>> = {
  Queued: ["Starting", "Canceling", "Failed"],
  Starting: ["Running", "Canceling", "Failed"],
  Running: ["Canceling", "Succeeded", "Failed"],
  Canceling: ["Canceled", "Succeeded", "Failed"],
  Succeeded: ["Expired"],
  Failed: ["Expired"],
  Canceled: ["Expired"],
  Expired: []
}

/** Every state, in the order of a query's life. */
export const all = Object.keys(steps) as ReadonlyArray<QueryState>

/** Whether a query may go from one state to the other in one step. */
export const isStep = (from: QueryState, to: QueryState): boolean => steps[from].includes(to)

/** Whether the outcome is known: nothing but expiry can follow. */
export const isTerminal = (state: QueryState): boolean =>
  state === "Succeeded" || state === "Failed" || state === "Canceled" || state === "Expired"
