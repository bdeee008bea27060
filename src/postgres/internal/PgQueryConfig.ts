/**
 * How a `PgQueryJournal` is configured, and what its connections have in common.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Timers from "../../lifetime/internal/Timers.ts"
import { connectionOf } from "./PgSessionConfig.ts"
import * as PgTarget from "./PgTarget.ts"

/** What decides how a connection is made. */
interface Options {
  readonly url: Redacted.Redacted<string>
  readonly schema?: string | undefined
  readonly operationTimeout?: Duration.Input | undefined
  readonly applicationName?: string | undefined
}

/** How long an operation may take. */
export const limitOf = ({ operationTimeout }: Options) =>
  Timers.clamp(Duration.fromInputUnsafe(operationTimeout ?? "3 seconds"))

/** The schema, which goes into statements as it is. */
export const schemaOf = (options: Pick<Options, "schema" | "url">): Effect.Effect<string> => {
  const schema = options.schema ?? "holdfast"
  const problem = PgTarget.problemOf(options.url)
  if (problem !== undefined) return Effect.die(new TypeError(`The URL of the queries' journal ${problem}`))
  return /^[a-z_][a-z0-9_]{0,50}$/.test(schema)
    ? Effect.succeed(schema)
    : Effect.die(new TypeError("The schema of the queries must be lower-case letters, digits and underscores"))
}

/** What every connection of the journal is opened with. */
export const config = (options: Options, limit: Duration.Duration, connect = limit) => ({
  ...connectionOf(
    { ...options, applicationName: options.applicationName ?? "holdfast-queries-journal" },
    limit,
    connect
  ),
  url: options.url
})
