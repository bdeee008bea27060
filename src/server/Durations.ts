/**
 * Lengths of time as people write them: `30 minutes` as Effect does, `30m` and `1h30m` as Go, Prometheus and systemd do, and `PT30M`
 * as ISO 8601 does. A number without a unit is none: nobody knows whether it means seconds.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** Milliseconds of each unit. */
const units: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  sec: 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000
}

const part = /(\d+(?:\.\d+)?)\s*(ms|sec|s|min|m|h|d|w)/g
const parts = new RegExp(`^(?:${part.source}\\s*)+$`)
const iso = /^P(?=.)(?:(\d+)W)?(?:(\d+)D)?(?:T(?=.)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$/

const sum = (amounts: ReadonlyArray<readonly [amount: string | undefined, unit: string]>) =>
  Duration.millis(amounts.reduce((all, [amount = "0", unit]) => all + Number(amount) * (units[unit] ?? Number.NaN), 0))

/** Reads a length of time. */
export const parse = (text: string): Option.Option<Duration.Duration> => {
  const trimmed = text.trim()
  if (parts.test(trimmed))
    return Option.some(sum(Array.from(trimmed.matchAll(part), ([, amount, unit = ""]) => [amount, unit])))
  const found = iso.exec(trimmed)
  if (found !== null) {
    const [, w, d, h, m, s] = found
    return Option.some(
      sum([
        [w, "w"],
        [d, "d"],
        [h, "h"],
        [m, "m"],
        [s, "s"]
      ])
    )
  }
  return Duration.fromInput(trimmed as Duration.Input)
}
