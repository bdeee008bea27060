/**
 * The laws that every `QueryDriver` keeps, as a suite for a driver of your own.
 *
 * Each law is one test, and has a {@link World} of its own: its layer is built before the law, fresh, and closes after it.
 *
 * **When to use**
 *
 * In the test file of a driver: call {@link run} at the top level, with the engine's SQL as a {@link Dialect}. The drivers that
 * come along run the same suite.
 *
 * **Details**
 *
 * Install `@effect/vitest` and `vitest`, which run the tests. A law that a declared capability leaves out is printed. The
 * laws run in real time. `HOLDFAST_TEST_SCALE` (a whole number, default 1) makes the races longer.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { QueryCapabilities } from "../query/QueryCapabilities.ts"
import type { QueryDriver } from "../query/QueryDriver.ts"
import * as Laws from "./internal/Laws.ts"
import * as Ends from "./internal/QueryDriverLawsEnds.ts"
import * as Rows from "./internal/QueryDriverLawsRows.ts"
import type * as Trial from "./internal/QueryDriverTrial.ts"

/** Where a law is tried. Its server has no table `written` at the beginning. */
export class World extends Context.Service<
  World,
  {
    readonly driver: QueryDriver["Service"]
    /**
     * How many statements of this world the server has not finished. Ask the server, not the driver. Some servers, such as MariaDB, list
     * a statement for a moment after its answer: count those that are there at a second look, too.
     */
    readonly running: Effect.Effect<number, unknown>
  }
>()("holdfast/testing/QueryDriverLaws/World") {}

/** How the engine's SQL says what the laws run. */
export type Dialect = Trial.Dialect

/** What the world of a driver can do. */
export interface Capabilities {
  /** What the tests are called. */
  readonly name: string
  /** What the engine declares. `cancel: "none"`, `streams: false` and the like leave laws out. */
  readonly engine: QueryCapabilities
  readonly dialect: Dialect
}

/** How to try the laws. */
export interface Options<R = never> {
  /** Only the laws of these names. Default: all. A name that does not exist is an error. */
  readonly only?: ReadonlyArray<string> | undefined
  /** How long one law may take. Default for `run`: what vitest is configured to. For `check`: 20 seconds. */
  readonly limit?: Duration.Input | undefined
  /**
   * Declares one test. Where the world needs services: `it.effect` of a `layer(…, { excludeTestServices: true })` of `@effect/vitest` that
   * provides them. Default: `it.live`.
   */
  readonly test?: Laws.Declare<R> | undefined
}

/** The laws in a dialect. */
export const laws = (dialect: Dialect): ReadonlyArray<Laws.Law<World["Service"], Trial.Need>> => [
  ...Rows.laws(dialect),
  ...Ends.laws(dialect)
]

const trials = <R>({ dialect, engine, name }: Capabilities, options: Options<R>) => {
  const has: Readonly<Record<Trial.Need, boolean>> = {
    cancels: engine.cancel !== "none",
    deadlines: engine.deadline && dialect.late !== undefined,
    columnTypes: engine.columnTypes,
    notices: engine.notices,
    rowsWhileRunning: dialect.trickle !== undefined,
    settings: engine.settings,
    streams: engine.streams
  }
  return {
    ...options,
    name: `QueryDriverLaws: ${name}`,
    laws: laws(dialect),
    time: "real" as const,
    has: (need: Trial.Need) => has[need]
  }
}

/** Declares a test for each law. */
export const run = <E, R = never>(
  layer: Layer.Layer<World, E, R>,
  capabilities: Capabilities,
  ...[options = {}]: Laws.Rest<R, Options<R>>
): void => Laws.run(World, layer, trials(capabilities, options))

/** Tries the laws one after the other without a test runner, and tells the broken ones with what the trial said. */
export const check = <E>(
  layer: Layer.Layer<World, E>,
  capabilities: Capabilities,
  options: Options = {}
): Effect.Effect<ReadonlyArray<Laws.Broken>> => Laws.check(World, layer, trials(capabilities, options))
