/** What a simulated process is to do, and what it is held against. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Ledger } from "../../lifetime/Ledger.ts"
import type { Choices, SimulatedProcess } from "./SimulatedProcess.ts"

/** One thing to do. Steps of one fiber are done one after the other. */
export interface Step {
  readonly fiber: number
  /** What to do, in words, with the faults that come meanwhile. */
  readonly text: string
  /** The same step without its faults. None: it has none. */
  readonly without?: Step | undefined
}

/** What a run offers to a scenario. */
export interface World {
  readonly choices: Choices
  readonly process: SimulatedProcess
  /** Says that a law is broken. The first one counts. */
  readonly broke: (law: string, how: string) => void
  /** Says so where a ledger is not empty, or not even. */
  readonly checkLedger: (ledger: Ledger) => void
  /** Notes what happened, for the report. */
  readonly note: (what: string) => void
  readonly isBroken: () => boolean
}

/** What to try: a plan, and how it is done and held against a model. */
export interface Scenario<S extends Step = Step> {
  readonly name: string
  readonly plan: (choices: Choices) => ReadonlyArray<S>
  /** Does the steps and says what is broken. When it is over, everything must be released. */
  readonly run: (steps: ReadonlyArray<S>, world: World) => Effect.Effect<void, unknown, Scope.Scope>
}
