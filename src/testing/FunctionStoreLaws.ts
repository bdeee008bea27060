/**
 * The laws that every `FunctionStore` keeps, as a suite for a store of your own.
 *
 * Each law is one test, and has a {@link World} of its own: its layer is built before the law, fresh, and closes after it.
 *
 * **When to use**
 *
 * In the test file of a store: call {@link run} at the top level. The stores that come along run the same suite.
 *
 * **Details**
 *
 * Install `@effect/vitest` and `vitest`, which run the tests. A law that a declared capability leaves out is printed.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { FunctionStore } from "../function/FunctionStore.ts"
import * as All from "./internal/FunctionStoreLawsAll.ts"
import * as Laws from "./internal/Laws.ts"

/** Where a law is tried. Empty at its beginning. */
export class World extends Context.Service<
  World,
  {
    readonly store: FunctionStore["Service"]
    /** A second instance over the same functions. Where the store is for one process alone: the first. */
    readonly another: FunctionStore["Service"]
    /** Moves the store's clock on: nothing that is stored changes. With `TestClock` it is `TestClock.adjust`. */
    readonly advance: (by: Duration.Input) => Effect.Effect<void, unknown>
  }
>()("holdfast/testing/FunctionStoreLaws/World") {}

/** What the world of a store can do. */
export interface Capabilities {
  /** What the tests are called. */
  readonly name: string
  /**
   * Whose time the store takes. `test`: that of Effect's `Clock`, so the laws run in `it.effect`. `server`: that of a server,
   * so they run in `it.live`.
   */
  readonly clock: "test" | "server"
  /** Whether `advance` can move that clock. Default: true. If not, laws are left out. */
  readonly moves?: boolean | undefined
}

/** How to try the laws. */
export interface Options<R = never> {
  /** Only the laws of these names. Default: all. A name that does not exist is an error. */
  readonly only?: ReadonlyArray<string> | undefined
  /** How long one law may take. Default for `run`: what vitest is configured to. For `check`: 20 seconds. */
  readonly limit?: Duration.Input | undefined
  /**
   * Declares one test. Where the world needs services: `it.effect` of a `layer(…, { excludeTestServices: true })` of `@effect/vitest` that
   * provides them. Default: `it.live`, or `it.effect` where the clock is `test`.
   */
  readonly test?: Laws.Declare<R> | undefined
}

/** The laws. */
export const laws: ReadonlyArray<Laws.Law<World["Service"], "clock">> = All.laws

const trials = <R>({ clock, moves = true, name }: Capabilities, options: Options<R>) => ({
  ...options,
  name,
  laws,
  time: clock === "test" ? ("test" as const) : ("real" as const),
  has: () => moves
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
