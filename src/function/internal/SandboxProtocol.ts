/**
 * What a program and a worker that runs scripts say to each other. Types only: the worker loads nothing of them.
 */

/** What a worker is asked to do. `id` counts up from 1; the worker stops when the shared flag has it. */
export interface Request {
  readonly type: "check" | "run"
  readonly id: number
  readonly language: string
  readonly script: string
  readonly params: string
  readonly context: string
  readonly resultBytes: number
  readonly consoleBytes: number
}

/** The answer to a call of the script's. */
export interface Reply {
  readonly type: "reply"
  readonly id: number
  readonly call: number
  readonly ok: boolean
  /** A JSON text, or why there is none. */
  readonly text: string
}

/** Beside the flag, for a worker that waits. */
export interface Stop {
  readonly type: "stop"
  readonly id: number
}

export type ToWorker = Request | Reply | Stop

/** What was thrown, as far as it can be told. */
export interface Thrown {
  readonly name: string
  readonly problem: string
  readonly line?: number | undefined
  readonly column?: number | undefined
  readonly stack?: string | undefined
}

/** What became of a request. */
export type Outcome =
  | { readonly type: "result"; readonly text: string }
  | { readonly type: "checked" }
  | { readonly type: "stopped" }
  | { readonly type: "invalid" | "failed"; readonly thrown: Thrown }
  | { readonly type: "notJson"; readonly problem: string }
  | { readonly type: "tooLarge" }
  | { readonly type: "memory" }
  | { readonly type: "neverSettles" }
  | { readonly type: "broken"; readonly problem: string }

/** The outcome, and whether the worker is not to be used again. */
export interface Done {
  readonly type: "done"
  readonly id: number
  readonly outcome: Outcome
  readonly retire: boolean
}

/** A line that the script wrote; without one: it wrote more than it may. */
export interface Wrote {
  readonly type: "console"
  readonly id: number
  readonly line?: { readonly level: string; readonly text: string }
}

/** The script calls what the program gave it, with a JSON text. */
export interface Called {
  readonly type: "call"
  readonly id: number
  readonly call: number
  readonly name: string
  readonly args: string
}

export type FromWorker = { readonly type: "ready" } | Done | Wrote | Called

/** What every worker is started with. */
export interface Given {
  /** Four bytes, shared: the id of the request that is to stop. */
  readonly flag: SharedArrayBuffer
  readonly memoryBytes: number
  /** By how much the thread's priority is below the program's, as `nice` counts it. */
  readonly niceness: number
  /** The names of what scripts may call. */
  readonly host: ReadonlyArray<string>
}
