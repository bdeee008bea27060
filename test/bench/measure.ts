/** Rounds of all contenders take turns; what is printed are medians with their range, because the machine drifts. */

/** The value below which a share of the values lies. */
export const quantile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

/** `median (least–most)`. */
export const range = (values: ReadonlyArray<number>, digits = 1): string =>
  `${quantile(values, 0.5).toFixed(digits)} (${quantile(values, 0).toFixed(digits)}–${quantile(values, 1).toFixed(digits)})`

/** Runs each contender once per round, the first `warmup` rounds for nothing. */
export const takeTurns = async <A>(
  contenders: Readonly<Record<string, () => Promise<A>>>,
  rounds: number,
  warmup = 1
): Promise<ReadonlyMap<string, ReadonlyArray<A>>> => {
  const results = new Map<string, Array<A>>(Object.keys(contenders).map((name) => [name, []]))
  for (let round = 0; round < rounds + warmup; round++) {
    for (const [name, contender] of Object.entries(contenders)) {
      const result = await contender()
      if (round >= warmup) results.get(name)?.push(result)
    }
  }
  return results
}

/** Ratios of one contender's values to another's, round by round. */
export const ratios = (values: ReadonlyArray<number>, base: ReadonlyArray<number>): ReadonlyArray<number> =>
  values.map((value, index) => value / (base[index] ?? Number.NaN))
