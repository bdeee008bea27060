/**
 * How an execution runs: a job under the use of its function, in a sandbox of its own.
 *
 * ```
 * lifetime "execution"   ended in this order:  4 outcome published
 *   └── place                                  3 place, or place in the queue for one, given back
 *         └── fiber                            2 sandbox released
 *               └── sandbox                    1 script stopped, then what it called
 * ```
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as LogEvent from "../../lifetime/internal/LogEvent.ts"
import type * as Deadlines from "../../lifetime/Deadlines.ts"
import type * as Lifetime from "../../lifetime/Lifetime.ts"
import * as Job from "../../lifetime/internal/Job.ts"
import {
  ExecutionCanceled,
  ExecutionDeadlineExceeded,
  FunctionEnded,
  FunctionError,
  SandboxLost,
  SessionEnded
} from "../FunctionError.ts"
import type { FunctionRecord } from "../FunctionRecord.ts"
import type { FunctionRuntime } from "../FunctionRuntime.ts"
import type { Place } from "./ExecutionAdmission.ts"
import type { Entry } from "./ExecutionEntry.ts"
import type * as FunctionLimits from "./FunctionLimits.ts"
import type { Use } from "./FunctionUses.ts"

/** What is executed, and where. */
export interface Execution {
  readonly entry: Entry
  readonly use: Use
  readonly place: Place
  /** The deadline that was asked for. */
  readonly asked: Duration.Duration | undefined
  readonly called: FunctionRecord
}

/** What a job needs of its engine. */
export interface Engine {
  readonly runtime: FunctionRuntime["Service"]
  readonly limits: ReturnType<typeof FunctionLimits.make>
  readonly usualDeadlines: Deadlines.Deadlines
  readonly now: () => DateTime.Utc
  readonly steady: () => number
  readonly settle: (entry: Entry, outcome: Exit.Exit<string, FunctionError>) => void
}

type Outcome = Exit.Exit<string, FunctionError>

const failure = (reason: FunctionError["reason"]): Outcome => Exit.fail(new FunctionError({ reason }))

const run =
  ({ called, entry }: Execution, params: string, { limits, runtime }: Engine) =>
  (told: (step: Job.Step) => void, onDone: (outcome: Outcome) => void) =>
    Effect.scoped(
      Effect.suspend(() => {
        told("Starting")
        const { context, language, script } = called
        const { consoleBytes, resultBytes } = limits
        return Effect.flatMap(runtime.open(language), (sandbox) => {
          told("Running")
          const onConsole: Entry["write"] = (line) => entry.write(line)
          return sandbox.run({ language, script, params, context, resultBytes, consoleBytes, onConsole, onDone })
        })
      })
    )

/** Starts an execution for the current scope. */
export const start = (
  { owner, params = "null" }: { readonly owner?: Lifetime.Lifetime | undefined; readonly params?: string | undefined },
  execution: Execution,
  engine: Engine,
  services: Context.Context<never>
) => {
  const { asked, entry, place, use } = execution
  const { limits, now, settle, steady, usualDeadlines } = engine
  const deadline = asked === undefined ? limits.deadline : Duration.min(asked, limits.maxDeadline)
  const unfinished = (by: Job.EndedBy): Outcome => {
    if (by === "deadline") {
      return failure(new ExecutionDeadlineExceeded({ afterMillis: Duration.toMillis(deadline) }))
    }
    if (by === "owner" && owner?.isEnding() === true) return failure(new SessionEnded({}))
    return failure(use.isEnded() ? new FunctionEnded({}) : new ExecutionCanceled({}))
  }
  return Job.start<string, FunctionError, never>(
    {
      kind: "execution",
      id: entry.record.id,
      attributes: () => ({ principal: entry.record.principal, state: entry.record.state }),
      owner: use.lifetime,
      deadline,
      deadlines: asked === undefined ? usualDeadlines : undefined,
      place,
      work: run(execution, params, engine),
      unfinished,
      takenAway: failure(new SandboxLost({ problem: "It was taken away." })),
      onState: (state) => {
        entry.came(state, steady())
        entry.step(state, now())
      },
      onReleased: (outcome) =>
        Exit.isFailure(outcome) && Cause.hasDies(outcome.cause)
          ? LogEvent.error(
              { event: "execution.failed", execution: entry.record.id },
              `Execution ${entry.record.id} failed`,
              outcome.cause
            )
          : Effect.void,
      onOutcome: (outcome) => settle(entry, outcome)
    },
    services
  )
}
