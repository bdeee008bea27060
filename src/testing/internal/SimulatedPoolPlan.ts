/** What borrowers of a pool do, and what goes wrong with its connections meanwhile, as a seed chooses it. */
import * as Duration from "effect/Duration"
import type { Choices } from "./SimulatedProcess.ts"
import type { Step as AnyStep } from "./SimulatedScenario.ts"

/** What a run's pool is told. Times are in milliseconds. */
export interface Limits {
  readonly min: number
  readonly max: number
  readonly maxUses: number | undefined
  readonly maxLease: number | undefined
  readonly maxLifetime: number
}

/** Where no step says anything else. */
export const usual: Limits = { min: 0, max: 1, maxUses: undefined, maxLease: undefined, maxLifetime: 3_600_000 }

const faults = [
  "dies",
  "falls silent",
  "retires",
  "open fails",
  "open hangs",
  "reset fails",
  "reset hangs",
  "room",
  "evict",
  "suspend",
  "ping"
] as const
type Fault = (typeof faults)[number]
export type Kind = Fault | "borrow" | "pool" | "time" | "clock" | "close"

/** How one borrower uses its connection. */
export interface Use {
  readonly key: string
  readonly role: string | undefined
  readonly millis: number
  /** What it does besides: has it closed afterwards, has it ended at the server, or fails. */
  readonly what: "works" | "retires it" | "kills it" | "fails"
  /** Does not let go when its connection is gone. */
  readonly isStubborn: boolean
}

export interface Step extends AnyStep {
  readonly kind: Kind
  readonly limits: Limits
  readonly use: Use
  /** Which of the open connections, or how many there is room for. */
  readonly which: number
  readonly millis: number
  readonly giveUp: number | undefined
}

const textOf = ({ giveUp, kind, limits, millis, use, which }: Omit<Step, "text" | "without">): string => {
  const late = giveUp === undefined ? "" : `, given up after ${giveUp} turns`
  switch (kind) {
    case "pool":
      return `the pool has ${Object.entries(limits)
        .filter(([, value]) => value !== undefined)
        .map(([name, value]) => `${name} ${value}`)
        .join(", ")}`
    case "borrow": {
      const parts = [
        `${use.key} borrows for ${use.millis} ms`,
        use.role === undefined ? "" : `as ${use.role}`,
        use.what === "works" ? "" : use.what,
        use.isStubborn ? "and never lets go before" : ""
      ]
      return parts.filter(Boolean).join(", ") + late
    }
    case "time":
      return `${Duration.format(Duration.millis(millis))} pass`
    case "clock":
      return `the time of day is set by ${millis} ms`
    case "close":
      return "the pool closes"
    case "room":
      return `the server has room for ${which}`
    case "evict":
      return "all connections are evicted"
    case "suspend":
      return `the pool is suspended for ${millis} ms`
    case "ping":
      return `somebody asks whether the pool works${late}`
    case "dies":
    case "falls silent":
    case "retires":
      return `connection ${which} of those that are open ${kind}`
    default:
      return `the next ${kind}`
  }
}

/** What a seed plans. */
export const planned = (choices: Choices): ReadonlyArray<Step> => {
  const fibers = 1 + choices.below(6)
  const used: readonly [Kind, ...ReadonlyArray<Kind>] = ["borrow", ...faults.filter(() => choices.chance(0.4))]
  const share = choices.pick([0, 0.15, 0.4])
  const moves = choices.chance(0.6)
  const clock = choices.chance(0.15)
  const closes = choices.chance(0.25)
  const isRough = choices.chance(0.6)
  const roles: readonly [string | undefined, ...ReadonlyArray<string | undefined>] = choices.chance(0.35)
    ? [undefined, "reader", "writer"]
    : [undefined]
  const keys: readonly [string, ...ReadonlyArray<string>] = choices.chance(0.5) ? ["a", "a", "a", "b", "c"] : ["a"]
  const times = choices.pick<readonly [number, ...ReadonlyArray<number>]>([
    [0, 1],
    [1, 5, 40],
    [0, 1, 5, 40, 400, 1500],
    [300, 700]
  ] as const)
  const max = choices.pick([1, 1, 2, 3])
  const limits: Limits = {
    max,
    min: choices.chance(0.25) ? choices.below(max + 1) : 0,
    maxUses: choices.chance(0.15) ? 1 + choices.below(3) : undefined,
    maxLease: choices.chance(0.15) ? 1000 : undefined,
    maxLifetime: choices.chance(0.2) ? 3000 : usual.maxLifetime
  }
  const nothing = { limits, which: 0, millis: 0, giveUp: undefined }
  const idle: Use = { key: "a", role: undefined, millis: 0, what: "works", isStubborn: false }
  const pool = { ...nothing, kind: "pool" as const, fiber: 0, use: idle }
  const steps = Array.from({ length: 2 + choices.below(18) }, (): Step => {
    const roll = choices.next()
    const kind: Kind =
      moves && roll < 0.15
        ? "time"
        : clock && roll < 0.19
          ? "clock"
          : closes && roll < 0.22
            ? "close"
            : choices.chance(share)
              ? choices.pick(used)
              : "borrow"
    const use: Use = {
      key: choices.pick(keys),
      role: choices.pick(roles),
      millis: choices.pick(times),
      what: isRough && choices.chance(0.3) ? choices.pick(["retires it", "kills it", "fails"] as const) : "works",
      isStubborn: isRough && choices.chance(0.1)
    }
    const millis =
      kind === "time"
        ? choices.pick([1, 30, 400, 1500, 6000, 61_000])
        : kind === "clock"
          ? choices.pick([-3_600_000, 3_600_000])
          : kind === "suspend"
            ? choices.pick([1, 300, 1500])
            : 0
    const which = kind === "room" ? choices.below(4) : choices.below(3)
    const mayGiveUp = isRough && (kind === "borrow" || kind === "ping")
    const giveUp = mayGiveUp && choices.chance(0.25) ? choices.below(40) : undefined
    const bare = { kind, limits, fiber: choices.below(fibers), use, which, millis, giveUp: undefined }
    const step = { ...bare, giveUp }
    const plain = { ...bare, use: { ...use, what: "works" as const, isStubborn: false } }
    const isPlain = giveUp === undefined && use.what === "works" && !use.isStubborn
    return { ...step, text: textOf(step), without: isPlain ? undefined : { ...plain, text: textOf(plain) } }
  })
  return [{ ...pool, text: textOf(pool) }, ...steps]
}
