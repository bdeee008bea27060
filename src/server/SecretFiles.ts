/**
 * Secrets that are in files, as Docker, Kubernetes and systemd hand them over: `…_FILE` names the file of the variable `…`.
 *
 * They are read once, at the start. A line end at the end of a file is not part of the secret.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { readFileSync } from "node:fs"
import { refuse } from "./SettingsReading.ts"

/** Those that hold a secret, or may. */
export const variables = [
  "DATABASE_URL",
  "HOLDFAST_DEMO_PASSWORD",
  "HOLDFAST_ENGINES",
  "HOLDFAST_QUERY_PASSWORD",
  "HOLDFAST_QUERY_URL",
  "HOLDFAST_SNOWFLAKE_TOKEN",
  "REDIS_URL"
] as const

/** Of an engine that has a name. */
export const ofEngine = /^(HOLDFAST_ENGINE_[A-Z0-9_]+_PASSWORD)_FILE$/

export type Environment = Readonly<Record<string, string | undefined>>

const textOf = (path: string): string | undefined => {
  try {
    return readFileSync(path, "utf8").replace(/\r?\n$/, "")
  } catch {
    return undefined
  }
}

/** What a variable holds, or the file that stands for it. Undefined where neither is set. */
export const valueOf = Effect.fnUntraced(function* (environment: Environment, variable: string) {
  const file = `${variable}_FILE`
  const path = environment[file]
  if (path === undefined) return environment[variable]
  if (environment[variable] !== undefined) return yield* refuse(file, `must not be set beside ${variable}`)
  return textOf(path) ?? (yield* refuse(file, "must name a file that Holdfast can read"))
})

/** The environment with what is in the files that it names. */
export const resolve = Effect.fnUntraced(function* (environment: Environment) {
  const all: Record<string, string | undefined> = { ...environment }
  const engines = Object.keys(environment).flatMap((name) => ofEngine.exec(name)?.[1] ?? [])
  for (const variable of [...variables, ...engines]) {
    const file = `${variable}_FILE`
    if (environment[file] === undefined) continue
    all[variable] = yield* valueOf(environment, variable)
    delete all[file]
  }
  return all
})

/** What a command was given for a password. The service itself has none, and reads no such file. */
export const password = Effect.suspend(() => valueOf(process.env, "HOLDFAST_PASSWORD")).pipe(
  Effect.map((text) => (text === undefined ? Option.none() : Option.some(Redacted.make(text))))
)
