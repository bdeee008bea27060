/**
 * Secrets that are in files, as Docker, Kubernetes and systemd hand them over: `…_FILE` names the file of the variable `…`.
 *
 * They are read once, at the start. A line end at the end of a file is not part of the secret.
 */
import * as Effect from "effect/Effect"
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

/** The environment with what is in the files that it names. */
export const resolve = Effect.fnUntraced(function* (environment: Environment) {
  const all: Record<string, string | undefined> = { ...environment }
  const engines = Object.keys(environment).flatMap((name) => ofEngine.exec(name)?.[1] ?? [])
  for (const variable of [...variables, ...engines]) {
    const file = `${variable}_FILE`
    const path = environment[file]
    if (path === undefined) continue
    if (environment[variable] !== undefined) return yield* refuse(file, `must not be set beside ${variable}`)
    const text = textOf(path)
    if (text === undefined) return yield* refuse(file, "must name a file that Holdfast can read")
    all[variable] = text
    delete all[file]
  }
  return all
})
