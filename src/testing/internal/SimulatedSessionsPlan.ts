/** What clients of an app do, and what goes wrong meanwhile, as a seed chooses it. */
import * as Duration from "effect/Duration"
import type { Choices } from "./SimulatedProcess.ts"
import type { Step as AnyStep } from "./SimulatedScenario.ts"

/** What goes wrong with one of the calls that a step makes of its store. */
export interface Fault {
  readonly call: number
  readonly what: "answer lost" | "request lost" | "pause"
}

const kinds = ["visit", "change", "login", "logout", "revokeOthers", "renew", "rotate", "work", "list", "old"] as const
type Kind = (typeof kinds)[number] | "time" | "clock" | "crash"

export interface Step extends AnyStep {
  readonly kind: Kind
  readonly browser: number
  readonly instance: number
  readonly principal: string
  readonly millis: number
  readonly giveUp: number | undefined
  readonly fault: Fault | undefined
}

const textOf = (step: Omit<Step, "text" | "without">): string => {
  const at = `browser ${step.browser} at instance ${step.instance}`
  if (step.kind === "time") return `${Duration.format(Duration.millis(step.millis))} pass`
  if (step.kind === "clock") return `the time of day is set by ${step.millis} ms`
  if (step.kind === "crash")
    return `instance ${step.instance} stops in the middle of everything, and another takes its place`
  const what = step.kind === "login" ? `login as ${step.principal}` : step.kind
  const fault = step.fault === undefined ? "" : `, ${step.fault.what} in call ${step.fault.call}`
  return `${what}, ${at}${fault}${step.giveUp === undefined ? "" : `, given up after ${step.giveUp} turns`}`
}

/** What a seed plans. */
export const planned = (choices: Choices): ReadonlyArray<Step> => {
  const fibers = 1 + choices.below(4)
  const browsers = choices.pick([1, 1, 2, 3])
  const some = kinds.filter(() => choices.chance(0.7))
  // In some plans one kind comes again and again.
  const favourite = choices.pick(kinds)
  const often = choices.chance(0.5) ? [favourite, favourite, favourite] : []
  const used: readonly [Kind, ...ReadonlyArray<Kind>] = ["login", "visit", ...some, ...often]
  const isRough = choices.chance(0.7)
  const moves = choices.chance(0.6)
  const clock = choices.chance(0.25)
  const crashes = choices.chance(0.2)
  const principals = choices.chance(0.5) ? (["alice"] as const) : (["alice", "bob"] as const)
  return Array.from({ length: 2 + choices.below(12) }, (): Step => {
    const roll = choices.next()
    const kind: Kind =
      moves && roll < 0.15
        ? "time"
        : clock && roll < 0.2
          ? "clock"
          : crashes && roll < 0.24
            ? "crash"
            : choices.pick(used)
    const own = {
      kind,
      fiber: choices.below(fibers),
      browser: choices.below(browsers),
      instance: choices.below(2),
      principal: choices.pick(principals),
      millis: 0
    }
    const millis =
      kind === "time"
        ? choices.pick([1000, 31_000, 8 * 60_000, 31 * 60_000, 121 * 60_000])
        : kind === "clock"
          ? choices.pick([-60_000, -40 * 60_000, 40 * 60_000, 1])
          : 0
    const isCall = kind !== "time" && kind !== "clock" && kind !== "crash"
    const fault =
      isRough && isCall && choices.chance(0.2)
        ? { call: 1 + choices.below(3), what: choices.pick(["answer lost", "request lost", "pause"] as const) }
        : undefined
    const giveUp = isRough && isCall && choices.chance(0.15) ? choices.below(12) : undefined
    const bare = { ...own, millis, fault: undefined, giveUp: undefined }
    const step = { ...own, millis, fault, giveUp }
    const without = fault === undefined && giveUp === undefined ? undefined : { ...bare, text: textOf(bare) }
    return { ...step, text: textOf(step), without }
  })
}
