/**
 * Simulated processes: a program runs under a scheduler, a clock and faults that a seed chooses, and is held against a model.
 * The same seed is the same run, so what was seen once is seen again.
 *
 * A run lives as long as one call, which does not give the thread away and takes about a millisecond.
 *
 * **When to use**
 *
 * Where an interleaving, a lost answer or a clock that goes wrong may break a law, and nobody knows which: let seeds look for it.
 * {@link scenarios} are those of Holdfast's own engines, {@link sessionsOver} tries a store of your own.
 *
 * **Details**
 *
 * As in the simulators of FoundationDB and TigerBeetle, the whole program is in one thread, and nothing comes from outside: the
 * process stands in for timers, clocks and `Math.random`, also for those of the platform. Each seed leaves out some kinds of
 * operations and faults, so that those that are left come more often.
 *
 * Where a seed breaks a law, steps, faults and changes of fibers are left out as long as the same law still breaks. So the
 * report shows a short history, as model-based tests of fast-check do.
 *
 * **Gotchas**
 *
 * What waits for a promise or a socket stands still. Keys and tokens come from the system's secure random source: their values
 * differ between two runs, and nothing may depend on them.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Scope from "effect/Scope"
import * as Ledger from "../lifetime/Ledger.ts"
import type { SessionStore } from "../session/SessionStore.ts"
import * as SimulatedPool from "./internal/SimulatedPool.ts"
import { Choices, plain, SimulatedProcess, type Style } from "./internal/SimulatedProcess.ts"
import * as SimulatedQueries from "./internal/SimulatedQueries.ts"
import type * as SimulatedScenario from "./internal/SimulatedScenario.ts"
import * as SimulatedSessions from "./internal/SimulatedSessions.ts"

/** One thing to do. Steps of one fiber are done one after the other. */
export type Step = SimulatedScenario.Step

/** What a run offers to a scenario. */
export type World = SimulatedScenario.World

/** What to try: a plan, and how it is done and held against a model. */
export type Scenario<S extends Step = Step> = SimulatedScenario.Scenario<S>

/** A law that was broken. */
export interface Broken {
  readonly scenario: string
  readonly seed: number
  readonly law: string
  /** What was seen, and what was to be expected. */
  readonly how: string
  /** The steps that are enough. */
  readonly steps: ReadonlyArray<Step>
  /** How many steps the seed had planned. */
  readonly planned: number
  /** How often another fiber than the next one went on. */
  readonly switches: number
  readonly history: ReadonlyArray<string>
}

interface Played {
  readonly law: string
  readonly how: string
  readonly switches: number
  readonly history: ReadonlyArray<string>
}

const styleOf = (choices: Choices): Style => ({
  suspends: choices.pick([0, 0, 0.02, 0.1, 0.3]),
  reorders: choices.pick([0, 0.1, 0.5, 1])
})

const play = <S extends Step>(
  scenario: Scenario<S>,
  steps: ReadonlyArray<S>,
  seed: number,
  stream: number,
  style?: Style
): Played | undefined => {
  const choices = new Choices(seed, stream)
  const chosen = styleOf(choices)
  const process = new SimulatedProcess(choices, style ?? chosen)
  const ledger = Ledger.makeUnsafe()
  const history: Array<string> = []
  let broken: { readonly law: string; readonly how: string } | undefined
  const world: World = {
    choices,
    process,
    broke: (law, how) => void (broken ??= { law, how }),
    checkLedger: (ledger) => void (broken ??= leftOver(ledger)),
    note: (what) => void history.push(`${String(Math.round(process.elapsed)).padStart(8)} ms  ${what}`),
    isBroken: () => broken !== undefined
  }
  const { ended, fiber } = process.run(Effect.scoped(scenario.run(steps, world)), ledger)
  if (broken === undefined) {
    const exit = fiber.pollUnsafe()
    if (ended !== "over") broken = { law: "every run comes to an end", how: `it ${ended}` }
    else if (exit !== undefined && Exit.isFailure(exit)) broken = { law: "nothing dies", how: String(exit.cause) }
    else broken = leftOver(ledger)
  }
  return broken === undefined ? undefined : { ...broken, switches: process.switches, history }
}

const leftOver = (ledger: Ledger.Ledger) => {
  const held = Effect.runSync(ledger.holdings)
  if (held.length > 0) {
    const names = held.map(({ id, kind, state }) => `${kind} ${id} (${state})`)
    return { law: "C1 L3 nothing is held when all is closed", how: names.join(", ") }
  }
  for (const [kind, { acquired, released }] of Effect.runSync(ledger.totals)) {
    if (acquired !== released) {
      return {
        law: "C1 what was acquired is released once",
        how: `${kind}: ${acquired} acquired, ${released} released`
      }
    }
  }
  return undefined
}

/** How many other orders of fibers a shorter plan is tried with, because to leave out a step changes all that follow. */
const orders = 6

/** Leaves out what the broken law does not need. */
const minimised = <S extends Step>(
  scenario: Scenario<S>,
  all: ReadonlyArray<S>,
  seed: number,
  first: Played
): Broken => {
  let steps = all
  let last = first
  const isEnough = (fewer: ReadonlyArray<S>, style?: Style) => {
    for (let stream = 1; stream <= orders; stream++) {
      const played = play(scenario, fewer, seed, stream, style)
      if (played?.law === first.law) {
        steps = fewer
        last = played
        return true
      }
    }
    return false
  }
  for (let size = Math.ceil(steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < steps.length;) {
      const fewer = [...steps.slice(0, from), ...steps.slice(from + size)]
      if (!isEnough(fewer)) from += size
    }
  }
  for (const [index, { without }] of steps.entries()) {
    if (without !== undefined) isEnough(steps.map((step, at) => (at === index ? (without as S) : step)))
  }
  if (!isEnough(steps, plain)) {
    for (const reorders of [0.05, 0.2]) if (isEnough(steps, { suspends: 0, reorders })) break
  }
  return { scenario: scenario.name, seed, planned: all.length, steps, ...last }
}

/** Plays a seed. Answers the law that it breaks, with the shortest history that was found. */
export const seed = <S extends Step>(scenario: Scenario<S>, seed: number): Broken | undefined => {
  const steps = scenario.plan(new Choices(seed))
  const played = play(scenario, steps, seed, 1)
  return played === undefined ? undefined : minimised(scenario, steps, seed, played)
}

/** What came of many seeds. */
export interface Found {
  readonly seeds: number
  readonly millis: number
  readonly broken: ReadonlyArray<Broken>
}

/** Which seeds to play. */
export interface SearchOptions {
  /** The first one. Default: 0. */
  readonly from?: number | undefined
  readonly seeds: number
  /** Stops after so many milliseconds of real time. Default: never. */
  readonly within?: number | undefined
  /** Stops after so many seeds that break a law. Default: 1. */
  readonly most?: number | undefined
}

/** Plays one seed after the other. */
export const search = <S extends Step>(scenario: Scenario<S>, options: SearchOptions): Found => {
  const { from = 0, most = 1, within = Infinity } = options
  const began = performance.now()
  const broken: Array<Broken> = []
  let played = 0
  while (played < options.seeds && broken.length < most && performance.now() - began < within) {
    const found = seed(scenario, from + played++)
    if (found !== undefined) broken.push(found)
  }
  return { seeds: played, millis: performance.now() - began, broken }
}

/** A report to read: the law, the seed, the steps and what happened. */
export const report = ({ history, how, law, planned, scenario, seed, steps, switches }: Broken): string =>
  [
    `Seed ${seed} of "${scenario}" breaks a law: ${law}`,
    `  ${how}`,
    `${steps.length} of ${planned} steps are enough, with ${switches} changes of fibers:`,
    ...steps.map(({ fiber, text }) => `  fiber ${fiber}: ${text}`),
    "What happened:",
    ...history.map((line) => `  ${line}`),
    `Again: npm run simulate -- --scenario ${scenario} --seed ${seed}`
  ].join("\n")

/** The scenario of sessions over a store of your own that runs without a server and takes its time from Effect's `Clock`. */
export const sessionsOver = (store: Effect.Effect<SessionStore["Service"], never, Scope.Scope>): Scenario =>
  SimulatedSessions.over(store) as never

/**
 * The engines of Holdfast: sessions over the store in memory, queries over a driver without a server, and a pool of connections
 * over a source without one.
 */
export const scenarios: Readonly<Record<"pools" | "queries" | "sessions", Scenario>> = {
  sessions: SimulatedSessions.over(SimulatedSessions.memory) as never,
  queries: SimulatedQueries.scenario as never,
  pools: SimulatedPool.scenario as never
}
