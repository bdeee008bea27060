/**
 * `holdfast config`: what is in force, and where it comes from. Asks no server.
 *
 * What may be a secret is not shown; of a URL everything but its password is.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Settings from "../server/Settings.ts"
import * as SettingsReading from "../server/SettingsReading.ts"
import * as Output from "./Output.ts"

const hidden = "(hidden)"

/** What a URL leads to. Parameters may hold passwords, too. */
const shownUrl = (text: string): string => {
  const url = URL.parse(text)
  if (url === null || url.host === "") return hidden
  const user = url.username === "" ? "" : `${url.username}${url.password === "" ? "" : `:${hidden}`}@`
  return `${url.protocol}//${user}${url.host}${url.pathname}${url.search === "" ? "" : "?…"}`
}

const shown = (value: unknown): Output.Cell => {
  if (Option.isOption(value)) return Option.isSome(value) ? shown(value.value) : null
  if (Redacted.isRedacted(value)) return Redacted.value(value) === "" ? "" : shownUrl(String(Redacted.value(value)))
  if (Duration.isDuration(value)) return Duration.format(value)
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean" ? value : String(value)
}

/** Says every variable, its value, and whether that is the operator's or the default. */
export const config = (json: boolean) =>
  Effect.gen(function* () {
    const readings = new Map<string, unknown>()
    yield* Effect.provideService(Settings.load, SettingsReading.Readings, readings)
    const rows = Array.from(readings, ([variable, value]) => ({
      variable,
      value: shown(value),
      from: SettingsReading.originOf(variable)
    }))
    yield* Output.rows(
      rows.toSorted((a, b) => (a.variable < b.variable ? -1 : 1)),
      { json, none: "" }
    )
  })
