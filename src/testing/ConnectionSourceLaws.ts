/**
 * The laws that every `ConnectionSource` keeps, as a suite for a source of your own.
 *
 * Each law is one test, and has a {@link World} of its own: its layer is built before the law, fresh, and closes after it.
 *
 * **When to use**
 *
 * In the test file of a source: call {@link run} at the top level, with the server's SQL as a {@link Dialect}. The sources that
 * come along run the same suite.
 *
 * **Details**
 *
 * Install `@effect/vitest` and `vitest`, which run the tests. A law that a declared capability leaves out is printed. The
 * laws run in real time.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { ConnectionSource } from "../connection/ConnectionSource.ts"
import * as All from "./internal/ConnectionSourceLawsAll.ts"
import * as Laws from "./internal/Laws.ts"

/** Where a law is tried. */
export class World extends Context.Service<
  World,
  {
    readonly source: ConnectionSource["Service"]
    /** The ids of the connections that the server has from this source. Ask the server over a way of its own. */
    readonly connections: Effect.Effect<ReadonlyArray<string>, unknown>
    /** Has the server end a connection. None: leaves a law out. */
    readonly kill?: ((id: string) => Effect.Effect<void, unknown>) | undefined
    /** The source with the address of a server that is not there, and with `secret` as its password. None: leaves a law out. */
    readonly unreachable?: ConnectionSource["Service"] | undefined
  }
>()("holdfast/testing/ConnectionSourceLaws/World") {}

/** How the server's SQL says what the laws run. */
export type Dialect = All.Dialect

/** What the world of a source can do. */
export interface Capabilities {
  /** What the tests are called. */
  readonly name: string
  readonly dialect: Dialect
  /** Whether the world has `kill`. Default: true. */
  readonly kills?: boolean | undefined
  /** Whether the world has `unreachable`. Default: true. */
  readonly unreachable?: boolean | undefined
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
export const laws: (dialect: Dialect) => ReadonlyArray<Laws.Law<World["Service"], All.Need>> = All.laws

const trials = <R>({ dialect, kills = true, name, unreachable = true }: Capabilities, options: Options<R>) => {
  const has: Readonly<Record<All.Need, boolean>> = {
    ids: dialect.id !== undefined,
    kill: kills,
    sleep: dialect.sleep !== undefined,
    unreachable
  }
  return {
    ...options,
    name: `ConnectionSourceLaws: ${name}`,
    laws: laws(dialect),
    time: "real" as const,
    has: (need: All.Need) => has[need]
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
