/**
 * What a `ConnectionPool` begins for the borrowers that wait: which idle connections it asks, which roles it opens connections
 * for, and for how many borrowers there is no room. Decides, and does nothing.
 */
import type { Pooled } from "./ConnectionPoolBackend.ts"
import { anyRole, suits, type Want } from "./ConnectionPoolWaiters.ts"

/** How things are. */
export interface Situation {
  /** Of those who wait, the first one first. */
  readonly wants: ReadonlyArray<Want>
  /** The roles of those that are being opened or asked, and may be there soon. */
  readonly begun: ReadonlyArray<string | undefined>
  /** Those that can be asked; the one that was used last is the last. */
  readonly idle: ReadonlyArray<Pooled>
  /** How many more may be opened. */
  readonly free: number
}

export interface Plan {
  readonly ask: ReadonlyArray<Pooled>
  readonly open: ReadonlyArray<string | undefined>
  readonly missing: number
}

/** Something for each who waits, and for nobody twice. */
export const make = ({ begun, free, idle, wants }: Situation): Plan => {
  const [coming, left] = [[...begun], [...idle]]
  const plan = { ask: [] as Array<Pooled>, open: [] as Array<string | undefined>, missing: 0 }
  for (const want of wants) {
    const at = coming.findIndex((role) => suits(want, role))
    const stale = at >= 0 ? -1 : left.findLastIndex(({ role }) => suits(want, role))
    if (at >= 0) coming.splice(at, 1)
    else if (stale >= 0) plan.ask.push(...left.splice(stale, 1))
    else if (plan.open.length < free) plan.open.push(want === anyRole ? undefined : want)
    else plan.missing++
  }
  return plan
}
