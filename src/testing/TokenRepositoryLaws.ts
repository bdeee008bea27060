/**
 * The laws that every `TokenRepository` keeps, as a suite for a repository of your own.
 *
 * Each law is one test, and has a {@link World} of its own: its layer is built before the law, fresh, and closes after it.
 *
 * **When to use**
 *
 * In the test file of a repository: call {@link run} at the top level. The repositories that come along run the same suite.
 *
 * **Details**
 *
 * Install `@effect/vitest` and `vitest`, which run the tests. The laws run in real time, by the clock of the repository.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { TokenRepository } from "../token/TokenRepository.ts"
import * as Laws from "./internal/Laws.ts"
import * as All from "./internal/TokenRepositoryLawsAll.ts"

/** Where a law is tried. Empty at its beginning. */
export class World extends Context.Service<
  World,
  {
    readonly one: TokenRepository["Service"]
    /** A second instance over the same tokens. Where the repository is for one process alone: the first. */
    readonly other: TokenRepository["Service"]
  }
>()("holdfast/testing/TokenRepositoryLaws/World") {}

/** What the world of a repository can do. Nothing of it leaves a law out. */
export interface Capabilities {
  /** What the tests are called. */
  readonly name: string
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

/** The laws. */
export const laws: ReadonlyArray<Laws.Law<World["Service"], never>> = All.laws

const trials = <R>({ name }: Capabilities, options: Options<R>) => ({
  ...options,
  name,
  laws,
  time: "real" as const,
  has: () => true
})

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
