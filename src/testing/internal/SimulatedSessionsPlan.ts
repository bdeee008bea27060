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

const minutes = (count: number) => count * 60_000

const inOrder = (steps: ReadonlyArray<Step>, change: (step: Step, index: number) => Partial<Step>) =>
  steps.map((step, index): Step => {
    const changed = {
      ...step,
      fault: undefined,
      giveUp: undefined,
      fiber: 0,
      ...change(step, index),
      without: undefined
    }
    return { ...changed, text: textOf(changed) }
  })

/** One browser that comes back again and again, each time before it would be forgotten, until its session is too old. */
const longLife = (steps: ReadonlyArray<Step>): ReadonlyArray<Step> =>
  inOrder([...steps, ...steps], ({ kind }, index) => {
    if (index % 2 === 1) return { kind: "time", millis: minutes(index % 4 === 1 ? 20 : 28) }
    const isUse = kind === "visit" || kind === "change" || kind === "renew" || kind === "list"
    return { kind: index === 0 ? "login" : isUse ? kind : "visit", browser: 0, millis: 0 }
  })

/** One principal logs in here and there, while the time of day goes on, and is set back. */
const swings = (steps: ReadonlyArray<Step>): ReadonlyArray<Step> =>
  inOrder(steps, ({ browser, instance, kind }, index) => {
    const which = (browser + 3 * instance + index) % 5
    if (which === 0) return { kind: "time", millis: minutes(32) }
    if (which === 1) return { kind: "clock", millis: minutes(-40) }
    return {
      kind: kind === "visit" || kind === "revokeOthers" ? kind : "login",
      browser: index % 3,
      millis: 0,
      principal: "alice"
    }
  })

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
  const steps = Array.from({ length: 2 + choices.below(12) }, (): Step => {
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
  // What needs many steps in one order comes about by chance too seldom.
  if (often.length > 0 && moves && (favourite === "visit" || favourite === "list")) return longLife(steps)
  if (often.length > 0 && clock && (favourite === "login" || favourite === "revokeOthers")) return swings(steps)
  return steps
}
