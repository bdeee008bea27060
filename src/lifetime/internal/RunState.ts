/**
 * The states of work that somebody submits and others may end, and the steps between them: a query, an execution.
 *
 * A terminal state is published after everything the work held was released, never before.
 */

/** `Queued` waits for admission, `Starting` for what it runs on. */
export type RunState = "Queued" | "Starting" | "Running" | "Canceling" | "Succeeded" | "Failed" | "Canceled" | "Expired"

const steps: Readonly<Record<RunState, ReadonlyArray<RunState>>> = {
  Queued: ["Starting", "Canceling", "Failed"],
  Starting: ["Running", "Canceling", "Failed"],
  Running: ["Canceling", "Succeeded", "Failed"],
  Canceling: ["Canceled", "Succeeded", "Failed"],
  Succeeded: ["Expired"],
  Failed: ["Expired"],
  Canceled: ["Expired"],
  Expired: []
}

/** Every state, in the order of a life. */
export const all = Object.keys(steps) as ReadonlyArray<RunState>

/** Whether work may go from one state to the other in one step. */
export const isStep = (from: RunState, to: RunState): boolean => steps[from].includes(to)

/** Whether the outcome is known: nothing but expiry can follow. */
export const isTerminal = (state: RunState): boolean =>
  state === "Succeeded" || state === "Failed" || state === "Canceled" || state === "Expired"
