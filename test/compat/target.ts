/**
 * What is tried: a server in one version or way to reach it, started for the current scope.
 */
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { LeftOut, Options } from "./suites.ts"

/** A running server, and what is run against it. */
export interface Running {
  /** As the server says it. */
  readonly version: string
  readonly suites: Omit<Options, "leftOut">
  /** Tests that do not apply, and why. */
  readonly leftOut: ReadonlyArray<LeftOut>
  /** A database for the law of values; none where that is another server's law. */
  readonly values?: Redacted.Redacted<string> | undefined
  /** Where the service has its data. */
  readonly service: Readonly<Record<string, string>>
  /** What the service says of a server that it refuses. Default: it takes the server, and the walk succeeds. */
  readonly refusal?: string | undefined
  /** A superuser of PostgreSQL, from beside. */
  readonly witness: Redacted.Redacted<string>
  /** What must be true after everything was run; an error otherwise. */
  readonly after?: Effect.Effect<string, Error> | undefined
}

export interface Target {
  readonly name: string
  readonly start: Effect.Effect<Running, unknown, Scope.Scope>
}
