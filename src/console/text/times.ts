/**
 * Times, spans and numbers, as people read them in the language of the page.
 */
import { language } from "./text.ts"

/** A moment as the API tells it. */
export type Moment = string | { readonly epochMilliseconds: number }

export const millisOf = (moment: Moment): number =>
  typeof moment === "string" ? Date.parse(moment) : moment.epochMilliseconds

const formats = new Map<string, Intl.DateTimeFormat>()
const format = (name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat => {
  const key = `${language.get()} ${name}`
  const known = formats.get(key)
  if (known !== undefined) return known
  const made = new Intl.DateTimeFormat(language.get(), options)
  formats.set(key, made)
  return made
}

/** The time of day, with the date where it is another day. */
export const moment = (at: Moment): string => {
  const millis = millisOf(at)
  const isToday = new Date(millis).toDateString() === new Date().toDateString()
  return isToday
    ? format("time", { timeStyle: "medium" }).format(millis)
    : format("both", { dateStyle: "medium", timeStyle: "short" }).format(millis)
}

/** A span of milliseconds, exact where it is short. */
export const span = (millis: number): string => {
  if (millis < 1000) return `${Math.max(0, Math.round(millis))} ms`
  const seconds = millis / 1000
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)]
  return h > 0 ? `${h} h ${String(m).padStart(2, "0")} min` : `${m} min ${String(s).padStart(2, "0")} s`
}

/** A countdown such as 29:59. */
export const countdown = (millis: number): string => {
  const all = Math.max(0, Math.floor(millis / 1000))
  const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60]
  const two = (value: number) => String(value).padStart(2, "0")
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`
}

export const count = (value: number): string => value.toLocaleString(language.get())

/** Bytes in the unit that they are read best in. */
export const bytes = (value: number): string => {
  const units = ["B", "kB", "MB", "GB"]
  let [left, unit] = [value, 0]
  for (; left >= 1000 && unit < units.length - 1; unit++) left /= 1000
  return `${left.toFixed(unit > 0 && left < 10 ? 1 : 0)} ${units[unit]}`
}
