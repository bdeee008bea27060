/** What principals do to a registry of queries, as a seed chooses it. */
import * as Duration from "effect/Duration"
import type { Choices } from "./SimulatedProcess.ts"
import type { Step as AnyStep } from "./SimulatedScenario.ts"

const kinds = ["cancel", "await", "status", "events", "rows", "list", "prune", "logout", "again"] as const
export type Kind = (typeof kinds)[number] | "submit" | "time" | "clock" | "close"

/** What a statement does. Times are in milliseconds of the server. */
export interface Act {
  readonly name: number
  readonly rows: number
  readonly millis: number
  readonly fails: boolean
  readonly cancelMillis: number
  readonly isDoneOnCancel: boolean
}

export interface Step extends AnyStep {
  readonly kind: Kind
  readonly principal: string
  readonly which: number
  readonly session: number | undefined
  readonly key: number | undefined
  readonly deadline: number | undefined
  readonly act: Act
  readonly millis: number
  readonly giveUp: number | undefined
}

const textOf = (step: Omit<Step, "text" | "without">): string => {
  const { act, deadline, giveUp, key, kind, millis, principal, session, which } = step
  if (kind === "time") return `${Duration.format(Duration.millis(millis))} pass`
  if (kind === "clock") return `the time of day is set by ${millis} ms`
  if (kind === "close") return "the registry closes"
  if (kind === "logout") return `session ${which % 3} ends`
  const late = giveUp === undefined ? "" : `, given up after ${giveUp} turns`
  if (kind !== "submit" && kind !== "again") return `${principal}: ${kind} query ${which}${late}`
  const parts = [
    `${act.rows} rows in ${act.millis === Infinity ? "no time but a cancel's" : `${act.millis} ms`}`,
    act.fails ? "which fails" : "",
    act.cancelMillis > 0 ? `whose cancel takes ${act.cancelMillis} ms` : "",
    act.isDoneOnCancel ? "done when it is cancelled" : "",
    deadline === undefined ? "" : `deadline ${deadline} ms`,
    key === undefined ? "" : `key ${key}`,
    session === undefined ? "" : `in session ${session}`
  ]
  return `${principal}: submit ${parts.filter(Boolean).join(", ")}${late}`
}

/** What a seed plans. */
export const planned = (choices: Choices): ReadonlyArray<Step> => {
  const fibers = 1 + choices.below(5)
  const some = kinds.filter(() => choices.chance(0.6))
  const used: readonly [Kind, ...ReadonlyArray<Kind>] = ["submit", "submit", ...some]
  const isRough = choices.chance(0.7)
  const moves = choices.chance(0.6)
  const clock = choices.chance(0.2)
  const closes = choices.chance(0.2)
  const hangs = choices.chance(0.5)
  return Array.from({ length: 2 + choices.below(16) }, (_, index): Step => {
    const roll = choices.next()
    const kind: Kind =
      moves && roll < 0.1
        ? "time"
        : clock && roll < 0.14
          ? "clock"
          : closes && roll < 0.17
            ? "close"
            : choices.pick(used)
    const act: Act = {
      name: index,
      rows: choices.below(4),
      millis: hangs && choices.chance(0.3) ? Infinity : choices.pick([0, 0, 1, 20, 3000]),
      fails: choices.chance(0.2),
      cancelMillis: choices.pick([0, 0, 5, 400]),
      isDoneOnCancel: choices.chance(0.2)
    }
    const own = {
      kind,
      fiber: choices.below(fibers),
      principal: choices.pick(["alice", "bob"] as const),
      which: choices.below(8),
      session: choices.chance(0.4) ? choices.below(3) : undefined,
      key: choices.chance(0.25) ? choices.below(3) : undefined,
      deadline: choices.chance(0.3) ? choices.pick([1, 10, 2000]) : undefined,
      act: kind === "again" ? { ...act, rows: 1, millis: 1, fails: false } : act,
      millis:
        kind === "time"
          ? choices.pick([1, 50, 1000, 61_000])
          : kind === "clock"
            ? choices.pick([-3_600_000, 3_600_000])
            : 0
    }
    const giveUp = isRough && choices.chance(0.15) ? choices.below(12) : undefined
    // A query of a key belongs to the submitter who was first: here it belongs to nobody.
    const step = { ...own, session: own.key === undefined ? own.session : undefined, giveUp }
    const bare = { ...step, giveUp: undefined }
    return { ...step, text: textOf(step), without: giveUp === undefined ? undefined : { ...bare, text: textOf(bare) } }
  })
}
