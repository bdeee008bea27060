/**
 * What the metrics said over the last minutes, for charts. It is kept for as long as the view is open.
 */
import type { Sample } from "../api/operators.ts"

export interface Series {
  readonly names: ReadonlyArray<string>
  readonly data: ReadonlyArray<ReadonlyArray<number | null>>
}

/** One look: its moment in seconds, and values by name. */
export interface Look {
  readonly at: number
  readonly values: ReadonlyMap<string, number>
}

const most = 300

/** With one more look, the oldest goes where there are too many. */
export const add = (looks: ReadonlyArray<Look>, look: Look): ReadonlyArray<Look> => [...looks, look].slice(-most)

/** The values of a metric, summed up by one of its labels. */
export const byLabel = (samples: ReadonlyArray<Sample>, name: string, label: string): ReadonlyMap<string, number> => {
  const found = new Map<string, number>()
  for (const { labels, name: its, value } of samples) {
    if (its !== name) continue
    const key = labels[label] ?? ""
    found.set(key, (found.get(key) ?? 0) + value)
  }
  return found
}

/** The names with the highest values, each as a line; those that had none only where no other has. */
export const series = (looks: ReadonlyArray<Look>, lines = 5): Series => {
  const highest = new Map<string, number>()
  for (const { values } of looks) {
    for (const [name, value] of values) highest.set(name, Math.max(highest.get(name) ?? 0, value))
  }
  const isAny = Array.from(highest.values()).some((value) => value > 0)
  const names = Array.from(highest)
    .filter(([, value]) => value > 0 || !isAny)
    .toSorted(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
    .slice(0, lines)
    .map(([name]) => name)
    .toSorted()
  return {
    names,
    data: [looks.map(({ at }) => at), ...names.map((name) => looks.map(({ values }) => values.get(name) ?? null))]
  }
}
