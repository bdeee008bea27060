/**
 * How single variables of the environment are read, and what is said of one that makes no sense.
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Durations from "./Durations.ts"
import * as PgTarget from "../postgres/internal/PgTarget.ts"

/** What to change, in one line. */
export class SettingsError extends Schema.TaggedError<SettingsError>("holdfast/server/SettingsError")("SettingsError", {
  variable: Schema.String,
  problem: Schema.String
}) {
  override get message(): string {
    return `${this.variable} ${this.problem}`
  }
}

/** Fails with what to change. */
export const refuse = (variable: string, problem: string) => Effect.fail(new SettingsError({ variable, problem }))

/** Takes note of what was read, for who wants to see it. Default: nobody. */
export const Readings = Context.Reference<Map<string, unknown> | undefined>(
  "holdfast/server/SettingsReading/Readings",
  {
    defaultValue: () => undefined
  }
)

/** Where a value comes from. */
export const originOf = (variable: string): "environment" | "file" | "default" => {
  if (process.env[variable] !== undefined) return "environment"
  return process.env[`${variable}_FILE`] === undefined ? "default" : "file"
}

/** Reads one variable; `expects` is the whole explanation, because the value may be a secret. */
export const read = <A>(variable: string, config: (name: string) => Config.Config<A>, expects: string) =>
  Effect.gen(function* () {
    const value = yield* Effect.mapError(
      config(variable),
      () => new SettingsError({ variable, problem: `must be ${expects}` })
    )
    ;(yield* Readings)?.set(variable, value)
    return value
  })

/** A positive, finite duration. */
export const duration = (variable: string, fallback: Duration.Input) =>
  Effect.gen(function* () {
    const text = yield* read(variable, (name) => Config.option(Config.String(name)), 'a duration such as "30 minutes"')
    const given = Option.isNone(text) ? Option.some(Duration.fromInputUnsafe(fallback)) : Durations.parse(text.value)
    if (Option.isNone(given)) return yield* refuse(variable, 'must be a duration such as "30 minutes" or 30m')
    if (!Duration.isFinite(given.value) || Duration.toMillis(given.value) <= 0) {
      return yield* refuse(variable, 'must be a positive, finite duration such as "30 minutes" or 30m')
    }
    ;(yield* Readings)?.set(variable, given.value)
    return given.value
  })

/** A whole number within bounds. */
export const integer = (variable: string, fallback: number, minimum: number, maximum: number) =>
  read(
    variable,
    (name) => Config.withDefault(Config.Int(name), fallback),
    `a whole number from ${minimum} to ${maximum}`
  ).pipe(
    Effect.filterOrElse(
      (value) => value >= minimum && value <= maximum,
      () => refuse(variable, `must be a whole number from ${minimum} to ${maximum}`)
    )
  )

/** The first one is the usual one. */
export const oneOf = <const A extends string>(variable: string, values: readonly [A, A]) =>
  read(variable, (name) => Config.withDefault(Config.Literals(values, name), values[0]), values.toSorted().join(" or "))

/** A URL of PostgreSQL. */
export const databaseUrl = (variable: string) =>
  Effect.flatMap(
    read(variable, (name) => Config.option(Config.Redacted(name)), "a database URL"),
    (value) => {
      const problem = Option.isNone(value) ? undefined : PgTarget.problemOf(value.value)
      return problem === undefined ? Effect.succeed(value) : refuse(variable, problem)
    }
  )
